# How things end, also in scripts that run beside a plan.
B=/var/lib/bramble

unit_failed() {
    echo "the last lines of $1:"
    # What a program of Go said of its death stands before the stacks of its threads: a function a line, and behind a tab
    # the place in its source.
    journalctl -q --no-pager -n 300 -o cat -u "$1" |
        awk '/^goroutine [0-9]+ / || /^created by / || /^\t/ || /^$/ || /^[^ ]+\((0x[0-9a-f]+|\.\.\.|{0x)/ { next } $0 != last { print; last = $0 }' | tail -n 12
    return 1
}

step_ends() { # id version
    printf '%s\n' "$2" >"$B/done/.$1"
    sync "$B/done/.$1"
    mv -f "$B/done/.$1" "$B/done/$1"
    rm -f "$B/pending/step.$1"
    sync "$B/done"
}
