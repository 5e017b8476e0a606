# What can tell why a node is not well. Nothing here changes anything; what a node cannot tell is left out. Takes units, those
# that Kubernetes needs there; gateway, the address that the cluster file says, if it does. Defines: tell, kernel_says,
# unit_states, unit_says, disks, link_speeds, neighbours, way_out, lookup, firmware, temperatures, clock_state, etcd_metrics, etcd_says,
# tell_node, tell_pods.

# What a program prints, each line behind a word.
tell() { # word command…
    _word=$1
    shift
    _said=$("$@" 2>/dev/null </dev/null) || [ -n "$_said" ] || return 0
    [ -z "$_said" ] || printf '%s\n' "$_said" | sed "s/^/$_word /"
}

# Of the kernel's lines those that name a cause, without what they repeat.
kernel_says() {
    journalctl -q --no-pager -b -t kernel -o cat -n 20000 | sed 's/^\[ *[0-9.]*\] //' |
        grep -i 'out of memory: killed process\|memory cgroup out of memory\|under-\{0,1\}voltage detected\|i/o error\|ext4-fs error\|remounting filesystem read-only\|^mmc[0-9]*: .*\(error\|timeout\|timed out\|stuck\)\|nvme.*\(timeout\|abort\|reset\)\|medium error\|link is down\|hung task\|blocked for more than' |
        sort | uniq -c | sort -rn | head -n 40
}

unit_states() {
    # shellcheck disable=SC2086,SC2154 # They are names.
    systemctl show -p Id,LoadState,ActiveState,SubState,NRestarts,Result -- $units | awk -F= '
        $1 == "Id" { id = $2 } $1 == "LoadState" { l = $2 } $1 == "ActiveState" { a = $2 } $1 == "SubState" { s = $2 }
        $1 == "NRestarts" { n = $2 } $1 == "Result" { r = $2 }
        /^$/ { if (l != "not-found" && id != "") print id, a, s, n + 0, r; id = "" } END { if (l != "not-found" && id != "") print id, a, s, n + 0, r }'
}

# The last lines of the units that do not run, or start again and again.
unit_says() {
    unit_states | while read -r u a s n r; do
        if [ "$a $s" = 'active running' ] && [ "$n" -lt 3 ]; then continue; fi
        journalctl -q --no-pager -b -n 200 -o cat -u "$u" </dev/null |
            grep -i 'level=\(fatal\|error\)\|^[EF][0-9]\{4\} \|error\|failed\|fatal' | tail -n 3 | sed "s/^/$u /"
    done
}

# Used of each file system that counts, in percent, with its inodes.
disks() {
    for d in / /var /var/lib /boot/firmware /boot; do
        [ -d "$d" ] || continue
        b=$(df -P -k "$d" | awk 'NR == 2 { sub(/%/, "", $5); print $5, $4, $6 }')
        i=$(df -P -i "$d" | awk 'NR == 2 { sub(/%/, "", $5); print $5 + 0 }')
        echo "${b% *} $i ${b##* }"
    done | sort -u -k 4
}

link_speeds() {
    for d in /sys/class/net/*; do
        if [ ! -e "$d/device" ] && [ -e "$d/bridge" ]; then continue; fi
        case ${d##*/} in lo | veth* | cni* | cali* | flannel* | vxlan* | kube-* | docker* | br-*) continue ;; esac
        s=
        [ ! -r "$d/speed" ] || s=$(cat "$d/speed" 2>/dev/null || :)
        c=$(cat "$d/carrier" 2>/dev/null || :)
        echo "${d##*/} ${c:-0} ${s:-0}"
    done
}

# Who answers for which address, as this node has heard it last.
neighbours() { ip -4 neigh show | awk '{ m = "-"; for (i = 1; i < NF; i++) if ($i == "lladdr") m = $(i + 1); print $1, m, $NF }'; }

# The way out, and whether its next machine answers.
way_out() {
    r=$(ip -4 route show default | head -n 1)
    [ -n "$r" ] || { echo none; return 0; }
    g=$(echo "$r" | sed -n 's/.* via \([0-9.]*\).*/\1/p')
    [ -n "$g" ] || { echo "link -"; return 0; }
    # Asking for it makes the kernel look for it.
    (timeout 1 bash -c "echo >/dev/udp/$g/9" || timeout 2 ping -c 1 -W 1 "$g") >/dev/null 2>&1 || :
    sleep 0.3
    s=$(ip -4 neigh show "$g" | awk '{ print $NF }')
    echo "$g ${s:-unknown}"
}

# The name of the server that packages come from is one that every board needs.
lookup() {
    n=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        sed -n 's|^[^#]*https\{0,1\}://\([^/ :]*\).*|\1|p' | head -n 1)
    [ -n "$n" ] || return 0
    s=$(sed -n 's/^nameserver //p' /etc/resolv.conf | paste -sd, -)
    if timeout 6 getent ahosts "$n" >/dev/null; then echo "good $n ${s:--}"; else echo "bad $n ${s:--}"; fi
}

# Bits of the firmware of a Raspberry Pi: raspberrypi.com, "vcgencmd", get_throttled.
firmware() {
    if command -v vcgencmd >/dev/null; then vcgencmd get_throttled | sed 's/.*=//'
    else
        for f in /sys/devices/platform/soc/soc:firmware/get_throttled /sys/devices/platform/soc*/soc*:firmware/get_throttled; do
            [ -r "$f" ] || continue
            v=$(cat "$f")
            echo "0x$v"
            break
        done
    fi
}

temperatures() { cat /sys/class/thermal/thermal_zone*/temp; }

clock_state() { timedatectl show -p NTPSynchronized -p NTP; }

# What etcd of kubeadm says of itself, nothing where there is none.
etcd_metrics() { curl -s --max-time "$1" http://127.0.0.1:2381/metrics 2>/dev/null || :; } # seconds

# What etcd of this node says of itself: of kubeadm by its own page, of others in their logs of the last ten minutes.
etcd_says() {
    etcd_metrics 2 |
        awk '/^etcd_disk_wal_fsync_duration_seconds_(sum|count) / || /^etcd_server_has_leader / || /^etcd_server_leader_changes_seen_total / { print $1, $2 }'
    {
        # shellcheck disable=SC2086
        for u in $units; do journalctl -q --no-pager --since '10 min ago' -o cat -u "$u" </dev/null; done
        t=$(date -u -d '10 minutes ago' +%Y-%m-%dT%H:%M)
        for f in /var/log/pods/kube-system_etcd-*/etcd/*.log; do [ ! -e "$f" ] || tail -n 5000 "$f" | awk -v t="$t" '$1 >= t'; done
    } | awk '/slow fdatasync|took too long|overloaded/ { slow++ } /lost leader|no leader|election timeout/ { lost++ } END { print "slow_lines", slow + 0; print "leader_lines", lost + 0 }'
}

tell_node() {
    tell throttled firmware
    tell temperature temperatures
    tell kernel kernel_says
    tell memory sed -n 's/^\(MemTotal\|MemAvailable\): *\([0-9]*\).*/\1 \2/p' /proc/meminfo
    tell load cat /proc/loadavg
    tell uptime cat /proc/uptime
    tell clock clock_state
    tell disk disks
    tell link link_speeds
    tell neighbour neighbours
    tell gateway way_out
    tell name lookup
    # shellcheck disable=SC2154
    if [ -n "$units" ]; then
        tell unit unit_states
        tell said unit_says
        tell etcd etcd_says
    fi
}

# Pods that cannot run, wherever: their node, namespace and name, and what they wait for.
tell_pods() {
    kubectl_admin get pods -A --request-timeout=10s -o 'jsonpath={range .items[*]}{.spec.nodeName}{"\t"}{.metadata.namespace}/{.metadata.name}{"\t"}{.status.phase}{"\t"}{range .status.initContainerStatuses[*]}{.state.waiting.reason} {.state.waiting.message}{end}{range .status.containerStatuses[*]}{.state.waiting.reason} {.state.waiting.message}{end}{"\t"}{.status.conditions[?(@.type=="PodScheduled")].message}{"\n"}{end}' |
        awk -F '\t' '$4 ~ /[A-Za-z]/ || $3 == "Pending" { print "pod\t" $0 }' | head -n 200
}
