s=$B/nothing-to-remove
if [ ! -e "$s" ] || [ /var/lib/dpkg/status -nt "$s" ] || [ /var/lib/apt/extended_states -nt "$s" ]; then
    # Where packages are broken it fails, and the plan is needed to mend them; only an answer is remembered.
    k=0
    r=$(apt-get -s autoremove 2>/dev/null) || k=$?
    printf '%s\n' "$r" | while read -r v n rest; do [ "$v" != Remv ] || echo "removable $n"; done
    if [ "$k" = 0 ] && [ -d "$B" ]; then case "
$r" in *"
Remv "*) ;; *) : >"$s" ;; esac fi
fi
