# Add-ons: shared by the scripts that bring and remove them. Takes kubectl_admin, and the folder /run/bramble. Defines:
# addon_apply, addon_remove, addon_enable, addon_disable, and what they are made of: manage, books, keep_books,
# delete_listed, unready, pods_say, wait_ready, addon_begin, without, longhorn_has, without_volumes, their_addon_is.

manage() { kubectl_admin apply --server-side --force-conflicts --field-manager=bramble "$@"; } # question

# The books of an add-on: a line for each object, with the stage in which it is made, what it is whatever its version, and
# what names it.
books() { # name
    kubectl_admin -n kube-system get configmap "bramble-addon-$1" --ignore-not-found -o 'jsonpath={.data.objects}'
}

keep_books() { # name file
    kubectl_admin -n kube-system create configmap "bramble-addon-$1" --from-file="objects=$2" --dry-run=client -o json >"$D/books.json"
    manage -f "$D/books.json" >/dev/null
}

delete_listed() { # file
    for s in 3 2 1; do
        awk -F'\t' -v s="$s" '$1 == s { l[++n] = $3 } END { for (; n > 0; n--) print l[n] }' "$1" >"$D/objects"
        [ -s "$D/objects" ] || continue
        # A kind that is gone has no objects either.
        kubectl_admin delete --ignore-not-found --timeout=180s -f "$D/objects" >"$D/said" 2>&1 || {
            grep -v 'no matches for kind\|ensure CRDs are installed\|deleted' "$D/said" >"$D/left" || [ "$?" = 1 ]
            [ ! -s "$D/left" ] || { cat "$D/left"; return 1; }
        }
    done
}

# The workloads of an add-on that are not as its objects want them, a line each, in the file waits. A node that is not Ready
# keeps no DaemonSet waiting, and one whose pods are replaced only when somebody deletes them (OnDelete) may keep its old ones.
unready() { # name
    kubectl_admin get nodes -o 'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' >"$D/nodes"
    kubectl_admin get deployments,daemonsets,statefulsets -A -l "bramble/addon=$1" \
        -o 'jsonpath={range .items[*]}{.kind}|{.metadata.namespace}|{.metadata.name}|{.metadata.generation}|{.status.observedGeneration}|{.spec.updateStrategy.type}|{.spec.replicas}|{.status.replicas}|{.status.updatedReplicas}|{.status.readyReplicas}|{.spec.updateStrategy.rollingUpdate.partition}|{.status.desiredNumberScheduled}|{.status.updatedNumberScheduled}|{.status.numberReady}{"\n"}{end}' >"$D/work"
    away=$(awk 'NF && $1 != "True" { n++ } END { print n + 0 }' "$D/nodes")
    awk -F'|' -v away="$away" 'NF > 3 {
        if ($1 == "DaemonSet") { wanted = $12; fresh = $13; ready = $14 + away; old = 0; shown = $14 }
        else { wanted = $7; fresh = $9 + $11; ready = $10; old = $1 == "Deployment" && $8 > $9; shown = $10 }
        if ($6 == "OnDelete") fresh = wanted
        if ($1 == "DaemonSet") fresh += away
        seen = $5 != "" && $4 <= $5
        if (!seen || fresh + 0 < wanted + 0 || ready + 0 < wanted + 0 || old)
            printf("%s/%s in %s: %d of %d ready%s\n", $1, $3, $2, shown, wanted, (seen && shown + 0 >= wanted + 0) ? ", not all of them new" : "")
    }' "$D/work" >"$D/waits"
}

# What the pods in the namespaces of those workloads wait for, a line each, in the file why.
pods_say() {
    sed 's/.* in \([^ ]*\): .*/\1/' "$D/waits" | sort -u >"$D/spaces"
    : >"$D/pods"
    while read -r space; do
        kubectl_admin -n "$space" get pods -o 'jsonpath={range .items[*]}{.metadata.name}|{.status.phase}|{.status.conditions[?(@.type=="PodScheduled")].message}|{range .status.initContainerStatuses[*]}{.state.waiting.reason} {.state.waiting.message} {end}|{range .status.containerStatuses[*]}{.state.waiting.reason} {.state.waiting.message} {end}|{.metadata.namespace}{"\n"}{end}' \
            </dev/null >>"$D/pods"
    done <"$D/spaces"
    # An image that does not come is told twice in other words: the first says why.
    awk -F'|' 'NF > 4 && $2 != "Succeeded" {
        w = $3
        if (w == "" && $4 ~ /[^ ]/ && $4 !~ /^ *PodInitializing *$/) w = $4
        if (w == "") w = $5
        gsub(/ +/, " ", w); sub(/^ /, "", w); sub(/ $/, "", w)
        if (w != "" || $2 != "Running") print $1 ": " (w == "" ? $2 : w)
    }' "$D/pods" | cut -c 1-300 | head -n 10 >"$D/why"
}

# What hinders the making of those pods' containers is told by events alone: in the file told.
events_say() {
    : >"$D/told"
    awk -F'|' 'NF > 5 && $2 == "Pending" && $3 == "" && $4 $5 ~ /^ *(ContainerCreating|PodInitializing| )* *$/ { print $NF, $1 }' "$D/pods" >"$D/made"
    while read -r space; do
        p=$(awk -v s="$space" '$1 == s { print $2 }' "$D/made")
        # shellcheck disable=SC2086 # They are names.
        [ -z "$p" ] || pods_warnings "$space" $p >>"$D/told"
    done <"$D/spaces"
}

# Waits for the workloads of an add-on, and says what for. An image that cannot be had is waited for less long.
wait_ready() { # name
    begun=$(date +%s) stuck='' asked=$begun
    rm -f "$D/told"
    while :; do
        # An API that does not answer for a moment is asked again.
        attempt unready "$1"
        if [ "$rc" = 0 ]; then
            [ -s "$D/waits" ] || break
            attempt pods_say
        else
            echo "the API, which does not answer" >"$D/waits"
        fi
        [ "$rc" = 0 ] || : >"$D/why"
        now=$(date +%s)
        if [ -s "$D/why" ] && [ "$((now - asked))" -ge 20 ]; then
            asked=$now
            attempt events_say
            [ "$rc" = 0 ] || : >"$D/told"
        fi
        # Whoever waits here ends when nobody listens any more.
        first=$(head -n 1 "$D/waits")
        why=$(cat "$D/told" "$D/why" 2>/dev/null | head -n 1)
        printf '@waiting %s%s\n' "$first" "${why:+; $why}"
        if [ -s "$D/why" ] && ! grep -qv ': \(ErrImagePull\|ImagePullBackOff\|InvalidImageName\|ErrImageNeverPull\)' "$D/why"; then
            stuck=${stuck:-$now}
        else
            stuck=
        fi
        if [ "$((now - begun))" -ge 300 ] || { [ -n "$stuck" ] && [ "$((now - stuck))" -ge 90 ]; }; then
            echo "it does not get ready within $((now - begun)) s:"
            cat "$D/waits" "$D/why"
            [ ! -e "$D/told" ] || cat "$D/told"
            return 1
        fi
        sleep 2
    done
}

addon_begin() { # what other add-ons have
    D=/run/bramble/addon
    rm -rf "$D"
    (umask 077; mkdir -p "$D")
    printf '%s\n' "$1" >"$D/kept"
}

# The lines of the first file whose object is in none of the others.
without() { # file others…
    f=$1
    shift
    awk -F'\t' -v f="$f" 'FILENAME != f { k[NF > 1 ? $2 : $0] = 1; next } !($2 in k)' "$@" "$f"
}

addon_apply() { # name lines kept
    addon_begin "$3"
    books "$1" >"$D/old"
    cut -f1-3 "$2" >"$D/new"
    # All that is there or may be made, so that nothing is forgotten if this is cut off.
    { cat "$D/new"; without "$D/old" "$D/new"; } >"$D/all"
    keep_books "$1" "$D/all"
    # Nothing can be made in a namespace that somebody is removing.
    awk -F'\t' '{ split($2, k, "/") } k[1] == "" && k[2] == "Namespace" { print k[4] }' "$D/new" >"$D/namespaces"
    while read -r s; do
        p=$(kubectl_admin get namespace "$s" --ignore-not-found -o 'jsonpath={.status.phase}' </dev/null)
        [ "$p" != Terminating ] || kubectl_admin wait --for=delete "namespace/$s" --timeout=180s >/dev/null </dev/null
    done <"$D/namespaces"
    for s in 1 2 3; do
        awk -F'\t' -v s="$s" '$1 == s { print $4 }' "$2" >"$D/objects"
        [ -s "$D/objects" ] || continue
        [ "$s" != 3 ] || wait_ready "$1"
        n=0 anew=
        # Webhooks answer some time after their pods are ready.
        until manage -f "$D/objects" >"$D/said" 2>&1; do
            # What a Job runs cannot be changed: it is run anew.
            sed -n 's/.*The Job "\([^"]*\)" is invalid: .*immutable.*/\1/p' "$D/said" >"$D/jobs"
            if [ -z "$anew" ] && [ -s "$D/jobs" ]; then
                anew=yes
                awk -F'\t' -v f="$D/jobs" 'BEGIN { while ((getline n <f) > 0) j[n] = 1 } { split($2, k, "/") } k[1] == "batch" && k[2] == "Job" && k[4] in j { print $3 }' "$2" >"$D/old-jobs"
                kubectl_admin delete --ignore-not-found --timeout=60s -f "$D/old-jobs" >/dev/null
                continue
            fi
            # So may those of another add-on whose definitions these are instances of.
            w=$(grep -c 'failed calling webhook' "$D/said" || [ "$?" = 1 ])
            if { [ "$w" = 0 ] && [ "$s" != 3 ]; } || [ "$n" -ge 60 ]; then tail -n 12 "$D/said"; return 1; fi
            [ "$w" = 0 ] || printf '@waiting %s\n' "a webhook that does not answer yet"
            sleep 2; n=$((n + 1))
        done
        if [ "$s" = 1 ] && grep -q '"kind":"CustomResourceDefinition"' "$D/objects"; then
            kubectl_admin wait --for=condition=Established --timeout=60s crd -l "bramble/addon=$1" >/dev/null
        fi
    done
    without "$D/old" "$D/new" "$D/kept" >"$D/gone"
    [ ! -s "$D/gone" ] || delete_listed "$D/gone"
    keep_books "$1" "$D/new"
    wait_ready "$1"
    rm -rf "$D" "$2"
}

# How many objects of this kind Longhorn has. Without the kind there are none; without an answer nobody knows.
longhorn_has() { # kind
    d=$(kubectl_admin get customresourcedefinition "$1.longhorn.io" --ignore-not-found -o name)
    [ -z "$d" ] || d=$(kubectl_admin get "$1.longhorn.io" -A -o name)
    echo "$d" | awk 'NF { n++ } END { print n + 0 }'
}

# Whoever takes a provisioner away while there are volumes of its storage classes leaves their data behind for ever. Volumes
# whose claims are gone are given the time to go.
without_volumes() { # lines
    awk -F'\t' '{ split($2, k, "/") } k[1] == "storage.k8s.io" && k[2] == "StorageClass" { print k[4] }' "$1" >"$D/classes"
    [ -s "$D/classes" ] || return 0
    n=0
    while :; do
        kubectl_admin get persistentvolumes -o 'jsonpath={range .items[*]}{.spec.storageClassName}|{.status.phase}|{.spec.claimRef.namespace}/{.spec.claimRef.name}|{.metadata.name}{"\n"}{end}' >"$D/volumes"
        awk -F'|' -v f="$D/classes" 'BEGIN { while ((getline l <f) > 0) c[l] = 1 } $1 in c' "$D/volumes" >"$D/held"
        [ -s "$D/held" ] || return 0
        if [ "$n" -ge 30 ] || grep -q '|Bound|' "$D/held"; then
            echo "it provides volumes that are in use, each by a claim:"
            awk -F'|' '{ print $3 " (" $4 ", class " $1 ")" }' "$D/held" | head -n 10
            # shellcheck disable=SC2016 # They are quotes.
            echo 'delete these claims with all that is in them (`kubectl delete pvc`), or move them to another class; then run `bramble up` again'
            return 1
        fi
        printf '@waiting %s\n' "volumes whose claims are gone"
        sleep 2; n=$((n + 1))
    done
}

addon_remove() { # name kept
    if [ "$1" = longhorn ]; then
        v=$(longhorn_has volumes)
        o=$(longhorn_has nodes)
        e=$(longhorn_has engineimages)
        if [ "$((v + o + e))" -gt 0 ]; then
            echo "Longhorn holds $v volumes, and is taken out by a job of its own (longhorn.io/docs, \"Uninstall Longhorn\"):"
            # shellcheck disable=SC2016 # They are quotes.
            echo 'set its deleting-confirmation-flag, run the job, and then `bramble up` again, which removes the rest'
            return 1
        fi
    fi
    addon_begin "$2"
    books "$1" >"$D/books"
    without "$D/books" "$D/kept" >"$D/old"
    without_volumes "$D/old"
    delete_listed "$D/old"
    kubectl_admin -n kube-system delete configmap "bramble-addon-$1" --ignore-not-found >/dev/null
    rm -rf "$D"
}

# Whether MicroK8s says that one of its add-ons is as it should be: its programs succeed also when they did nothing, and
# fail also when they did it.
their_addon_is() { # name enabled|disabled
    n=0
    until o=$(/snap/bin/microk8s status -a "$1" 2>&1) && [ "$o" = "$2" ]; do
        [ "$n" -lt 60 ] || { echo "MicroK8s says that $1 is not $2: $o"; return 1; }
        sleep 1; n=$((n + 1))
    done
}

addon_enable() { # what again?
    # One that is enabled is left as it is, whatever follows its name.
    [ -z "$2" ] || /snap/bin/microk8s disable "${1%%:*}" </dev/null || echo "microk8s disable ended with $?"
    /snap/bin/microk8s enable "$1" </dev/null || echo "microk8s enable ended with $?"
    their_addon_is "${1%%:*}" enabled
}

addon_disable() { # name
    # Every cluster has it, whether it is named or not.
    [ "$1" != dns ] || return 0
    /snap/bin/microk8s disable "$1" </dev/null || echo "microk8s disable ended with $?"
    their_addon_is "$1" disabled
}
