# Places that backups go to. Takes W, the folder to work in; defines: C, work_folder, for_place, failed_place.
C=/etc/bramble/backup

# What was said last tells why; sftp repeats what it is told.
failed_place() { # place
    why=$(awk '/^sftp> / { next } /^Connection closed/ { if (l == "") l = $0; next } { l = $0 } END { print l }' "$W/said" |
        tr -d '"\\\r' | tr '\t' ' ' | cut -c 1-300)
    printf '%s: %s\n' "$1" "${why:-no reason was given}" >>"$W/failed"
}

# A folder that goes with the script.
work_folder() {
    rm -rf "$W"
    (umask 077; mkdir "$W")
    trap 'rm -rf "$W"' EXIT
    # Stopped, it ends as if by itself.
    trap 'exit 143' HUP INT TERM
    : >"$W/failed"
}

# Does something that may fail without harm to the rest, says what it said, and writes down why it failed.
for_place() { # place function arguments…
    whose=$1
    shift
    attempt "$@" >"$W/said" 2>&1
    cat "$W/said"
    [ "$rc" = 0 ] || failed_place "$whose"
}
