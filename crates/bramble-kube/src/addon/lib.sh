# Add-ons: shared by the scripts that bring and remove them. Takes kubectl_admin, and the folder /run/bramble. Defines:
# addon_apply, addon_remove, addon_enable, addon_disable, and what they are made of: manage, books, keep_books,
# delete_listed, wait_ready, addon_begin, without, longhorn_has, their_addon_is.

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

# Waits for the workloads of an add-on; says of those that do not come what their pods say.
wait_ready() { # name
    kubectl_admin get deployments,daemonsets,statefulsets -A -l "bramble/addon=$1" \
        -o 'jsonpath={range .items[*]}{.metadata.namespace} {.kind}/{.metadata.name}{"\n"}{end}' >"$D/work"
    while read -r space what; do
        kubectl_admin -n "$space" rollout status "$what" --timeout=300s >"$D/said" 2>&1 </dev/null || {
            echo "$what does not get ready within 300 s:"
            kubectl_admin -n "$space" get pods -o 'jsonpath={range .items[*]}{.metadata.name} {.status.phase} {range .status.containerStatuses[*]}{.state.waiting.reason} {.state.waiting.message}{end}{"\n"}{end}' </dev/null |
                grep -v ' Running *$\| Succeeded *$' | head -n 10
            return 1
        }
    done <"$D/work"
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
            if [ "$s" != 3 ] || [ "$n" -ge 60 ]; then tail -n 12 "$D/said"; return 1; fi
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
