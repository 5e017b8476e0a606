if entry swap-in-use 'turn swap on again'; then
    while read -r f rest; do [ "$f" = Filename ] || echo "$f"; done </proc/swaps >"$E/swaps"
    # shellcheck disable=SC2016 # It is for the entry.
    echo 'while read -r f; do swapon "$f" 2>/dev/null || :; done <"$E/swaps"' >"$E/undo"
    keep swap-in-use
fi
swapoff -a
