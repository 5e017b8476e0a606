s=$B/nothing-to-remove
if [ ! -e "$s" ] || [ /var/lib/dpkg/status -nt "$s" ] || [ /var/lib/apt/extended_states -nt "$s" ]; then
    r=$(apt-get -s autoremove 2>/dev/null | while read -r k n rest; do [ "$k" != Remv ] || echo "removable $n"; done)
    if [ -n "$r" ]; then echo "$r"; elif [ -d "$B" ]; then : >"$s"; fi
fi
