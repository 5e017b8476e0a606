# What kubeadm needs.
kubectl_admin() { kubectl --cache-dir /run/bramble/kube-cache --kubeconfig /etc/kubernetes/admin.conf "$@"; }

# etcd's own client, in its container. The node's name is its hostname.
etcd_ctl() {
    kubectl_admin -n kube-system exec "etcd-$(hostname)" -- etcdctl --endpoints=https://127.0.0.1:2379 \
        --cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/server.crt --key=/etc/kubernetes/pki/etcd/server.key "$@"
}

# A member that never started has no name yet, but an address.
forget_node() { # name address
    # The way into the container leads through the kubelet, which may be starting.
    n=0
    until m=$(etcd_ctl member list 2>/run/bramble/etcd); do
        [ "$n" -lt 60 ] || { cat /run/bramble/etcd >&2; return 1; }
        sleep 1; n=$((n + 1))
    done
    for m in $(echo "$m" | awk -F', ' -v name="$1" -v peer="https://$2:2380" '$3 == name || $4 == peer { print $1 }'); do
        etcd_ctl member remove "$m" >/dev/null
    done
    # Those that join ask the pods of etcd for its members.
    kubectl_admin -n kube-system delete pod "etcd-$1" --ignore-not-found --grace-period=0 --force >/dev/null 2>&1
    kubectl_admin delete node "$1" --ignore-not-found --wait=false >/dev/null
}

# Kubernetes leaves the node, whatever state it was in. `kubeadm reset` is no help: it asks a cluster that may be gone
# to forget the node, for minutes, and leaves CNI and packet filter rules behind.
reset_kubernetes() {
    systemctl stop kubelet 2>/dev/null || :
    if command -v ctr >/dev/null && [ -S /run/containerd/containerd.sock ]; then
        ctr -n k8s.io tasks ls -q 2>/dev/null | while read -r c; do ctr -n k8s.io tasks kill -s KILL "$c" 2>/dev/null || :; done
        n=0
        while [ -n "$(ctr -n k8s.io tasks ls 2>/dev/null | grep RUNNING)" ] && [ "$n" -lt 50 ]; do sleep 0.1; n=$((n + 1)); done
        ctr -n k8s.io tasks ls -q 2>/dev/null | while read -r c; do ctr -n k8s.io tasks rm -f "$c" >/dev/null 2>&1 || :; done
        ctr -n k8s.io containers ls -q 2>/dev/null | while read -r c; do ctr -n k8s.io containers rm "$c" 2>/dev/null || :; done
    fi
    rm -rf /etc/kubernetes/* /var/lib/etcd/*
    remove_pods_network
    forget_cluster
}

was_member() { [ -e /etc/kubernetes/kubelet.conf ]; }

# Makes etcd's folder out of a backup, beside its place: until that has worked nothing of the old state is touched.
unpack_state() { # archive address
    set -- /var/lib/bramble/restore "$2" "$1"
    rm -rf "$1"
    mkdir -m 700 "$1"
    tar -C "$1" -xzf "$3"
    i=$(kubeadm config images list --config /run/bramble/kubeadm.yaml 2>/dev/null | grep '/etcd:')
    ctr -n k8s.io images ls -q | grep -qxF "$i" || ctr -n k8s.io images pull "$i" >/dev/null
    mkdir "$1/out"
    # From etcd 3.6 on another program does it.
    for p in etcdutl etcdctl; do
        ctr -n k8s.io run --rm --mount "type=bind,src=$1,dst=/backup,options=rbind:rw" "$i" bramble-restore \
            "$p" snapshot restore /backup/etcd.db --data-dir /backup/out/etcd --name "$(hostname)" \
            --initial-cluster "$(hostname)=https://$2:2380" --initial-advertise-peer-urls "https://$2:2380" >"$1/log" 2>&1 && break
        [ "$p" = etcdutl ] || { tail -n 5 "$1/log"; return 1; }
        ctr -n k8s.io containers rm bramble-restore 2>/dev/null || :
    done
}

# Puts it where kubeadm looks for it. Certificates of machines are made again.
place_state() { # archive
    set -- /var/lib/bramble/restore "$1"
    mkdir -p /etc/kubernetes/pki/etcd /var/lib/etcd
    cp -p "$1"/pki/*.* /etc/kubernetes/pki/
    cp -p "$1"/pki/etcd/*.* /etc/kubernetes/pki/etcd/
    rm -rf /var/lib/etcd/*
    chmod 700 /var/lib/etcd
    mv "$1/out/etcd/member" /var/lib/etcd/
    rm -rf "$1" "$2"
}

# All that makes the cluster what it is: its data, and the keys without which they are worth nothing.
snapshot_state() { # folder
    mkdir -p "$1/pki/etcd"
    cp -p /etc/kubernetes/pki/ca.* /etc/kubernetes/pki/front-proxy-ca.* /etc/kubernetes/pki/sa.* "$1/pki/"
    cp -p /etc/kubernetes/pki/etcd/ca.* "$1/pki/etcd/"
    # etcd's container has this one folder of the node's.
    rm -f /var/lib/etcd/bramble.db*
    etcd_ctl snapshot save /var/lib/etcd/bramble.db >/dev/null
    mv /var/lib/etcd/bramble.db "$1/etcd.db"
}

# kubeadm 1.20 asks for disk space for etcd. A kubelet that has just started does not know yet how much there is, and
# refuses that pod for good: so it asks for none.
patched() {
    case $minor in 20 | 21) ;; *) return 0 ;; esac
    mkdir -p /run/bramble/patches
    echo '{ "spec": { "containers": [{ "name": "etcd", "resources": { "requests": { "ephemeral-storage": null } } }] } }' \
        >/run/bramble/patches/etcd+strategic.json
    echo --experimental-patches=/run/bramble/patches
}

kubeadm_init() { # --upload-certs|-- skipped-phases address backup
    c=/run/bramble/kubeadm.yaml
    [ -z "$4" ] || unpack_state "$4" "$3"
    leave_old
    [ -z "$4" ] || place_state "$4"
    # The CA comes first, so that the other nodes know whom to trust while this one is still starting.
    kubeadm init phase certs all --config "$c"
    k=$(openssl x509 -pubkey -noout -in /etc/kubernetes/pki/ca.crt | openssl pkey -pubin -outform der | sha256sum)
    k=sha256:${k%% *}
    echo "@fact ca-hash $k"
    set -- "$1" ${2:+"--skip-phases=$2"}
    [ "$1" != -- ] || shift
    {
        kubeadm init --config "$c" "$@" $(patched) 2>&1
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

kubeadm_join() {
    leave_old
    timeout 900 kubeadm join --config /run/bramble/kubeadm.yaml $(patched) 2>&1 || unit_failed kubelet
    rm -f /run/bramble/kubeadm.yaml
}

# Those of others stay. With the second one goes what `kubeadm init --upload-certs` keeps for two hours.
forget_tokens() {
    for d in bramble 'Proxy for managing TTL for the kubeadm-certs secret'; do
        kubectl_admin -n kube-system get secrets --field-selector type=bootstrap.kubernetes.io/token \
            -o "jsonpath={range .items[?(@.data.description==\"$(printf %s "$d" | base64 -w0)\")]}{.metadata.name}{\"\n\"}{end}"
    done | while read -r t; do kubectl_admin -n kube-system delete secret "$t" >/dev/null; done
}

# The certificates of the control planes, encrypted, for two hours.
upload_certificates() {
    kubeadm init phase upload-certs --upload-certs --config /run/bramble/kubeadm.yaml >/dev/null
    rm -f /run/bramble/kubeadm.yaml
}

# The first control plane takes the cluster along, the others follow it.
kubeadm_upgrade() { # apply|node version
    if [ "$1" = apply ]; then
        dns=$(kubectl_admin -n kube-system get deployment coredns --ignore-not-found -o name)
        kubeadm upgrade apply "v$2" --yes $(patched) --ignore-preflight-errors=ImagePull,CoreDNSUnsupportedPlugins,CoreDNSMigration 2>&1
        # It brings a cluster DNS also where there was none, for want of an image.
        [ -n "$dns" ] || kubectl_admin -n kube-system delete deployment,configmap coredns --ignore-not-found >/dev/null
    else kubeadm upgrade node $(patched) --ignore-preflight-errors=ImagePull 2>&1; fi
    systemctl daemon-reload
    systemctl restart kubelet || unit_failed kubelet
}

# The containers of the system on this node: these, or all.
system_containers() { # [container…]
    ctr -n k8s.io containers ls -q \
        'labels."io.kubernetes.pod.namespace"~="^(kube|calico|tigera)-",labels."io.cri-containerd.kind"==container' | while read -r c; do
        n=$(ctr -n k8s.io containers info "$c" | sed -n 's/.*"io.kubernetes.container.name": "\([^"]*\)".*/\1/p' | head -n 1)
        case " ${*:-$n} " in *" ${n:-none} "*) echo "$c" ;; esac
    done
}

# Ends them; the kubelet starts them again.
restart_system() { # [container…]
    system_containers "$@" >/run/bramble/ending
    # An API server waits a minute for those who watch; five seconds are enough for a request.
    for s in TERM KILL; do
        while read -r c; do ctr -n k8s.io tasks kill -s "$s" "$c" 2>/dev/null || :; done </run/bramble/ending
        [ "$s" = KILL ] || sleep 5
    done
    rm -f /run/bramble/ending
}

# Its programs end and stay so; its data stay.
stop_kubernetes() {
    systemctl stop kubelet
    system_containers | while read -r c; do ctr -n k8s.io tasks kill -s KILL "$c" 2>/dev/null || :; done
}

renew_certificates() {
    kubeadm certs renew all >/dev/null
    # The programs read them when they start.
    restart_system kube-apiserver kube-controller-manager kube-scheduler etcd
    sleep 2
    api_answers 120
}
