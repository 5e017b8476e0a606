# Shared by the steps that make, join and leave a cluster.
# Its cache of the API's shape goes to memory, not to a card.
kubectl_admin() { kubectl --cache-dir /run/bramble/kube-cache --kubeconfig /etc/kubernetes/admin.conf "$@"; }

# A file for this run only, in memory, that nobody else can read.
private_file() { # path text
    mkdir -p /run/bramble
    chmod 700 /run/bramble
    (umask 077; printf '%s' "$2" >"$1")
}

# Kubernetes leaves the node, whatever state it was in. kubeadm reset asks crictl for containers, and leaves CNI and
# packet filter rules behind, so the rest is done here.
reset_kubernetes() {
    systemctl stop kubelet 2>/dev/null || :
    if command -v kubeadm >/dev/null; then kubeadm reset -f >/dev/null 2>&1 || :; fi
    if command -v ctr >/dev/null && [ -S /run/containerd/containerd.sock ]; then
        ctr -n k8s.io tasks ls -q 2>/dev/null | while read -r c; do ctr -n k8s.io tasks kill -s KILL "$c" 2>/dev/null || :; done
        n=0
        while [ -n "$(ctr -n k8s.io tasks ls 2>/dev/null | grep RUNNING)" ] && [ "$n" -lt 50 ]; do sleep 0.1; n=$((n + 1)); done
        ctr -n k8s.io tasks ls -q 2>/dev/null | while read -r c; do ctr -n k8s.io tasks rm -f "$c" >/dev/null 2>&1 || :; done
        ctr -n k8s.io containers ls -q 2>/dev/null | while read -r c; do ctr -n k8s.io containers rm "$c" 2>/dev/null || :; done
    fi
    awk '$2 ~ "^/var/lib/kubelet/" || $2 ~ "^/run/netns/cni-" { print $2 }' /proc/self/mounts | sort -r | while read -r m; do umount -l "$m" 2>/dev/null || :; done
    for n in /run/netns/cni-*; do [ ! -e "$n" ] || rm -f "$n"; done
    rm -rf /etc/kubernetes/* /var/lib/etcd/* /var/lib/cni/* /run/flannel
    find /var/lib/kubelet -mindepth 1 -delete 2>/dev/null || :
    for l in cni0 flannel.1 flannel-v6.1 kube-ipvs0 vxlan.calico; do ip link del "$l" 2>/dev/null || :; done
    ip -o link show type veth 2>/dev/null | awk -F': ' '$2 ~ /^veth|^cali/ { sub(/@.*/, "", $2); print $2 }' | while read -r l; do ip link del "$l" 2>/dev/null || :; done
    for t in iptables ip6tables; do
        if command -v "$t-save" >/dev/null; then
            "$t-save" 2>/dev/null | grep -v 'KUBE-\|CNI-\|cali-\|FLANNEL-' | "$t-restore" 2>/dev/null || :
        fi
    done
    # On cgroup v1 the groups of the pods stay when the kubelet goes.
    for d in /sys/fs/cgroup/*/kubepods /sys/fs/cgroup/kubepods /sys/fs/cgroup/*/kubepods.slice /sys/fs/cgroup/kubepods.slice; do
        [ ! -d "$d" ] || find "$d" -depth -type d -exec rmdir {} \; 2>/dev/null || :
    done
    rm -f "$B/done/ca-hash"
}

after_reset() {
    if [ "$again" = yes ]; then
        echo 'an earlier attempt was cut off: starting over'
        reset_kubernetes
    fi
    rm -f "$B/done/ca-hash"
}

kubeadm_init() { # --upload-certs|-- skipped-phases
    c=/run/bramble/kubeadm.yaml
    after_reset
    # The CA comes first, so that the other nodes know whom to trust while this one is still starting.
    kubeadm init phase certs all --config "$c"
    k=$(openssl x509 -pubkey -noout -in /etc/kubernetes/pki/ca.crt | openssl pkey -pubin -outform der | sha256sum)
    k=sha256:${k%% *}
    echo "@fact ca-hash $k"
    set -- "$1" ${2:+"--skip-phases=$2"}
    [ "$1" != -- ] || shift
    {
        kubeadm init --config "$c" "$@" 2>&1
        echo "exit $?"
    } | {
        rc=1
        while IFS= read -r l; do
            case $l in
            'exit '*) rc=${l#exit }; continue ;;
            '[kubelet-finalize]'*)
                # Joining waits in steps of five seconds for the signature of cluster-info: tell when it is there.
                if [ -z "${told:-}" ]; then
                    told=yes
                    n=0
                    until kubectl_admin -n kube-public get configmap cluster-info -o yaml 2>/dev/null | grep -q jws-kubeconfig- || [ "$n" -gt 100 ]; do sleep 0.2; n=$((n + 1)); done
                    echo '@fact joinable yes'
                fi
                ;;
            *token*[a-z0-9].[a-z0-9]* | *discovery-token* | *certificate-key*) continue ;;
            esac
            printf '%s\n' "$l"
        done
        [ "$rc" = 0 ] || unit_failed kubelet
        exit "$rc"
    }
    rm -f "$c"
    step_ends ca-hash "$k"
}

kubeadm_join() { # skipped-phases
    after_reset
    set -- ${1:+"--skip-phases=$1"}
    kubeadm join --config /run/bramble/kubeadm.yaml "$@" 2>&1 || unit_failed kubelet
    rm -f /run/bramble/kubeadm.yaml
}
