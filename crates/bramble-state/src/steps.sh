# How things end, also in scripts that run beside a plan. Takes no variables; sets B, the home of bramble's books on the
# node, and defines: unit_failed, step_ends, mounts_below, unmount_below.
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

# The mount points that begin so, as the kernel writes them (`\040` for a blank); where it ends with `/.` the folder itself, too.
mounts_below() { # prefix
    _prefix=$1 awk '
        BEGIN {
            w = ENVIRON["_prefix"]
            self = w ~ /\/\.$/
            if (self) w = substr(w, 1, length(w) - 1)
            for (i = 1; i <= length(w); i++) {
                c = substr(w, i, 1)
                if (c == " ") c = "\\040"
                else if (c == "\t") c = "\\011"
                else if (c == "\n") c = "\\012"
                else if (c == "\\") c = "\\134"
                p = p c
            }
        }
        index($5 (self ? "/" : ""), p) == 1 { print $5 }' /proc/self/mountinfo
}

# Unmounts all below these folders, the innermost first. What stayed mounted would lose its files with the folder.
unmount_below() { # prefix…
    for _p in "$@"; do
        # Its parents may be links; mount points have none.
        _m=$(readlink -m -- "${_p%/*}")
        _p=$_m/${_p##*/}
        _m=$(mounts_below "$_p")
        [ -n "$_m" ] || continue
        printf '%s\n' "$_m" | sort -r | sed 's/\\/\\0/g' |
            while IFS= read -r _m; do
                # A name may end with an empty line.
                _m=$(printf '%b.' "$_m")
                best_effort umount -l "${_m%.}"
            done
        _m=$(mounts_below "$_p")
        [ -z "$_m" ] || { printf 'these stay mounted:\n%s\n' "$_m" >&2; return 1; }
    done
}
