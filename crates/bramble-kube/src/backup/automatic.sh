# Backups that control planes make by themselves. Takes the functions of a distribution, of backup.sh and of places.sh; cluster, distribution, api;
# every and wait, in seconds; keep; recipient, the age key that it is for. Defines: begin_backup, which sets due; to_sftp, to_s3, end_backup.

# What the scripts remember, and where they work.
H=$B/backups-state

# Looks whether it is time, and makes the archive. The first control plane looks for every; the others give it some time more.
begin_backup() {
    due=no
    mkdir -p "$H"
    # One that is not part of a cluster, or whose API is away, leaves it to the others.
    if ! kubectl_admin get --raw /readyz >/dev/null 2>&1; then
        echo 'the API of this board does not answer: the other control planes make the backup'
        return
    fi
    record=$(kubectl_admin -n kube-system get configmap bramble-backups --ignore-not-found -o 'jsonpath={.data.made} {.data.tried}')
    [ -n "$record" ] || record='0 0'
    made=${record%% *} tried=${record##* }
    printf '%s %s\n' "$made" "$every" >"$H/made"
    now=$(date +%s)
    if [ "$((now + 300))" -lt "$tried" ]; then
        echo "it is $now by this board's clock, and the last backup was made at $tried: the clock is wrong" >&2
        exit 1
    fi
    # The first one of all: nobody knows yet since when it is missing.
    if [ "$made" = 0 ]; then
        [ -s "$H/since" ] || printf '%s\n' "$now" >"$H/since"
        since=$(cat "$H/since")
        if [ "$((now - since))" -lt "$wait" ]; then return; fi
    else
        rm -f "$H/since"
    fi
    if [ "$((now - made))" -lt "$((every + wait))" ] || [ "$((now - tried))" -lt "$((every / 12 + wait))" ]; then return; fi
    # shellcheck disable=SC2034 # For those who call it.
    due=yes
    W=$H/work
    work_folder
    name=$cluster-$now.bramble-backup
    : >"$W/made"
    for_place 'the state of the cluster' make_archive
}

make_archive() {
    print_state >"$W/state.tar.gz"
    print_objects >"$W/objects"
    [ -s "$W/objects" ] || { echo 'the API tells of no objects at all' >&2; return 1; }
    objects=$(sed 's/[\\"]/\\&/g; s/.*/    "&"/; $!s/$/,/' "$W/objects")
    kubernetes=$(cat "$B/done/version")
    ca=$(cut -d ' ' -f 2 "$B/done/kubernetes")
    id=$(cut -d ' ' -f 1 "$B/done/cluster")
    cat >"$W/manifest.json" <<EOF
{
  "format": 1,
  "cluster": "$cluster",
  "distribution": "$distribution",
  "kubernetes": "$kubernetes",
  "api": "$api",
  "ca": "$ca",
  "id": "$id",
  "made": $now,
  "objects": [
$objects
  ]
}
EOF
    tar -C "$W" -cf "$W/archive.tar" manifest.json state.tar.gz
    age -r "$recipient" -o "$W/$name" "$W/archive.tar"
    rm "$W/archive.tar" "$W/state.tar.gz"
    bytes=$(wc -c <"$W/$name")
    echo "$name: $bytes bytes"
}

# Puts the archive at a place, if there is one, and says how that went. What fails here leaves the other places alone.
place() { # place function arguments…
    [ -e "$W/$name" ] || return 0
    for_place "$@"
    [ "$rc" = 0 ] || return 0
    echo "$1: it is there, and was read back"
    printf '%s\n' "$1" >>"$W/made"
}

to_sftp() { # place host-of-the-configuration folder
    place "$1" put_sftp "$2" "$3"
}

sftp_does() { # host commands
    printf '%s\n' "$2" | sftp -q -F "$C/ssh_config" -b - "$1"
}

# A folder that is full keeps what it has: the new one gets its name when all of it was read back.
put_sftp() { # host folder
    digits='[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]'
    sftp_does "$1" "-mkdir $2
-rm $2/.$cluster-$digits.bramble-backup.part"
    attempt sftp_does "$1" "put $W/$name $2/.$name.part
get $2/.$name.part $W/back"
    if [ "$rc" != 0 ]; then
        attempt sftp_does "$1" "-rm $2/.$name.part" >/dev/null 2>&1
        return 1
    fi
    same_back
    sftp_does "$1" "rename $2/.$name.part $2/$name
ls -1 $2" >"$W/list"
    too_many
    while IFS= read -r old; do sftp_does "$1" "rm $2/$old" </dev/null; done <"$W/old"
}

same_back() {
    cmp -s "$W/$name" "$W/back" || { echo 'what was read back is not what was written' >&2; return 1; }
    rm "$W/back"
}

# Of this cluster alone, and none that has another form of name.
too_many() {
    grep -o "$cluster-[0-9]\{10\}\.bramble-backup\$" "$W/list" | sort -u | head -n "-$keep" >"$W/old"
}

to_s3() { # place bucket provider endpoint region credentials
    place "$1" put_s3 "$2" "$3" "$4" "$5" "$6"
}

put_s3() { # bucket provider endpoint region credentials
    export RCLONE_S3_PROVIDER="$2" RCLONE_S3_ENDPOINT="$3" RCLONE_S3_REGION="$4" AWS_SHARED_CREDENTIALS_FILE="$5"
    export RCLONE_S3_ENV_AUTH=true RCLONE_S3_NO_CHECK_BUCKET=true RCLONE_CONFIG='' RCLONE_RETRIES=2 RCLONE_LOW_LEVEL_RETRIES=2 RCLONE_TIMEOUT=60s RCLONE_CONTIMEOUT=15s
    rclone copyto "$W/$name" ":s3:$1/$name"
    rclone cat ":s3:$1/$name" >"$W/back"
    same_back
    rclone lsf ":s3:$1/" >"$W/list"
    too_many
    while IFS= read -r old; do rclone deletefile ":s3:$1/$old" </dev/null; done <"$W/old"
}

# Writes down in the cluster how it went, and fails if a place has none.
end_backup() {
    [ ! -s "$W/made" ] || made=$now
    failed=$(sed 's/$/\\n/' "$W/failed" | tr -d '\n')
    cat >"$W/record.json" <<EOF
{ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "bramble-backups", "namespace": "kube-system" },
  "data": { "made": "$made", "tried": "$now", "file": "$name", "failed": "$failed" } }
EOF
    kubectl_admin apply -f "$W/record.json"
    printf '%s %s\n' "$made" "$every" >"$H/made"
    if [ -s "$W/failed" ]; then
        cat "$W/failed" >&2
        exit 1
    fi
}
