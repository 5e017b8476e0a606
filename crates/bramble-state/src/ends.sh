# How things end, also in scripts that run beside a plan.
B=/var/lib/bramble

unit_failed() {
    echo "the last lines of $1:"
    # What a program said of its death stands before the stacks of its threads.
    journalctl -q --no-pager -n 300 -o cat -u "$1" | grep -v '^goroutine\|^created by\|^\t\|^$\|(0x\|\.go:\|(\.\.\.)' | uniq | tail -n 12 || :
    return 1
}

step_ends() { # id version
    printf '%s\n' "$2" >"$B/done/.$1"
    sync "$B/done/.$1"
    mv -f "$B/done/.$1" "$B/done/$1"
    rm -f "$B/pending/step.$1"
    sync "$B/done"
}
