# Keeps other runs off the node for as long as the shell that calls it is there. Takes nothing. Defines: lock_node.

lock_node() {
    (umask 077; mkdir -p /run/bramble)
    exec 9>/run/bramble/lock
    flock -n 9 || {
        n=0
        # It says that it waits while it does: a script that is silent is given up.
        until echo '@waiting' && flock -w 10 9; do
            [ "$n" -lt 90 ] || { echo '@busy'; exit 75; }
            n=$((n + 1))
        done
    }
}
