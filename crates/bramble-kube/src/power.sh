# Nodes without power. Takes the functions of the distribution; defines: print_running, out_of_service, in_service.

# What there is and how much of it is ready, a line each.
print_running() {
    kubectl_admin get nodes \
        -o 'jsonpath={range .items[*]}node {.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}'
    kubectl_admin get deployments,statefulsets,daemonsets -A \
        -o 'jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name} {.status.readyReplicas}{.status.numberReady}{"\n"}{end}'
}

# Volumes and pods of a node that is off for certain go elsewhere at once (kubernetes.io, "Non-graceful node shutdown").
out_of_service() { # node
    l=$(kubectl_admin -n kube-node-lease get lease "$1" --ignore-not-found -o 'jsonpath={.spec.renewTime}')
    t=0
    [ -z "$l" ] || t=$(date -d "$l" +%s)
    now=$(date +%s)
    [ "$((now - t))" -gt 20 ] || { echo "$1 has reported itself within the last 20 s: it runs" >&2; return 1; }
    kubectl_admin annotate node "$1" bramble/out=yes --overwrite >/dev/null
    kubectl_admin taint node "$1" node.kubernetes.io/out-of-service=nodeshutdown:NoExecute --overwrite >/dev/null
}

# Those that have come back take pods again.
in_service() {
    kubectl_admin get nodes \
        -o 'jsonpath={range .items[*]}{.metadata.name} {.metadata.annotations.bramble/out} {.status.conditions[?(@.type=="Ready")].status} {.spec.taints[*].key}{"\n"}{end}' >/run/bramble/out
    while read -r name out ready taints; do
        [ "$out $ready" = 'yes True' ] || continue
        # Somebody may have taken it away.
        case $taints in *out-of-service*) kubectl_admin taint node "$name" node.kubernetes.io/out-of-service:NoExecute- </dev/null >/dev/null ;; esac
        kubectl_admin annotate node "$name" bramble/out- </dev/null >/dev/null
    done </run/bramble/out
    rm -f /run/bramble/out
}
