# Nodes that stop their pods, one turn after the other. Takes the functions of the distribution; defines: controllers_work,
# drain_node, uncordon, node_says, node_lease, node_returns.

# That the controllers work is seen only by what they do. One that has just started waits for the lease of the one before it, and
# until then nobody takes a pod that ends out of its Service, or makes another one.
controllers_work() {
    cat >/run/bramble/probe.yaml <<'EOF'
apiVersion: apps/v1
kind: ReplicaSet
metadata: { generateName: bramble-probe-, namespace: kube-system }
spec:
  replicas: 0
  selector: { matchLabels: { bramble: probe } }
  template: { metadata: { labels: { bramble: probe } }, spec: { containers: [{ name: none, image: none }] } }
EOF
    r=$(kubectl_admin create -f /run/bramble/probe.yaml -o name)
    rm -f /run/bramble/probe.yaml
    n=0
    until o=$(kubectl_admin -n kube-system get "$r" -o 'jsonpath={.status.observedGeneration}' 2>&1) && [ "$o" = 1 ]; do
        if [ "$n" -ge 180 ]; then
            best_effort kubectl_admin -n kube-system delete "$r" --wait=false
            echo 'the controllers of the cluster do nothing: no kube-controller-manager leads' >&2
            return 1
        fi
        sleep 1; n=$((n + 1))
    done
    kubectl_admin -n kube-system delete "$r" --wait=false >/dev/null
}

# Evictions honour disruption budgets; a node that the user cordoned stays cordoned later. One that an earlier attempt has
# taken out of the cluster has no pods.
drain_node() { # node seconds
    u=$(kubectl_admin get node "$1" --ignore-not-found -o 'jsonpath={.metadata.name} {.spec.unschedulable}')
    [ -n "$u" ] || return 0
    if [ "${u#* }" != true ]; then
        kubectl_admin annotate node "$1" bramble/cordoned=yes --overwrite >/dev/null
        kubectl_admin cordon "$1" >/dev/null
    fi
    t=$(date +%s)
    kubectl_admin drain "$1" --ignore-daemonsets --delete-emptydir-data --timeout="$2s" >/run/bramble/drain 2>&1 && return 0
    {
        now=$(date +%s)
        echo "the pods of $1 cannot be moved; that was tried for $((now - t)) of $2 s:"
        # It may say all of it in one line that begins with what is known.
        awk '/^error/ {
            sub(/^error: /, ""); sub(/ \(will retry after [0-9a-z]*\)/, "")
            sub(/^unable to drain node "[^"]*"( due to error: )?/, ""); sub(/,? ?(continuing|aborting) command\.*$/, "")
            if ($0 != "" && !seen[$0]++) print
        }' /run/bramble/drain
        # Which budget it is, kubectl leaves out of what the API answers.
        kubectl_admin get poddisruptionbudgets -A -o 'jsonpath={range .items[?(@.status.disruptionsAllowed==0)]}the disruption budget {.metadata.name} of the namespace {.metadata.namespace} allows no pod to go: it wants {.status.desiredHealthy} that are healthy, and has {.status.currentHealthy}{"\n"}{end}' 2>&1 ||
            echo "the API does not say which disruption budgets there are"
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

node_says() { kubectl_admin get node "$1" -o 'jsonpath={.status.nodeInfo.kubeletVersion} {.status.conditions[?(@.type=="Ready")].status}' 2>&1; } # question
# Nothing if it never had one.
node_lease() { kubectl_admin -n kube-node-lease get lease "$1" --ignore-not-found -o 'jsonpath={.spec.renewTime}' 2>/dev/null; } # question

# A node that was away is called Ready until it is missed: what counts is a sign of life from now. While its kubelet or the
# API start again there is no answer.
node_returns() { # node [version]
    n=0
    until before=$(node_lease "$1"); do
        [ "$n" -lt 120 ] || { echo "the API does not say when $1 was last heard of" >&2; return 1; }
        sleep 1
        n=$((n + 1))
    done
    n=0 says=
    until now=$(node_lease "$1") && says=$(node_says "$1") && [ "$now" != "$before" ] && [ "$says" = "${2:+v}${2:-${says% *}} True" ]; do
        [ "$n" -lt 300 ] || { echo "$1 does not come back as a node that is Ready${2:+ with v$2}; it says: $says" >&2; return 1; }
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
