# What is written to a node's disk, and by whom. Takes seconds, how long it is watched; defines: writers, disk_writes,
# tell_writes.

# Bytes that each program has written until now, those of one name together; what it took back is not counted.
writers() {
    for d in /proc/[0-9]*; do
        # Some end while this reads.
        { IFS= read -r n <"$d/comm" && w=$(sed -n 's/^write_bytes: //p' "$d/io") && c=$(sed -n 's/^cancelled_write_bytes: //p' "$d/io"); } 2>/dev/null || continue
        echo "${d#/proc/} $((w - c)) $n"
    done
}

# Bytes that the disk of the root has written until now.
disk_writes() {
    s=$(findmnt -nvo SOURCE /)
    n=
    # The root of a container, and an overlay, are no devices.
    if [ -b "$s" ]; then
        n=$(lsblk -no PKNAME "$s")
        n=$(echo "$n" | head -n 1)
    fi
    [ -n "$n" ] || n=${s##*/}
    w=$(awk -v d="$n" '$3 == d { print $10 * 512 }' /proc/diskstats)
    echo "$n ${w:-0}"
}

tell_writes() {
    private=/run/bramble
    mkdir -p "$private"
    writers >"$private/writers"
    before=$(disk_writes)
    # shellcheck disable=SC2154
    sleep "$seconds"
    after=$(disk_writes)
    writers >"$private/writers.now"
    awk 'NR == FNR { was[$1] = $2; next } { n = $0; sub(/^[^ ]* [^ ]* /, "", n); d = $2 - (($1 in was) ? was[$1] : 0); if (d > 0) sum[n] += d }
        END { for (n in sum) print "writer", sum[n], n }' "$private/writers" "$private/writers.now"
    rm -f "$private/writers" "$private/writers.now"
    echo "disk $((${after##* } - ${before##* })) ${after% *}"
}
