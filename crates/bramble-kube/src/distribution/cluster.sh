# Shared by the scripts of all distributions. Takes B and the functions of steps.sh; service, the unit of the programs; again,
# whether an earlier attempt was cut off (`step_begins` sets it); and of the distribution kubectl_admin, was_member,
# reset_kubernetes.
# Defines: private_file, private_folder, api_answers, address_has_api, pods_warnings, leave_old, forget_cluster, stop_units, remove_link, remove_rules, remove_pods_network.
# A distribution defines besides: stop_kubernetes, forget_node, forget_tokens, snapshot_state.

# A file for this run only, in memory, that nobody else can read.
private_file() { # path text
    private_folder
    (umask 077; printf '%s' "$2" >"$1")
}

# What programs say lies there, too, and may hold secrets.
private_folder() {
    mkdir -p /run/bramble
    chmod 700 /run/bramble
}

api_answers() { # seconds [kubectl's --server=…]
    n=0
    until a=$(kubectl_admin ${2:+"$2"} get --raw /readyz 2>&1); do
        if [ "$n" -ge "$((2 * $1))" ]; then
            {
                echo 'the API does not answer'
                printf '%s\n' "$a" | tail -n 3
                unit_failed "$service"
            } >&2
            return 1
        fi
        sleep 0.5; n=$((n + 1))
    done
}

# Whether an API answers at an address, whatever it says to somebody whom it does not know.
address_has_api() { curl -sk -o /dev/null --max-time 3 "https://$1:$2/readyz"; } # question

# What was said last of these pods in warning, a line each. Of one whose containers are being made only events tell more.
pods_warnings() { # namespace pods…
    private_folder
    kubectl_admin -n "$1" get events --field-selector type=Warning,involvedObject.kind=Pod --sort-by=.lastTimestamp \
        -o 'jsonpath={range .items[*]}{.involvedObject.name}: {.message}{"\n"}{end}' </dev/null >/run/bramble/events
    shift
    for p in "$@"; do
        awk -v p="$p: " 'index($0, p) == 1 { l = $0 } END { if (l != "") print substr(l, 1, 400) }' /run/bramble/events
    done
    rm -f /run/bramble/events
}

# Begins with a node that is in no cluster.
leave_old() {
    if [ "$again" = yes ]; then echo 'an earlier attempt was cut off: starting over'
    elif was_member; then echo 'the node leaves the cluster that it was in'
    else return 0; fi
    reset_kubernetes
}

# The marks of a membership that is over.
forget_cluster() { rm -f "$B/done/ca-hash" "$B/done/version" "$B/done/members" "$B/done/addons" "$B/done/settings" "$B/done/arguments"; }

# Stops those of these units that there are. Files go only when nobody writes them any more.
stop_units() { # units…
    for u in "$@"; do
        l=$(systemctl show -p LoadState --value "$u")
        [ "$l" = not-found ] || systemctl stop "$u"
    done
}

# Removes a network interface, if it is there. One end of a pair takes the other with it.
remove_link() { # name
    [ ! -e "/sys/class/net/$1" ] || best_effort ip link del "$1"
}

# Removes what Kubernetes and its networks put into the packet filter; other rules stay.
remove_rules() { # iptables|ip6tables|iptables-legacy|ip6tables-legacy
    "$1-save" >/run/bramble/rules
    r='KUBE-\|CNI-\|cali-\|FLANNEL-\|flanneld\|kube-router\|kube-bridge\|kube-dummy-if'
    if grep -q "$r" /run/bramble/rules; then
        sed -i "/$r/d" /run/bramble/rules
        "$1-restore" </run/bramble/rules
    fi
    rm -f /run/bramble/rules
}

# What pods and their network leave behind when the programs that made them have ended.
remove_pods_network() {
    private_folder
    if [ -e /run/flannel/subnet.env ]; then
        # flannel's routes to the pods of others, where it makes no link of its own, outlive it.
        while IFS='=' read -r k v; do
            [ "$k" != FLANNEL_NETWORK ] || best_effort ip route flush root "$v" proto boot
        done </run/flannel/subnet.env
    fi
    unmount_below /var/lib/kubelet/ /run/netns/cni- /var/lib/cni/ /run/flannel/
    for n in /run/netns/cni-*; do [ ! -e "$n" ] || rm -f "$n"; done
    rm -rf --one-file-system /var/lib/cni/* /run/flannel
    [ ! -d /var/lib/kubelet ] || best_effort find /var/lib/kubelet -xdev -mindepth 1 -delete
    for l in cni0 flannel.1 flannel-v6.1 kube-ipvs0 vxlan.calico; do remove_link "$l"; done
    ip -o link show type veth >/run/bramble/links
    awk -F': ' '$2 ~ /^veth|^cali/ { sub(/@.*/, "", $2); print $2 }' /run/bramble/links | while read -r l; do remove_link "$l"; done
    rm -f /run/bramble/links
    # Calico's for a node's own blocks lead nowhere, on no link.
    best_effort ip route flush proto 80
    for t in iptables ip6tables iptables-legacy ip6tables-legacy; do
        if command -v "$t-save" >/dev/null; then
            # A kernel without IPv6 has no rules for it either.
            attempt remove_rules "$t"
            [ "$rc" = 0 ] || echo "@tried $rc remove the rules of $t" >&3
        fi
    done
    # With it the kubelet has asked for time to end pods in.
    if [ -e /etc/systemd/logind.conf.d/99-kubelet.conf ]; then
        rm -f /etc/systemd/logind.conf.d/99-kubelet.conf
        rmdir /etc/systemd/logind.conf.d 2>/dev/null || :
        best_effort systemctl kill -s HUP systemd-logind
    fi
    # With systemd's driver the groups of the pods are units.
    u=$(systemctl list-units --all --plain --no-legend 'kubepods*.slice')
    u=$(echo "$u" | awk '{ print $1 }')
    # shellcheck disable=SC2086 # Their names have no spaces.
    [ -z "$u" ] || best_effort systemctl stop $u
    # On cgroup v1 the groups of the pods stay when the kubelet goes.
    for d in /sys/fs/cgroup/*/kubepods /sys/fs/cgroup/kubepods /sys/fs/cgroup/*/kubepods.slice /sys/fs/cgroup/kubepods.slice; do
        [ ! -d "$d" ] || best_effort find "$d" -depth -type d -exec rmdir {} +
    done
}
