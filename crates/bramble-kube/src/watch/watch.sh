# How a board is at this moment, in lines of a word and numbers. Takes the functions of why.sh; of a distribution, for a control
# plane that speaks for the cluster, kubectl_admin. Defines: sample, sample_api, who_works.

sample() {
    awk '$1 == "cpu" { for (i = 2; i <= 9; i++) t += $i; print "cpu", t, $5 + $6; exit }' /proc/stat
    sed 's/^/load /' /proc/loadavg
    sed -n 's/^\(MemTotal\|MemAvailable\): *\([0-9]*\).*/memory \1 \2/p' /proc/meminfo
    sed 's/^/uptime /' /proc/uptime
    tell disk df -P -k /
    tell temperature temperatures
    tell throttled firmware
    tell works who_works
    etcd_metrics 1 |
        awk '$1 ~ /^etcd_server_(has_leader|is_leader)$/ || $1 ~ /^etcd_disk_wal_fsync_duration_seconds_(sum|count)$/ { print "etcd", $1, $2 }'
}

# The lock of a run that changes the board is held while it does.
who_works() {
    [ -e /run/bramble/lock ] || return 0
    if ! flock -n /run/bramble/lock true; then cut -d ' ' -f 2- "$B/run"; fi
}

sample_api() {
    mkdir -p /run/bramble
    kubectl_admin get nodes --request-timeout=5s -o 'jsonpath={range .items[*]}node {.metadata.name} {.spec.unschedulable} {range .status.conditions[?(@.status=="True")]}{.type},{end}{"\n"}{end}'
    kubectl_admin get pods -A --request-timeout=5s -o 'jsonpath={range .items[*]}pod {.spec.nodeName} {.status.phase} {.metadata.namespace}/{.metadata.name} {.status.containerStatuses[*].ready}{"\n"}{end}'
    kubectl_admin get events -A --request-timeout=5s --sort-by=.lastTimestamp -o 'jsonpath={range .items[*]}event {.lastTimestamp} {.type} {.involvedObject.kind} {.involvedObject.namespace}/{.involvedObject.name} {.reason} {.message}{"\n"}{end}' >/run/bramble/watched
    tail -n 30 /run/bramble/watched
    rm -f /run/bramble/watched
}
