# How the cluster is at this moment, without waiting for anything. Takes the functions of the distribution and tell_records;
# defines tell_health, and tell_objects, which it calls.

# Tells what there is of add-ons: `@fact object GROUP/KIND/NAMESPACE/NAME` each, and `@fact objects all` behind the last.
tell_objects() { # kinds, with their versions and groups, and commas between them
    k=$1
    while [ -n "$k" ]; do
        if kubectl_admin get "$k" -A -l bramble/addon --ignore-not-found --request-timeout=20s -o \
            'jsonpath={range .items[*]}{.apiVersion}{"\t"}{.kind}{"\t"}{.metadata.namespace}{"\t"}{.metadata.name}{"\n"}{end}' \
            >/run/bramble/objects 2>/run/bramble/objects.said; then
            awk -F'\t' 'NF == 4 { g = ""; if (split($1, v, "/") == 2) g = v[1]
                print "@fact object " g "/" $2 "/" ($3 == "" ? "default" : $3) "/" $4 }' /run/bramble/objects
            break
        fi
        # A kind that nobody knows any more has no objects either.
        x=$(sed -n 's/.*have a resource type "\([^"]*\)".*/\1/p' /run/bramble/objects.said)
        r=$(echo "$k" | tr , '\n' | awk -F. -v x="$x" '$1 != x' | tr '\n' ,)
        r=${r%,}
        if [ -z "$x" ] || [ "$r" = "$k" ]; then
            cat /run/bramble/objects.said >&2
            return 1
        fi
        k=$r
    done
    rm -f /run/bramble/objects /run/bramble/objects.said
    echo '@fact objects all'
}

# Tells `@fact answers yes|no`, the records of nodes, and of what is not as it should be `@fact unready …` each.
tell_health() { # kinds nodes…
    mkdir -p /run/bramble
    # No kubectl and no kubeconfig are no answer either.
    # shellcheck disable=SC2310
    if ! kubectl_admin get --raw /readyz --request-timeout=5s >/dev/null 2>&1; then
        echo '@fact answers no'
        return 0
    fi
    tell_records >/run/bramble/health
    awk '$1 == "@fact"' /run/bramble/health
    kubectl_admin -n kube-system get pods --request-timeout=10s \
        -o 'jsonpath={range .items[*]}{.metadata.name} {.status.phase} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' >/run/bramble/health.pods
    kinds=$1
    shift
    for name in "$@"; do
        awk -v n="$name" '$1 == n { f = 1; 
                if ($2 != "True") print "@fact unready the node " n " is not Ready"
                if ($3 == "out" || $4 == "out") print "@fact unready the node " n " is out of service"
                if ($3 == "yes") print "@fact unready the node " n " was left cordoned" }
            END { if (!f) print "@fact unready the node " n " is not there" }' /run/bramble/health
    done
    awk 'NF && $2 != "Succeeded" && $2 != "Failed" && $3 != "True" { print "@fact unready the pod " $1 " is not ready" }' /run/bramble/health.pods
    rm -f /run/bramble/health /run/bramble/health.pods
    [ -z "$kinds" ] || tell_objects "$kinds"
    echo '@fact answers yes'
}
