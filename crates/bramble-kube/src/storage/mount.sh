# Folders that all nodes share. Takes B and the functions of steps.sh; defines mounted.

# The services try again by themselves; this only waits for them.
mounted() { # units…
    for u in "$@"; do
        # Its file may have changed while the other side was not ready for it.
        if [ -e "$B/pending/restart.$u" ]; then
            best_effort systemctl restart "$u"
            rm -f "$B/pending/restart.$u"
        fi
        n=0
        until systemctl -q is-active "$u"; do
            [ "$n" -lt 40 ] || { journalctl -q -n 8 -o cat -u "$u" >&2; echo "$u does not mount" >&2; return 1; }
            best_effort systemctl start "$u"
            systemctl -q is-active "$u" || sleep 1
            n=$((n + 1))
        done
    done
}
