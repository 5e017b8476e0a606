# How things end, also in scripts that run beside a plan. Takes no variables; sets B, the home of bramble's books on the
# node, and defines: unit_failed, step_ends, unmount_below.
B=/var/lib/bramble

# Says what a unit said last, and fails.
unit_failed() { # unit
    echo "the last lines of $1:"
    # What a program of Go said of its death stands before the stacks of its threads: a function a line, and behind a tab
    # the place in its source.
    journalctl -q --no-pager -n 300 -o cat -u "$1" |
        awk '/^goroutine [0-9]+ / || /^created by / || /^\t/ || /^$/ || /^[^ ]+\((0x[0-9a-f]+|\.\.\.|\{0x|\))/ { next } $0 != last { print; last = $0 }' | tail -n 12
    return 1
}

step_ends() { # id version
    printf '%s\n' "$2" >"$B/done/.$1"
    sync "$B/done/.$1"
    mv -f "$B/done/.$1" "$B/done/$1"
    rm -f "$B/pending/step.$1"
    sync "$B/done"
}

# Unmounts all below these folders, the innermost first. What stayed mounted would lose its files with the folder.
unmount_below() { # prefix…
    for _p in "$@"; do
        awk -v p="$_p" 'index($2, p) == 1 { print $2 }' /proc/self/mounts | sort -r |
            while read -r _m; do best_effort umount -l "$_m"; done
        _m=$(awk -v p="$_p" 'index($2, p) == 1 { print $2 }' /proc/self/mounts)
        [ -z "$_m" ] || { printf 'these stay mounted:\n%s\n' "$_m" >&2; return 1; }
    done
}
