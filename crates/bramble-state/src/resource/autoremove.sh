s=$B/nothing-to-remove
if [ ! -e "$s" ] || [ /var/lib/dpkg/status -nt "$s" ] || [ /var/lib/apt/extended_states -nt "$s" ]; then
    # Where packages are broken it fails, and the plan is needed to mend them; only an answer is remembered.
    k=0
    r=$(apt-get -s autoremove 2>/dev/null) || k=$?
    r=$(printf '%s\n' "$r" | sed -n 's/^Remv \([^ ]*\).*/removable \1/p')
    if [ -n "$r" ]; then echo "$r"; elif [ "$k" = 0 ] && [ -d "$B" ]; then : >"$s"; fi
fi
