# Shared by the scripts of all distributions, which define `kubectl_admin`, `was_member`,
# `stop_kubernetes`, `reset_kubernetes`, and `service`, the unit of the programs.

# A file for this run only, in memory, that nobody else can read.
private_file() { # path text
    mkdir -p /run/bramble
    chmod 700 /run/bramble
    (umask 077; printf '%s' "$2" >"$1")
}

api_answers() { # seconds [kubectl's --server=…]
    n=0
    until kubectl_admin ${2:+"$2"} get --raw /readyz >/dev/null 2>&1; do
        if [ "$n" -ge "$((2 * $1))" ]; then
            { echo 'the API does not answer'; unit_failed "$service"; } >&2
            return 1
        fi
        sleep 0.5; n=$((n + 1))
    done
}

# Begins with a node that is in no cluster.
leave_old() {
    if [ "$again" = yes ]; then echo 'an earlier attempt was cut off: starting over'
    elif was_member; then echo 'the node leaves the cluster that it was in'
    else return 0; fi
    reset_kubernetes
}

# The marks of a membership that is over.
forget_cluster() { rm -f "$B/done/ca-hash" "$B/done/version" "$B/done/members" "$B/done/addons"; }

# What pods and their network leave behind when the programs that made them have ended.
remove_pods_network() {
    awk '$2 ~ "^/var/lib/kubelet/" || $2 ~ "^/run/netns/cni-" { print $2 }' /proc/self/mounts | sort -r | while read -r m; do umount -l "$m" 2>/dev/null || :; done
    for n in /run/netns/cni-*; do [ ! -e "$n" ] || rm -f "$n"; done
    rm -rf /var/lib/cni/* /run/flannel
    find /var/lib/kubelet -mindepth 1 -delete 2>/dev/null || :
    for l in cni0 flannel.1 flannel-v6.1 kube-ipvs0 vxlan.calico; do ip link del "$l" 2>/dev/null || :; done
    ip -o link show type veth 2>/dev/null | awk -F': ' '$2 ~ /^veth|^cali/ { sub(/@.*/, "", $2); print $2 }' | while read -r l; do ip link del "$l" 2>/dev/null || :; done
    for t in iptables ip6tables; do
        if command -v "$t-save" >/dev/null; then
            "$t-save" 2>/dev/null | grep -v 'KUBE-\|CNI-\|cali-\|FLANNEL-\|flanneld' | "$t-restore" 2>/dev/null || :
        fi
    done
    # On cgroup v1 the groups of the pods stay when the kubelet goes.
    for d in /sys/fs/cgroup/*/kubepods /sys/fs/cgroup/kubepods /sys/fs/cgroup/*/kubepods.slice /sys/fs/cgroup/kubepods.slice; do
        [ ! -d "$d" ] || find "$d" -depth -type d -exec rmdir {} \; 2>/dev/null || :
    done
}
