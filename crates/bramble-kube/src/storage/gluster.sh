# The GlusterFS pool, and a volume of it. Takes nothing; defines: g, q, gluster_pool, gluster_volume.

# Questions are answered by --mode=script.
g() { gluster --mode=script "$@" 2>&1 </dev/null; } # question

# Says only why something failed.
q() { o=$(g "$@") || { echo "gluster $*: $o"; return 1; }; }

gluster_pool() { # addresses…
    n=0
    until g pool list >/dev/null; do
        [ "$n" -lt 60 ] || { echo 'glusterd does not answer'; return 1; }
        sleep 1; n=$((n + 1))
    done
    own=$(ip -o -4 addr show)
    for a in "$@"; do
        case $own in *" $a/"*) continue ;; esac
        n=0
        until g peer status | awk -v a="$a" '$1 == "Hostname:" { h = $2 } $1 == "State:" && h == a && /Connected/ && /Cluster/ { f = 1 } $1 == a { h = a } END { exit !f }'; do
            [ "$n" -lt 60 ] || { echo "$a does not join the pool (was it flashed again? docs/storage.md says what to do):"; g peer status; return 1; }
            o=$(g peer probe "$a") || echo "$o" | grep -q 'already\|progress\|not connected\|Transport' || { echo "$o"; return 1; }
            sleep 1; n=$((n + 1))
        done
    done
}

gluster_volume() { # name folder allowed addresses…
    v=$1 f=$2 allow=$3
    shift 3
    if ! g volume info "$v" >/dev/null; then
        bricks=
        for a in "$@"; do bricks="$bricks $a:$f"; done
        how="replica $#"
        [ "$#" -gt 1 ] || how=
        # `force`: bricks may lie on the root file system where there is no other disk.
        # shellcheck disable=SC2086
        q volume create "$v" $how transport tcp $bricks force
    else
        has=$(g volume info "$v")
        has=$(echo "$has" | sed -n 's/^Brick[0-9]*: \([0-9.]*\):.*/\1/p')
        n=$(echo "$has" | wc -l)
        for a in "$@"; do
            echo "$has" | grep -qxF "$a" && continue
            n=$((n + 1))
            q volume add-brick "$v" replica "$n" "$a:$f" force
        done
        for a in $has; do
            case " $* " in *" $a "*) ;; *) echo "@fact note the volume $v has a brick at $a, which the cluster file does not name: 'gluster volume remove-brick' takes it out" ;; esac
        done
    fi
    # A node that is cut off is waited for a third as long as by default; writes want the majority of the bricks.
    q volume set "$v" network.ping-timeout 14
    q volume set "$v" auth.allow "$allow,127.0.0.1"
    if [ "$#" -gt 1 ]; then q volume set "$v" cluster.quorum-type auto; fi
    i=$(g volume info "$v")
    echo "$i" | grep -qx 'Status: Started' || q volume start "$v"
}
