# How the cluster is at this moment, without waiting for anything. Takes the functions of the distribution; defines
# tell_health.

# Tells `@fact answers yes|no`, and of what is not as it should be `@fact unready …` each.
tell_health() { # nodes…
    mkdir -p /run/bramble
    # No kubectl and no kubeconfig are no answer either.
    # shellcheck disable=SC2310
    if ! kubectl_admin get --raw /readyz --request-timeout=5s >/dev/null 2>&1; then
        echo '@fact answers no'
        return 0
    fi
    kubectl_admin get nodes --request-timeout=10s \
        -o 'jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status} {.metadata.annotations.bramble/cordoned}{"\n"}{end}' >/run/bramble/health
    kubectl_admin -n kube-system get pods --request-timeout=10s \
        -o 'jsonpath={range .items[*]}{.metadata.name} {.status.phase} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' >/run/bramble/health.pods
    for name in "$@"; do
        awk -v n="$name" '$1 == n { f = 1; 
                if ($2 != "True") print "@fact unready the node " n " is not Ready"
                if ($3 == "yes") print "@fact unready the node " n " was left cordoned" }
            END { if (!f) print "@fact unready the node " n " is not there" }' /run/bramble/health
    done
    awk 'NF && $2 != "Succeeded" && $2 != "Failed" && $3 != "True" { print "@fact unready the pod " $1 " is not ready" }' /run/bramble/health.pods
    rm -f /run/bramble/health /run/bramble/health.pods
    echo '@fact answers yes'
}
