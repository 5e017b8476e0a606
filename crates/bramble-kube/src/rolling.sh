# Nodes that stop their pods, one turn after the other. Takes the functions of the distribution; defines: drain_node,
# uncordon, node_returns.

# Evictions honour disruption budgets; a node that the user cordoned stays cordoned later.
drain_node() { # node seconds
    u=$(kubectl_admin get node "$1" -o 'jsonpath={.spec.unschedulable}')
    if [ "$u" != true ]; then
        kubectl_admin annotate node "$1" bramble/cordoned=yes --overwrite >/dev/null
        kubectl_admin cordon "$1" >/dev/null
    fi
    kubectl_admin drain "$1" --ignore-daemonsets --delete-emptydir-data --timeout="$2s" >/run/bramble/drain 2>&1 && return 0
    {
        echo "the pods of $1 cannot be moved within $2 s:"
        awk '/^error/ { sub(/^error: /, ""); sub(/ \(will retry after [0-9a-z]*\)/, ""); if (!/^unable to drain/ && !seen[$0]++) print }' /run/bramble/drain
    } >&2
    uncordon "$1"
    return 1
}

uncordon() { # node
    a=$(kubectl_admin get node "$1" -o 'jsonpath={.metadata.annotations.bramble/cordoned}')
    if [ "$a" = yes ]; then
        kubectl_admin uncordon "$1" >/dev/null
        kubectl_admin annotate node "$1" bramble/cordoned- >/dev/null
    fi
}

# While its kubelet or the API start again there is no answer.
node_says() { kubectl_admin get node "$1" -o 'jsonpath={.status.nodeInfo.kubeletVersion} {.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null || :; }
node_lease() { kubectl_admin -n kube-node-lease get lease "$1" -o 'jsonpath={.spec.renewTime}' 2>/dev/null || :; }

# A node that was away is called Ready until it is missed: what counts is a sign of life from now.
node_returns() { # node version
    before=$(node_lease "$1")
    n=0
    while :; do
        now=$(node_lease "$1")
        says=$(node_says "$1")
        if [ "$now" != "$before" ] && [ "$says" = "v$2 True" ]; then return 0; fi
        [ "$n" -lt 300 ] || { echo "$1 does not come back as a node that is Ready with v$2; it says: $says" >&2; return 1; }
        sleep 1
        n=$((n + 1))
    done
}

# Uncordons the nodes that a run which was cut off left cordoned.
uncordon_left() {
    kubectl_admin get nodes \
        -o 'jsonpath={range .items[*]}{.metadata.name} {.metadata.annotations.bramble/cordoned}{"\n"}{end}' >/run/bramble/cordoned
    while read -r name left; do
        [ "$left" != yes ] || uncordon "$name" </dev/null
    done </run/bramble/cordoned
    rm -f /run/bramble/cordoned
}
