# Undoes the ledger, newest entry first. Takes B; needs `attempt`.

# Entries of older versions were written for a shell that lets unset variables pass.
undo_one() { # entry
    set +u
    E=$1
    # shellcheck disable=SC1091
    . "$1/undo"
}

undo_all() {
    n=0
    # shellcheck disable=SC2045
    for e in $(ls -r "$B/ledger"); do
        e=$B/ledger/$e
        # What was never put into the ledger was never begun.
        if [ ! -e "$e/undo" ]; then
            rm -rf "$e"
            continue
        fi
        t=$(cat "$e/title")
        echo "@title $t"
        echo "@start $n"
        attempt undo_one "$e" </dev/null 9>&- 2>&1
        if [ "$rc" != 0 ]; then
            echo "@fail $n $rc"
            exit 1
        fi
        rm -rf "$e"
        echo "@ok $n"
        n=$((n + 1))
    done
    systemctl daemon-reload
    rm -rf "$B"
}

undo_all
