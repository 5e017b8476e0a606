# Undoes the ledger, newest entry first. Takes B and the functions of strict.sh, steps.sh and ledger.sh; defines: undo_all.

undo_all() {
    n=0
    # Without a list nothing may be forgotten.
    all=$(ls -r "$B/ledger")
    for e in $all; do
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
echo '@fact undone all'
