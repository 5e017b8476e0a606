modules() {
    loaded=' '
    [ ! -r /proc/modules ] || while read -r m rest; do loaded="$loaded$m "; done </proc/modules
    for m in "$@"; do
        u=
        r=$m
        while :; do case $r in *-*) u=$u${r%%-*}_ r=${r#*-} ;; *) u=$u$r; break ;; esac; done
        case $loaded in *" $u "*) echo "module $m"; continue ;; esac
        if [ -d "/sys/module/$u" ]; then echo "module $m"; continue; fi
        case $u in
        br_netfilter) [ ! -d /proc/sys/net/bridge ] || echo "module $m" ;;
        overlay) while read -r a b; do if [ "$a" = overlay ] || [ "$b" = overlay ]; then echo "module $m"; break; fi; done </proc/filesystems ;;
        nf_conntrack) [ ! -e /proc/sys/net/netfilter/nf_conntrack_max ] || echo "module $m" ;;
        *) k=; read -r k </proc/sys/kernel/osrelease || :
           if [ -r "/lib/modules/$k/modules.builtin" ] && grep -q "/$m.ko\|/$u.ko" "/lib/modules/$k/modules.builtin"; then echo "module $m"; fi ;;
        esac
    done
}
