# What kubeadm needs. Takes service; and the functions of steps.sh and cluster.sh.
# Defines what cluster.sh asks of a distribution, and: etcd_ctl, end_containers, unpack_state, place_state, patched,
# kubeadm_init, pod_patches, etcd_runs_with, etcd_settings, kubeadm_settings, tell_progress, kubeadm_join, tell_token, upload_certificates, kubeadm_upgrade, system_containers,
# kill_containers, restart_system, renew_certificates.
kubectl_node() { kubectl --cache-dir /run/bramble/kube-cache --kubeconfig /etc/kubernetes/kubelet.conf "$@"; } # question
kubectl_admin() { kubectl --cache-dir /run/bramble/kube-cache --kubeconfig /etc/kubernetes/admin.conf "$@"; } # question

# etcd's own client, in its container. The node's name is its hostname.
etcd_ctl() { # question
    h=$(hostname) || return 1
    kubectl_admin -n kube-system exec "etcd-$h" -- etcdctl --endpoints=https://127.0.0.1:2379 \
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
    m=$(echo "$m" | awk -F', ' -v name="$1" -v peer="https://$2:2380" '$3 == name || $4 == peer { print $1 }')
    for m in $m; do
        etcd_ctl member remove "$m" >/dev/null
    done
    # Those that join ask the pods of etcd for its members.
    kubectl_admin -n kube-system delete pod "etcd-$1" --ignore-not-found --grace-period=0 --force >/dev/null
    kubectl_admin delete node "$1" --ignore-not-found --wait=false >/dev/null
}

# Ends all containers of Kubernetes, and removes them.
end_containers() {
    mkdir -p /run/bramble
    ctr -n k8s.io tasks ls -q >/run/bramble/ending
    kill_containers /run/bramble/ending
    ctr -n k8s.io tasks ls -q >/run/bramble/ending
    while read -r c; do best_effort ctr -n k8s.io tasks rm -f "$c"; done </run/bramble/ending
    ctr -n k8s.io containers ls -q >/run/bramble/ending
    while read -r c; do best_effort ctr -n k8s.io containers rm "$c"; done </run/bramble/ending
    rm -f /run/bramble/ending
    # Its CRI side still lists what went behind its back. A kubelet that comes back to the same pods, after a restore, could
    # never remove those, and so never end a pod.
    systemctl try-restart containerd
}

# Kubernetes leaves the node, whatever state it was in. `kubeadm reset` is no help: it asks a cluster that may be gone
# to forget the node, for minutes, and leaves CNI and packet filter rules behind.
reset_kubernetes() {
    stop_units kubelet
    if command -v ctr >/dev/null && [ -S /run/containerd/containerd.sock ]; then
        # Its daemon may be broken, or stopped: what it left goes all the same.
        attempt end_containers
        [ "$rc" = 0 ] || echo "@tried $rc end the containers" >&3
    fi
    unmount_below /etc/kubernetes/ /var/lib/etcd/
    rm -rf --one-file-system /etc/kubernetes/* /var/lib/etcd/*
    remove_pods_network
    forget_cluster
}

was_member() { [ -e /etc/kubernetes/kubelet.conf ]; } # question

# Makes etcd's folder out of a backup, beside its place: until that has worked nothing of the old state is touched.
unpack_state() { # archive address
    set -- /var/lib/bramble/restore "$2" "$1"
    rm -rf "$1"
    mkdir -m 700 "$1"
    tar -C "$1" -xzf "$3"
    i=$(kubeadm config images list --config /run/bramble/kubeadm.yaml)
    i=$(echo "$i" | grep '/etcd:') || { echo 'kubeadm names no image of etcd' >&2; return 1; }
    l=$(ctr -n k8s.io images ls -q)
    echo "$l" | grep -qxF "$i" || ctr -n k8s.io images pull "$i" >/dev/null
    mkdir "$1/out"
    h=$(hostname)
    # From etcd 3.6 on another program does it.
    for p in etcdutl etcdctl; do
        # An earlier attempt may have left its container.
        ctr -n k8s.io containers rm bramble-restore 2>/dev/null || :
        ctr -n k8s.io run --rm --mount "type=bind,src=$1,dst=/backup,options=rbind:rw" "$i" bramble-restore \
            "$p" snapshot restore /backup/etcd.db --data-dir /backup/out/etcd --name "$h" \
            --initial-cluster "$h=https://$2:2380" --initial-advertise-peer-urls "https://$2:2380" >"$1/log.$p" 2>&1 && return 0
    done
    tail -n 5 "$1/log.etcdutl" "$1/log.etcdctl" >&2
    return 1
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

# Passes on what kubeadm says, but for its secrets, and tells when others can join. Ends as kubeadm did, which its last line
# says.
tell_progress() {
    rc=1 told=
    while IFS= read -r l; do
        case $l in
        'exit '*) rc=${l#exit }; continue ;;
        '[kubelet-finalize]'*)
            # Joining waits in steps of five seconds for the signature of cluster-info: tell when it is there.
            if [ -z "$told" ]; then
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
    return "$rc"
}

kubeadm_init() { # --upload-certs|-- skipped-phases address backup
    c=/run/bramble/kubeadm.yaml b=$4
    [ -z "$4" ] || unpack_state "$4" "$3"
    leave_old
    [ -z "$4" ] || place_state "$4"
    # The CA comes first, so that the other nodes know whom to trust while this one is still starting.
    kubeadm init phase certs all --config "$c"
    openssl x509 -pubkey -noout -in /etc/kubernetes/pki/ca.crt >/run/bramble/ca.pub
    openssl pkey -pubin -in /run/bramble/ca.pub -outform der -out /run/bramble/ca.der
    k=$(sha256sum </run/bramble/ca.der)
    k=sha256:${k%% *}
    rm -f /run/bramble/ca.pub /run/bramble/ca.der
    echo "@fact ca-hash $k"
    set -- "$1" ${2:+"--skip-phases=$2"}
    [ "$1" != -- ] || shift
    # shellcheck disable=SC2310 # It only reads and prints.
    {
        e=0
        kubeadm init --config "$c" "$@" 2>&1 || e=$?
        echo "exit $e"
    } | tell_progress || unit_failed kubelet
    rm -f "$c"
    # Proxies that the backup remembers begin before kubeadm tells them where the API is now, which may be another address.
    [ -z "$b" ] || kubectl_admin -n kube-system delete pods -l k8s-app=kube-proxy --wait=false >/dev/null
    step_ends ca-hash "$k"
}

# Writes patches that kubeadm applies to the pods of the control plane, each under the name of its program; others go. Sets
# patched, whether there are any but etcd's, or were; and etcd_had, the flags that etcd had by its patch.
pod_patches() { # folder [program patch]…
    d=$1
    shift
    mkdir -p "$d"
    patched=
    etcd_had=
    for f in "$d"/kube-*+json.json; do [ ! -e "$f" ] || patched=yes; done
    if [ -e "$d/etcd+json.json" ]; then
        etcd_had=$(grep -o '"--[^"]*"' "$d/etcd+json.json")
        etcd_had=$(echo "$etcd_had" | tr -d '"')
    fi
    rm -f "$d"/kube-*+json.json "$d/etcd+json.json"
    while [ "$#" -gt 0 ]; do
        [ "$1" = etcd ] || patched=yes
        printf '%s\n' "$2" >"$d/$1+json.json"
        shift 2
    done
}

# Whether etcd runs with these flags, and without those that it only had.
etcd_runs_with() { # question
    p=$(pgrep -o -x etcd) || return 1
    tr '\0' '\n' <"/proc/$p/cmdline" >/run/bramble/etcd || return 1
    for f in "$@"; do grep -qxFe "$f" /run/bramble/etcd || return 1; done
    for f in $etcd_had; do
        case " $* " in *" $f "*) continue ;; esac
        ! grep -qxFe "$f" /run/bramble/etcd || return 1
    done
}

# Gives etcd its further flags, in the place of those that it had: kubeadm leaves its manifest alone where its version stays.
etcd_settings() { # [flag]…
    m=/etc/kubernetes/manifests/etcd.yaml
    [ -e "$m" ] || return 0
    # Not beside it, where the kubelet would take it for another pod.
    awk -v had="$etcd_had" -v told="$*" '
        BEGIN { n = split(had, h); for (i = 1; i <= n; i++) gone["- " h[i]] = 1; n = split(told, t); for (i = 1; i <= n; i++) gone["- " t[i]] = 1 }
        { l = $0; sub(/^ */, "", l) }
        !(l in gone) { print }
        l == "- etcd" { for (i = 1; i <= n; i++) print substr($0, 1, index($0, "-") - 1) "- " t[i] }' "$m" >/etc/kubernetes/etcd.new
    if cmp -s "$m" /etc/kubernetes/etcd.new; then rm /etc/kubernetes/etcd.new; return 0; fi
    chmod 600 /etc/kubernetes/etcd.new
    mv /etc/kubernetes/etcd.new "$m"
    private_folder
    n=0
    until etcd_runs_with "$@"; do
        [ "$n" -lt 120 ] || { echo 'etcd does not start with its new flags' >&2; unit_failed kubelet; return 1; }
        sleep 1; n=$((n + 1))
    done
    rm -f /run/bramble/etcd
    api_answers 120
}

# Makes anew what patches are for. What comes out as it was goes on running; pods that nothing is patched in stay as they are.
kubeadm_settings() { # patches [flag of etcd]…
    if [ -n "$patched" ] && [ -e /etc/kubernetes/manifests/kube-apiserver.yaml ]; then
        kubeadm upgrade node phase control-plane --certificate-renewal=false --etcd-upgrade=false --patches "$1" 2>&1
    fi
    kubeadm upgrade node phase kubelet-config --patches "$1" 2>&1
    rm -rf /etc/kubernetes/tmp
    systemctl restart kubelet || unit_failed kubelet
    shift
    etcd_settings "$@"
}

# Shows the plugins of a folder in another one, too; what lies there stays.
link_plugins() { # from to
    mkdir -p "$2"
    for f in "$1"/*; do [ -e "$2/${f##*/}" ] || ln -sfn "$f" "$2/"; done
}

kubeadm_join() {
    leave_old
    # The kubelet of a worker says each second that it has none; Debian packages of Kubernetes bring it.
    mkdir -p /etc/kubernetes/manifests
    timeout 900 kubeadm join --config /run/bramble/kubeadm.yaml 2>&1 || unit_failed kubelet
    rm -f /run/bramble/kubeadm.yaml
}

# Lets others in for half an hour.
tell_token() {
    t=$(kubeadm token create --ttl 30m --description bramble --kubeconfig /etc/kubernetes/admin.conf)
    [ -n "$t" ] || { echo 'kubeadm gives no token' >&2; return 1; }
    echo "@fact token $t"
}

# Those of others stay. With the second one goes what `kubeadm init --upload-certs` keeps for two hours.
forget_tokens() {
    for d in bramble 'Proxy for managing TTL for the kubeadm-certs secret'; do
        d=$(printf %s "$d" | base64 -w0)
        l=$(kubectl_admin -n kube-system get secrets --field-selector type=bootstrap.kubernetes.io/token \
            -o "jsonpath={range .items[?(@.data.description==\"$d\")]}{.metadata.name}{\"\n\"}{end}")
        # One that is over goes by itself meanwhile.
        for t in $l; do kubectl_admin -n kube-system delete secret "$t" --ignore-not-found >/dev/null; done
    done
}

# The certificates of the control planes, encrypted, for two hours.
upload_certificates() {
    kubeadm init phase upload-certs --upload-certs --config /run/bramble/kubeadm.yaml >/dev/null
    rm -f /run/bramble/kubeadm.yaml
}

# Tells the cluster the tags of the images of etcd and of its DNS, if it has one.
set_image_tags() { # etcd dns
    rm -rf /run/bramble/config
    mkdir -p /run/bramble/config
    chmod 700 /run/bramble/config
    kubectl_admin -n kube-system get configmap kubeadm-config -o 'jsonpath={.data.ClusterConfiguration}' >/run/bramble/config/old
    awk -v etcd="$1" -v dns="$2" '
        /^[a-zA-Z]/ { part = $1 }
        $1 == "imageTag:" && part == "etcd:" && etcd != "" { sub(/imageTag:.*/, "imageTag: " etcd) }
        $1 == "imageTag:" && part == "dns:" && dns != "" { sub(/imageTag:.*/, "imageTag: " dns) }
        { print }' /run/bramble/config/old >/run/bramble/config/ClusterConfiguration
    kubectl_admin -n kube-system create configmap kubeadm-config --from-file=/run/bramble/config/ClusterConfiguration \
        --dry-run=client -o yaml >/run/bramble/config/new.yaml
    kubectl_admin replace -f /run/bramble/config/new.yaml >/dev/null
    rm -rf /run/bramble/config
}

# The first control plane takes the cluster along, the others follow it.
kubeadm_upgrade() { # apply|node version checks-ignored patches
    mkdir -p "$4"
    if [ "$1" = apply ]; then
        dns=$(kubectl_admin -n kube-system get deployment coredns --ignore-not-found -o name)
        kubeadm upgrade apply "v$2" --yes --patches "$4" "--ignore-preflight-errors=$3" 2>&1
        # It brings a cluster DNS also where there was none, for want of an image.
        [ -n "$dns" ] || kubectl_admin -n kube-system delete deployment,configmap coredns --ignore-not-found >/dev/null
    else kubeadm upgrade node --patches "$4" "--ignore-preflight-errors=$3" 2>&1; fi
    systemctl daemon-reload
    systemctl restart kubelet || unit_failed kubelet
}

# The containers of the system on this node: these, or all.
system_containers() { # [container…]
    l=$(ctr -n k8s.io containers ls -q \
        'labels."io.kubernetes.pod.namespace"~="^(kube|calico|tigera)-",labels."io.cri-containerd.kind"==container')
    for c in $l; do
        if ! i=$(ctr -n k8s.io containers info "$c"); then
            # It may be gone by now.
            i=$(ctr -n k8s.io containers ls -q "id==$c")
            [ -z "$i" ] || return 1
            continue
        fi
        n=$(echo "$i" | sed -n 's/.*"io.kubernetes.container.name": "\([^"]*\)".*/\1/p' | head -n 1)
        case " ${*:-$n} " in *" ${n:-none} "*) echo "$c" ;; esac
    done
}

# Ends containers, and fails if one goes on.
kill_containers() { # file
    n=0
    while :; do
        t=$(ctr -n k8s.io tasks ls)
        l=$(echo "$t" | awk 'NR == FNR { k[$1] = 1; next } $1 in k && $3 == "RUNNING" { print $1 }' "$1" -)
        [ -n "$l" ] || return 0
        [ "$n" -lt 50 ] || { printf 'these containers do not end:\n%s\n' "$l" >&2; return 1; }
        for c in $l; do best_effort ctr -n k8s.io tasks kill -s KILL "$c"; done
        sleep 0.2; n=$((n + 1))
    done
}

# Ends them; the kubelet starts them again.
restart_system() { # [container…]
    mkdir -p /run/bramble
    system_containers "$@" >/run/bramble/ending
    # An API server waits a minute for those who watch; five seconds are enough for a request.
    while read -r c; do best_effort ctr -n k8s.io tasks kill -s TERM "$c"; done </run/bramble/ending
    sleep 5
    kill_containers /run/bramble/ending
    rm -f /run/bramble/ending
}

# Its programs end and stay so; its data stay.
stop_kubernetes() {
    mkdir -p /run/bramble
    systemctl stop kubelet
    system_containers >/run/bramble/ending
    kill_containers /run/bramble/ending
    rm -f /run/bramble/ending
}

renew_certificates() {
    kubeadm certs renew all >/dev/null
    # The programs read them when they start.
    restart_system kube-apiserver kube-controller-manager kube-scheduler etcd
    sleep 2
    api_answers 120
}
