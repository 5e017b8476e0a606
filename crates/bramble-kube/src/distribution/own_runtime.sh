# For distributions that bring a container runtime of their own and are one service. They define `runs`, whether it does,
# and `hopeless`, a line of its journal after which it never will.

# The processes with these numbers and all that they started.
descendants() { # pid…
    sed 's/(.*) //' /proc/[0-9]*/stat 2>/dev/null | awk -v roots="$*" '
        BEGIN { n = split(roots, r, " "); for (i = 1; i <= n; i++) want[r[i]] = 1 }
        { parent[$1] = $3 }
        END {
            do { more = 0; for (p in parent) if ((parent[p] in want) && !(p in want)) { want[p] = 1; more = 1 } } while (more)
            for (p in want) print p
        }'
}

# Ends the containers whose shims are below this folder: they outlive the service, and nothing starts them again.
end_pods() { # folder
    s=
    for p in /proc/[0-9]*; do
        case $(tr '\0' ' ' <"$p/cmdline" 2>/dev/null) in "$1"/*containerd-shim*) s="$s ${p#/proc/}" ;; esac
    done
    # shellcheck disable=SC2046,SC2086
    [ -z "$s" ] || kill -9 $(descendants $s) 2>/dev/null || :
}

# Starts the service or starts it again, and waits until it runs; one that ends again and again has failed.
service_runs() { # start|restart
    systemctl daemon-reload
    systemctl reset-failed "$service" 2>/dev/null || :
    r=$(systemctl show -p NRestarts --value "$service")
    t=$(date +%s)
    systemctl --no-block "$1" "$service"
    sleep 1
    n=0
    until runs; do
        if [ -n "$hopeless" ] && journalctl -q --no-pager --since "@$t" -o cat -u "$service" | grep -q "$hopeless"; then
            unit_failed "$service"
        fi
        if [ "$n" -ge 600 ] || [ "$(($(systemctl show -p NRestarts --value "$service") - r))" -ge 5 ]; then
            unit_failed "$service"
        fi
        sleep 1; n=$((n + 1))
    done
}
