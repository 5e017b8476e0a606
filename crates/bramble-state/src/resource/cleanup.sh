for f in "$B"/ledger/[0-9]*."$h"/ours; do
    [ ! -r "$f" ] || while read -r v; do case " $* " in *" $v "*) echo "ours $v" ;; esac; done <"$f"
done
