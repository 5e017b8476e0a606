//! Undoing: the ledger, backwards.

use crate::script::Commands;

/// The script that undoes everything that bramble ever changed on a node, newest first, and then removes bramble's own
/// traces. It can be cut off anywhere and run again. It says `@title …`, `@start N`, `@ok N` or `@fail N CODE`.
pub fn undo_script() -> String {
    let mut script = Commands::new();
    script.fixed(crate::ENDS).fixed(include_str!("prelude.sh")).fixed(
        r#"undo_one() { (set -e; E=$1; . "$1/undo") </dev/null 9>&- 2>&1; }
n=0
for e in $(ls -r "$B/ledger"); do
    e=$B/ledger/$e
    # What was never put into the ledger was never begun.
    if [ ! -e "$e/undo" ]; then rm -rf "$e"; continue; fi
    echo "@title $(cat "$e/title")"
    echo "@start $n"
    undo_one "$e"
    rc=$?
    if [ "$rc" -ne 0 ]; then echo "@fail $n $rc"; exit 1; fi
    rm -rf "$e"
    echo "@ok $n"
    n=$((n + 1))
done
systemctl daemon-reload
rm -rf "$B""#,
    );
    script.as_str().to_owned()
}
