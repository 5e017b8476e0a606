# The state of a cluster. Takes B and the functions of the distribution; defines: print_state, print_objects.

print_state() {
    umask 077
    # One at a time: they share this folder, and etcd's.
    mkdir -p /run/bramble
    exec 9>/run/bramble/backup.lock
    flock -w 900 9
    d=$B/backup
    rm -rf "$d"
    mkdir -p "$d"
    trap 'rm -rf "$B/backup"' EXIT
    # Stopped, it ends as if by itself.
    trap 'exit 143' HUP INT TERM
    # Only the archive goes to standard output.
    exec 3>&2
    snapshot_state "$d" >&2
    tar -C "$d" -czf - .
}

print_objects() {
    kubectl_admin get namespaces,services,deployments,daemonsets,statefulsets,persistentvolumes,persistentvolumeclaims -A \
        -o 'jsonpath={range .items[*]}{.metadata.uid} {.kind} {.metadata.namespace}/{.metadata.name}{"\n"}{end}'
}
