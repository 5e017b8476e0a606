# Volumes that nodes save by themselves with restic, to one repository at each place for the whole cluster. Takes kubectl_node and
# kubectl_admin of a distribution, and places.sh; cluster and node; every, in seconds; keep; claims; first, whether this node looks after what is
# nobody's; shared, whether volumes that lie on no one node are its own (or none, where there is no folder that all share).
# Defines: begin_volumes, which sets due; to_repository, end_volumes; saved_in; find_volume, restore_volume.
H=$B/backups-volumes
W=$H/work
export RESTIC_PASSWORD_FILE="$C/volumes.password" RESTIC_CACHE_DIR="$H/restic"

# Volumes that are folders: claim, folder, nodes that can see it, phase.
folders_of_claims() { # kubectl
    "$1" get persistentvolumes -o 'jsonpath={range .items[*]}{.spec.claimRef.namespace}/{.spec.claimRef.name}{"\t"}{.spec.local.path}{.spec.hostPath.path}{"\t"}{.spec.nodeAffinity.required.nodeSelectorTerms[*].matchExpressions[*].values[*]}{"\t"}{.status.phase}{"\n"}{end}'
}

# Nodes may read which volumes there are; only the API knows where a claim's is.
let_nodes_look() {
    kubectl_admin apply -f - >/dev/null <<'EOF'
{ "apiVersion": "v1", "kind": "List", "items": [
  { "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "bramble:volumes" },
    "rules": [{ "apiGroups": [""], "resources": ["persistentvolumes"], "verbs": ["get", "list"] }] },
  { "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": "bramble:volumes" },
    "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "bramble:volumes" },
    "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes" }] }] }
EOF
}

begin_volumes() {
    due=no
    mkdir -p "$H"
    now=$(date +%s)
    saved=0 tried=0
    [ ! -s "$H/saved" ] || read -r saved tried _ <"$H/saved"
    # After a clock that was ahead it is time at once.
    if [ "$tried" -le "$now" ] && { [ "$((now - saved))" -lt "$every" ] || [ "$((now - tried))" -lt "$((every / 12))" ]; }; then return; fi
    # shellcheck disable=SC2034 # For those who call it.
    due=yes
    work_folder
    : >"$W/mine"
    for_place 'the volumes of this node' find_mine
}

# A node may ask as soon as the first control plane has let it, which may look later than this node.
list_volumes() {
    n=0
    while :; do
        attempt folders_of_claims kubectl_node >"$W/list" 2>"$W/error"
        [ "$rc" != 0 ] || return 0
        if [ "$n" -ge 12 ] || ! grep -qF '(Forbidden)' "$W/error"; then
            cat "$W/error"
            return 1
        fi
        sleep 10; n=$((n + 1))
    done
}

find_mine() {
    [ "$first" != yes ] || let_nodes_look
    list_volumes
    for c in $claims; do
        l=$(awk -F '\t' -v c="$c" '$1 == c && $4 == "Bound"' "$W/list")
        p=$(printf '%s' "$l" | cut -f 2)
        h=$(printf '%s' "$l" | cut -f 3)
        if [ -z "$l" ]; then
            nobodys "$c" 'no volume is bound to this claim'
        elif [ -z "$p" ]; then
            nobodys "$c" 'its volume is no folder of a node: what made it has backups of its own'
        elif [ -z "$h" ] && [ "$shared" = none ]; then
            nobodys "$c" "its volume does not say on which node $p is"
        else
            k=no
            case " $h " in '  ') k=$shared ;; *" $node "*) k=yes ;; esac
            if [ "$k" = yes ] && [ -d "$p" ]; then
                printf '%s\t%s\n' "$c" "$p" >>"$W/mine"
            elif [ "$k" = yes ]; then
                echo "$c: its folder $p is not there" >>"$W/failed"
            fi
        fi
    done
}
nobodys() { # claim why
    [ "$first" != yes ] || echo "$1: $2" >>"$W/failed"
}

restic_at() { # host url arguments…
    h=$1 u=$2
    shift 2
    # An S3 service has no host of ssh's configuration.
    if [ -n "$h" ]; then set -- -o "sftp.command=ssh -F $C/ssh_config $h -s sftp" "$@"; fi
    timeout "${most:-0}" restic -q -r "$u" "$@"
}

# By itself restic asks a server that is away for a quarter of an hour.
restic_soon() { # host url arguments…
    most=100
    attempt restic_at "$@"
    [ "$rc" != 124 ] || echo "it does not answer within $most s" >&2
    return "$rc"
}

# Whoever takes old ones away has the repository alone for a while. A file that goes while it is read is no failure the second time.
patient() { # host url arguments…
    n=0
    while :; do
        attempt restic_at "$@" >"$W/out" 2>&1
        [ "$rc" != 0 ] || break
        if [ "$n" -ge 30 ] || { [ "$rc" != 3 ] && ! grep -q 'already locked' "$W/out"; } || { [ "$rc" = 3 ] && [ "$n" -ge 1 ]; }; then
            cat "$W/out"
            return 1
        fi
        sleep 20; n=$((n + 1))
    done
}

for_s3() { # region credentials
    if [ -n "$2" ]; then export AWS_DEFAULT_REGION="$1" AWS_SHARED_CREDENTIALS_FILE="$2"; fi
}

to_repository() { # place host url region credentials
    [ -s "$W/mine" ] || [ "$first" = yes ] || return 0
    place=$1
    shift
    for_place "$place" save_volumes "$@"
    [ "$rc" != 0 ] || echo "$place: volumes are there"
}

# One node makes the repository: two at a time would make two keys.
has_repository() { # host url
    n=0
    while :; do
        attempt restic_soon "$1" "$2" cat config >"$W/out" 2>&1
        [ "$rc" != 0 ] || return 0
        [ "$rc" != 124 ] || break
        if [ "$first" = yes ]; then
            restic_soon "$1" "$2" init
            return 0
        fi
        [ "$n" -lt 30 ] || break
        sleep 10; n=$((n + 1))
    done
    cat "$W/out"
    return 1
}

save_volumes() { # host url region credentials
    for_s3 "$3" "$4"
    has_repository "$1" "$2"
    # Not `--one-file-system`: on an overlay the files of a folder have other devices than the folder, and would be left out.
    while IFS='	' read -r c d; do
        cd "$d"
        patient "$1" "$2" backup --host "$node" --tag "$c" --exclude '.bramble-restore*' . </dev/null
        echo "$c: saved"
    done <"$W/mine"
    cd /
    [ "$first" = yes ] || return 0
    restic_at "$1" "$2" unlock
    patient "$1" "$2" forget --group-by tags --keep-last "$keep" --prune
    patient "$1" "$2" check
}

# Writes down how it went, and fails if a volume is not everywhere.
end_volumes() {
    [ -s "$W/failed" ] || saved=$now
    count=$(wc -l <"$W/mine")
    {
        printf '%s %s %s %s\n' "$saved" "$now" "$every" "$count"
        cat "$W/failed"
    } >"$H/saved.new"
    mv "$H/saved.new" "$H/saved"
    if [ -s "$W/failed" ]; then
        cat "$W/failed" >&2
        exit 1
    fi
}

# What is saved at a place, in a line.
saved_in() { # place host url region credentials
    private_folder
    W=/run/bramble
    p=$1
    shift
    attempt list_saved "$@" >"$W/snapshots" 2>"$W/said"
    if [ "$rc" = 0 ]; then
        s=$(tr -d '\n' <"$W/snapshots")
        printf 'saved\t%s\t%s\n' "$p" "$s"
    else
        : >"$W/failed"
        failed_place "$p"
        s=$(cat "$W/failed")
        printf 'unread\t%s\t%s\n' "$p" "$s"
    fi
    rm -f "$W/snapshots" "$W/said" "$W/failed"
}
list_saved() { # host url region credentials
    for_s3 "$3" "$4"
    restic_soon "$1" "$2" --no-lock snapshots --json
}

# Where a claim's volume is, and which pods have it.
find_volume() { # namespace claim
    private_folder
    folders_of_claims kubectl_admin >/run/bramble/volumes
    awk -F '\t' -v c="$1/$2" '$1 == c && $4 == "Bound" { print "volume\t" $2 "\t" $3 }' /run/bramble/volumes
    kubectl_admin -n "$1" get pods -o 'jsonpath={range .items[*]}{.metadata.name}{"\t"}{.status.phase}{"\t"}{.spec.volumes[*].persistentVolumeClaim.claimName}{"\n"}{end}' >/run/bramble/volumes
    awk -F '\t' -v c="$2" '$2 != "Succeeded" && $2 != "Failed" && index(" " $3 " ", " " c " ") { print "pod\t" $1 }' /run/bramble/volumes
    rm -f /run/bramble/volumes
}

# Until all of it is here, and was compared with what is saved, what the volume has stays as it is.
restore_volume() { # folder snapshot host url region credentials
    [ -d "$1" ] || { echo "$1 is not there" >&2; return 1; }
    for_s3 "$5" "$6"
    cd "$1"
    rm -rf .bramble-restore
    trap 'rm -rf .bramble-restore' EXIT
    (umask 077; mkdir .bramble-restore)
    restic_at "$3" "$4" restore "$2" --target .bramble-restore --verify
    rm -rf .bramble-restore.old
    (umask 077; mkdir .bramble-restore.old)
    trap - EXIT
    find . -mindepth 1 -maxdepth 1 ! -name .bramble-restore ! -name .bramble-restore.old -exec mv -t .bramble-restore.old {} +
    find .bramble-restore -mindepth 1 -maxdepth 1 -exec mv -t . {} +
    rm -rf .bramble-restore .bramble-restore.old
}
