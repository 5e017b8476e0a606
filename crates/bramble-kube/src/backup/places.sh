# Places that backups go to. Takes W, a folder with what was said; defines: C, failed_place.
C=/etc/bramble/backup

# What was said last tells why; sftp repeats what it is told.
failed_place() { # place
    why=$(awk '/^sftp> / { next } /^Connection closed/ { if (l == "") l = $0; next } { l = $0 } END { print l }' "$W/said" |
        tr -d '"\\\r' | tr '\t' ' ' | cut -c 1-300)
    printf '%s: %s\n' "$1" "${why:-no reason was given}" >>"$W/failed"
}
