# The smoke test: a pod on every node answers every other node's pod, and through a service. Takes the functions of the
# distribution, and /run/bramble/smoke.json, its objects; defines: smoke_kubectl, smoke_clean, smoke_fail, smoke_test.

smoke_kubectl() { kubectl_admin -n bramble-smoke "$@"; } # question

smoke_clean() { # whether to wait
    kubectl_admin delete namespace bramble-smoke --ignore-not-found --wait="$1" --timeout=60s >/dev/null && return
    {
        echo 'the namespace of the smoke test, bramble-smoke, does not go:'
        # Why it stays is said by the API alone.
        kubectl_admin get namespace bramble-smoke -o 'jsonpath={range .status.conditions[?(@.status=="True")]}{.message}{"\n"}{end}' || :
    } >&2
    return 1
}

# It says all it can. A cluster that fails the test may not answer these questions either.
smoke_fail() { # why
    {
        echo "$1"
        smoke_kubectl get pods -o wide || :
        smoke_kubectl describe pods | sed -n '/^Events:/,$p' | tail -n 15
    } >&2
    best_effort smoke_clean false
    exit 1
}

# Runs in a pod: asks every pod and the service, for a minute at most. A kube-proxy whose connection to the API died with
# another control plane learns that after 45 seconds (30 without a word, 15 for the answer to its ping).
# shellcheck disable=SC2016
SMOKE_ASK='
end=$(($(date +%s) + 60))
for t in "$@"; do
    name=${t%%=*}; url=${t#*=}
    until got=$(timeout 3 wget -q -O - "$url" 2>/dev/null); do
        [ "$(date +%s)" -lt "$end" ] || { echo "no answer from $name at $url within 60 s"; exit 1; }
        sleep 0.5
    done
    [ "$name" = service ] || [ "$got" = "$name" ] || { echo "$url answers as $got instead of $name"; exit 1; }
done'

smoke_test() { # nodes mark
    T=/run/bramble/smoke
    smoke_clean true
    rm -rf "$T"
    mkdir "$T"
    kubectl_admin apply -f /run/bramble/smoke.json >/dev/null || smoke_fail 'the smoke test cannot be applied'
    smoke_kubectl rollout status daemonset/smoke --timeout=120s >/dev/null || smoke_fail 'a pod of the smoke test does not become ready'
    smoke_kubectl get pods -l app=bramble-smoke \
        -o 'jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {.status.podIP}{"\n"}{end}' >"$T/pods"
    s=$(smoke_kubectl get service smoke -o 'jsonpath={.spec.clusterIP}')
    count=0 targets=
    while read -r pod node address; do
        count=$((count + 1)) targets="$targets $node=http://$address:8080/node"
    done <"$T/pods"
    [ "$count" = "$1" ] || smoke_fail "there are $count pods of the smoke test on $1 nodes"
    # All pods ask at once.
    while read -r pod node address; do
        # shellcheck disable=SC2086
        smoke_kubectl exec "$pod" -- sh -c "$SMOKE_ASK" sh $targets "service=http://$s/node" </dev/null >"$T/said.$node" 2>&1 ||
            : >"$T/failed.$node" &
    done <"$T/pods"
    wait
    bad=
    while read -r pod node address; do
        # A shell also speaks of a try that was ended: only its end tells.
        if [ -e "$T/failed.$node" ]; then
            said=$(cat "$T/said.$node")
            bad="$bad
from $node: $said"
        fi
    done <"$T/pods"
    rm -rf "$T" /run/bramble/smoke.json
    [ -z "$bad" ] || smoke_fail "the pod network does not work:$bad"
    smoke_clean true
    step_ends smoke "$2"
    paths="$((count * count)) paths"
    [ "$count" != 1 ] || paths='1 path'
    echo "@fact smoke $paths between pods, $count through the service"
}
