# What must be true before a run goes on, asked on a control plane. Takes the functions of the distribution; defines:
# adopt, nodes_ready, system_ready, address_answers, drain_all.

# Waits until a node has registered, and tells the API which range of pods it has where bramble chose it: a kubelet that
# knows its range reports at once, not after ten seconds.
adopt() { # node range seconds
    n=0
    until r=$(kubectl_admin get node "$1" -o 'jsonpath={.spec.podCIDR}' 2>/dev/null); do
        [ "$n" -lt "$((2 * $3))" ] || { echo "the node $1 does not appear" >&2; return 1; }
        sleep 0.5
        n=$((n + 1))
    done
    if [ -n "$2" ] && [ -z "$r" ]; then
        kubectl_admin patch node "$1" --type merge -p "{\"spec\":{\"podCIDR\":\"$2\",\"podCIDRs\":[\"$2\"]}}" >/dev/null
    fi
}

nodes_ready() { # nodes…
    kubectl_admin wait --for=condition=Ready --timeout=180s node "$@"
    echo '@fact gate nodes-ready'
}

# Waits for the pods of the system. Those whose work is over are never ready. An API that does not answer for a moment is
# asked again.
system_ready() {
    n=0 w=
    while :; do
        if kubectl_admin -n kube-system get pods \
            -o 'jsonpath={range .items[*]}{.metadata.name} {.status.phase} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' >/run/bramble/pods; then
            w=$(awk 'NF && $2 != "Succeeded" && $2 != "Failed" && $3 != "True"' /run/bramble/pods)
            [ -n "$w" ] || break
        fi
        if [ "$n" -ge 180 ]; then
            {
                echo 'pods of the system do not become ready:'
                kubectl_admin -n kube-system get pods -o wide
                w=$(echo "$w" | cut -d' ' -f1)
                # shellcheck disable=SC2086 # They are names.
                pods_warnings kube-system $w
            } >&2
            return 1
        fi
        sleep 1
        n=$((n + 1))
    done
    rm -f /run/bramble/pods
    echo '@fact gate system-ready'
}

# The address that moves between control planes is where people and nodes ask; that each answers at its own says nothing of it.
address_answers() { # address port
    n=0
    until address_has_api "$1" "$2"; do
        if [ "$n" -ge 30 ]; then
            echo "the API answers on its control planes, and not at $1, the address that moves between them: none holds it, or another machine has it" >&2
            return 1
        fi
        sleep 2
        n=$((n + 1))
    done
}

# Takes the pods off the nodes before the cluster goes.
drain_all() { # nodes…
    for d in "$@"; do
        best_effort kubectl_admin drain "$d" --ignore-daemonsets --delete-emptydir-data --force --disable-eviction --timeout=60s
    done
}
