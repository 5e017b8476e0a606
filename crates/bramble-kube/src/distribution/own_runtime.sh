# For distributions that bring a container runtime of their own and are one service. Takes service; of the distribution
# runs, whether it does, and hopeless, a line of its journal after which it never will; and the functions of steps.sh.
# Defines: descendants, end_pods, remove_sockets, service_begins, service_until, service_runs.

# The processes with these numbers and all that they started. Some end while this reads.
descendants() { # pid…
    sed 's/(.*) //' /proc/[0-9]*/stat 2>/dev/null | awk -v roots="$*" '
        BEGIN { n = split(roots, r, " "); for (i = 1; i <= n; i++) want[r[i]] = 1 }
        { parent[$1] = $3 }
        END {
            do { more = 0; for (p in parent) if ((parent[p] in want) && !(p in want)) { want[p] = 1; more = 1 } } while (more)
            for (p in want) print p
        }'
}

# Ends the containers whose shims are below this folder: they outlive the service, and nothing starts them again.
end_pods() { # folder
    s=
    for p in /proc/[0-9]*; do
        # It may have ended meanwhile.
        c=$({ tr '\0' ' ' <"$p/cmdline"; } 2>/dev/null) || continue
        case $c in "$1"/*containerd-shim*) s="$s ${p#/proc/}" ;; esac
    done
    [ -n "$s" ] || return 0
    # shellcheck disable=SC2086 # They are numbers.
    s=$(descendants $s)
    # shellcheck disable=SC2086
    best_effort kill -9 $s
}

# Shims of containerd and its plugins have places of their own below /run, whoever's containerd it is: they go when nobody
# has any.
remove_sockets() {
    [ ! -e /run/containerd/containerd.sock ] || return 0
    for p in /proc/[0-9]*; do
        # It may have ended meanwhile.
        c=$({ tr '\0' ' ' <"$p/cmdline"; } 2>/dev/null) || continue
        case $c in *containerd-shim* | */containerd\ * | */dockerd\ * | */crio\ *) return 0 ;; esac
    done
    rm -rf --one-file-system /run/containerd /run/nri
}

# Starts the service or starts it again.
service_begins() { # start|restart
    systemctl daemon-reload
    # One that systemd has not loaded has no failures to forget.
    systemctl reset-failed "$service" 2>/dev/null || :
    restarts=$(systemctl show -p NRestarts --value "$service")
    since=$(date +%s)
    systemctl --no-block "$1" "$service"
}

# Waits until a service that begins is this far; one that ends again and again has failed.
service_until() { # question
    n=0
    until "$1"; do
        # Without a journal, how often it was started again tells.
        if [ -n "$hopeless" ] && journalctl -q --no-pager --since "@$since" -o cat -u "$service" | grep -q "$hopeless"; then
            unit_failed "$service"
            return 1
        fi
        s=$(systemctl show -p NRestarts --value "$service")
        if [ "$n" -ge 600 ] || [ "$((s - restarts))" -ge 5 ]; then
            unit_failed "$service"
            return 1
        fi
        sleep 1; n=$((n + 1))
    done
}

# Starts the service or starts it again, and waits until it runs.
service_runs() { # start|restart
    service_begins "$1"
    # What it was asked for it does not do at once.
    sleep 1
    service_until runs
}
