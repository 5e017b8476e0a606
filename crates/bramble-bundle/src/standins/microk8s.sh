#!/bin/sh
# Stands in for MicroK8s on the lab's racks, where its snap cannot be had: the interface of 1.36 as its source has it, in
# front of a real Kubernetes whose programs lie beside this script. It refuses every key of the launch configuration and
# every argument that the real one does not have, and whatever it does not know how to do. dqlite is an etcd here, calico
# a loop that keeps routes, and kubelite with its containerd one service.
set -eu
export LC_ALL=C
umask 022
VERSION=@VERSION@
PAUSE=@PAUSE@
SNAP=/snap/microk8s/current
D=/var/snap/microk8s/current
C=/var/snap/microk8s/common
BIN=$SNAP/bin LIB=$SNAP/lib
RUN=$C/run
P=$D/certs
DB=$D/var/kubernetes/backend/etcd
AGENT=$C/var/lib/standin
IMAGES=$C/none
KUBELET=$C/var/lib/kubelet
PLUGINS=/usr/libexec/kubernetes/kubelet-plugins/volume/exec
OPT=$C/var/lib/containerd
SANS= BOOTSTRAP=
# calico's own blocks lead nowhere, on no link, also when it is gone (felix, vxlan_mgr.go).
BLACKHOLE=80
API_PORT=16443 ANONYMOUS=true
UNIT=snap.microk8s.daemon-kubelite
JOIN=$D/var/joins
LOCK=$D/var/lock
@INNER@

fatal() { # message
    echo "$*" >&2
    exit 1
}
# A line each; what begins with # is none.
further() { [ ! -e "$D/args/$1" ] || grep -v '^#' "$D/args/$1"; } # program
is_worker() { [ -e "$LOCK/clustered.lock" ]; }
KEYS='version extraSANs.[] extraKubeAPIServerArgs.--authorization-mode extraKubeAPIServerArgs.--advertise-address
extraCNIEnv.IPv4_SUPPORT
extraCNIEnv.IPv4_CLUSTER_CIDR extraCNIEnv.IPv4_SERVICE_CIDR extraKubeletArgs.--cluster-dns
extraKubeletArgs.--cluster-domain extraKubeletArgs.--node-ip'

# The real one ignores keys that it does not know.
read_launch() {
    mkdir -p "$RUN"
    values "$C/etc/launcher/install.yaml" >"$RUN/values"
    while read -r key _; do
        # shellcheck disable=SC2086
        printf '%s\n' $KEYS | grep -qxF -e "$key" || fatal "unknown field \"$key\" in the launch configuration"
    done <"$RUN/values"
    [ "$(of version)" = 0.2.0 ] || fatal 'the version of the launch configuration is not known'
    [ "$(of extraKubeAPIServerArgs.--authorization-mode)" = RBAC,Node ] || fatal 'this stand-in for MicroK8s has only RBAC'
    NODE=$(hostname)
    IP=$(of extraKubeletArgs.--node-ip)
    [ -n "$IP" ] || IP=$(own_address)
    POD_RANGE=$(of extraCNIEnv.IPv4_CLUSTER_CIDR) SERVICE_RANGE=$(of extraCNIEnv.IPv4_SERVICE_CIDR)
    DNS=$(of extraKubeletArgs.--cluster-dns)
    SANS="$(of 'extraSANs.[]' | paste -sd' ' -) $NODE"
}

# Archives of images are taken from there, whenever they come.
sideload() {
    while sleep 2; do
        for i in "$C"/etc/sideload/*.tar; do
            [ -e "$i" ] && import "$i" && mv "$i" "$i.loaded" || :
        done
    done
}

# As the real one calls them.
show_keys() {
    cp -p "$P/sa.key" "$P/serviceaccount.key"
    cp "$P/apiserver.crt" "$P/server.crt"
    mkdir -p "$D/credentials"
    chmod 770 "$D/credentials"
    cp -p "$P/conf/admin.conf" "$D/credentials/client.config"
    cp -p "$P/conf/kubelet.conf" "$D/credentials/kubelet.config"
}

control_plane() {
    mkdir -p "$P" "$AGENT"
    if [ -e "$P/serviceaccount.key" ] && ! cmp -s "$P/serviceaccount.key" "$P/sa.key"; then
        cp -p "$P/serviceaccount.key" "$P/sa.key"
        openssl rsa -in "$P/sa.key" -pubout -out "$P/sa.pub" 2>/dev/null
    fi
    if [ -e "$DB/member/snap/db" ]; then
        inner_keys
        start_etcd "$NODE" "$NODE=https://$IP:2380" existing
    elif [ -e "$JOIN" ]; then
        read -r server token <"$JOIN"
        fetch_keys "$server" "$token"
        inner_keys
        e=https://$(live_server "$server" "$token"):2379
        [ -z "$(etcd_ctl "$e" member list | awk -F', ' -v p="https://$IP:2380" '$4 == p')" ] ||
            fatal "the joining node ($IP) is already known to dqlite"
        join_etcd_as "$e" "$NODE"
    else
        inner_keys
        start_etcd "$NODE" "$NODE=https://$IP:2380" new
    fi
    show_keys
    until etcd_ctl https://127.0.0.1:2379 endpoint health >/dev/null 2>&1; do sleep 0.5; done
    start_control_plane
    grant
    publish "pods=$POD_RANGE" "services=$SERVICE_RANGE" "dns=$DNS" "kubelet=$(cat "$D/args/kubelet")"
    cp "$P/ca.crt" "$AGENT/ca.crt"
    cp -p "$P/conf/kubelet.conf" "$AGENT/kubelet.conf"
    start_node microk8s.io/cluster=true,node.kubernetes.io/microk8s-controlplane=microk8s-controlplane ''
    rm -f "$JOIN"
    : >"$LOCK/cni-loaded"
    child sideload
    serve
}

worker() {
    mkdir -p "$AGENT" "$D/credentials"
    if [ -e "$JOIN" ]; then
        read -r server token <"$JOIN"
        until stranger "$server" "$token" -n kube-system get configmap standin -o json >"$AGENT/cluster.json" 2>"$RUN/error"; do
            say "cannot reach $server: $(tail -n 1 "$RUN/error")"
            sleep 2
        done
        known_servers "$server" "$token"
    fi
    cp "$AGENT/cluster.json" "$RUN/cluster.json"
    of_cluster ca >"$AGENT/ca.crt"
    POD_RANGE=$(of_cluster pods) DNS=$(of_cluster dns)
    child balance 16443
    until answers 127.0.0.1:16443; do sleep 0.5; done
    [ ! -e "$JOIN" ] || bootstrap_config https://127.0.0.1:16443 "$token"
    start_node microk8s.io/cluster=true,node.kubernetes.io/microk8s-worker=microk8s-worker ''
    ln -sfn "$AGENT/kubelet.conf" "$D/credentials/kubelet.config"
    sed '/END CERTIFICATE/q' "$AGENT/pki/kubelet-client-current.pem" >"$P/kubelet.crt"
    rm -f "$JOIN" "$AGENT/bootstrap.conf"
    child sideload
    serve
}

on_a_control_plane() {
    if is_worker; then
        echo 'This MicroK8s deployment is acting as a node in a cluster. Please use the microk8s command on the master.'
        exit "$1"
    fi
}
fingerprint() { openssl x509 -outform der | sha256sum | cut -c1-12; }

add_node() { # flag…
    ttl=-1 format=pretty
    while [ $# -gt 0 ]; do
        case $1 in
        -l | --token-ttl) ttl=$2 ;;
        --format) format=$2 ;;
        *) fatal "microk8s add-node: error: unrecognized arguments: $1" ;;
        esac
        shift 2
    done
    [ "$format" = token-check ] && [ "$ttl" -gt 0 ] || fatal 'this stand-in for MicroK8s makes only tokens that end, as token-check'
    word=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    (umask 077; echo "$word|$(($(date +%s) + ttl))" >>"$D/credentials/cluster-tokens.txt")
    let_in "$word"
    echo "$word/$(fingerprint <"$P/server.crt")"
}

join() { # address:port/token[/fingerprint] [--worker]
    case $# in 1) ;; 2) [ "$2" = --worker ] || fatal "Error: No such option: $2" ;; *) fatal 'Usage: microk8s join [OPTIONS] CONNECTION' ;; esac
    echo "$1" | grep -qx '[0-9]*\.[0-9]*\.[0-9]*\.[0-9]*:25000/[0-9a-f]*/[0-9a-f]*' || fatal "Invalid connection: $1"
    h=${1%%:*}
    t=${1#*/}
    echo "Contacting cluster at $h"
    f=$(openssl s_client -connect "$h:25000" </dev/null 2>/dev/null | fingerprint) || exit 5
    if [ "$f" != "${t#*/}" ]; then
        echo "Joining cluster failed. Could not verify the identity of $h. Use '--skip-verify' to skip server certificate check."
        exit 4
    fi
    t=$(token_of "${t%/*}")
    if ! stranger "https://$h:16443" "$t" -n kube-system get configmap standin >/dev/null 2>&1; then
        echo 'Connection failed. invalid token (500).'
        exit 6
    fi
    systemctl stop "$UNIT"
    rm -rf "$DB" "$P" "$AGENT/pki" "$AGENT"/*.conf "$D/credentials"
    mkdir -p "$P"
    (umask 077; echo "https://$h:16443 $t" >"$JOIN")
    # Its kubelet has those of the other node from now on.
    mkdir -p "$RUN"
    stranger "https://$h:16443" "$t" -n kube-system get configmap standin -o json >"$RUN/cluster.json"
    of_cluster kubelet >"$D/args/kubelet"
    : >"$LOCK/no-cert-reissue"
    [ $# = 1 ] || : >"$LOCK/clustered.lock"
    systemctl start "$UNIT"
    n=0
    while [ -e "$JOIN" ]; do
        [ "$n" -lt 300 ] || exit 7
        sleep 1; n=$((n + 1))
    done
    echo 'Successfully joined the cluster.'
}

member() { etcd_ctl https://127.0.0.1:2379 member list | awk -F', ' -v p="https://$1:2380" '$4 == p { print $1 }'; } # address

remove_node() { # name|address --force
    [ "${2:-}" = --force ] && [ $# = 2 ] || fatal 'this stand-in for MicroK8s removes only by force'
    if a=$(admin get node "$1" -o 'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}' 2>/dev/null); then
        m=$(member "$a")
        [ -z "$m" ] || etcd_ctl https://127.0.0.1:2379 member remove "$m" >/dev/null
        admin delete node "$1" >/dev/null
        return
    fi
    echo "Node $1 does not exist in Kubernetes."
    m=$(member "$1")
    if [ -n "$m" ]; then
        echo 'Removing node entry found in dqlite.'
        etcd_ctl https://127.0.0.1:2379 member remove "$m" >/dev/null
    fi
    exit 1
}

database() { # backup -o name | restore archive
    case "$1 ${2:-}" in
    'backup -o')
        d=$(mktemp -d)
        mkdir "$d/$3"
        etcd_ctl https://127.0.0.1:2379 snapshot save "$d/$3/db" >/dev/null
        tar -C "$d" -czf "$3.tar.gz" "$3"
        rm -rf "$d"
        echo "The backup is: $3.tar.gz"
        ;;
    'restore '?*)
        d=$(mktemp -d)
        tar -C "$d" -xzf "$2"
        n=$(basename "$2" .tar.gz)
        [ -s "$d/$n/db" ] || { echo 'Restore process failed. 1'; exit 3; }
        ! systemctl -q is-active "$UNIT" || { echo 'this stand-in for MicroK8s restores only while kubelite is stopped'; exit 3; }
        if [ -e "$C/fail-restore" ]; then
            echo 'time="now" level=error msg="failed to restore key" key=/registry/x'
            exit 0
        fi
        rm -rf "$DB"
        read_launch
        etcdutl snapshot restore "$d/$n/db" --data-dir "$DB" --name "$NODE" --initial-cluster "$NODE=https://$IP:2380" \
            --initial-advertise-peer-urls "https://$IP:2380" >/dev/null 2>&1
        rm -rf "$d"
        echo 'time="now" level=info msg="completed database restore"'
        ;;
    *) fatal "this stand-in for MicroK8s cannot do: dbctl $*" ;;
    esac
}

refresh_certs() { # -e certificate | folder
    case "$1 ${2:-}" in
    '-e server.crt') rm -f "$P"/apiserver.* ;;
    '-e front-proxy-client.crt') rm -f "$P"/front-proxy-client.* ;;
    /*' ')
        [ -s "$1/ca.crt" ] && [ -s "$1/ca.key" ] || { echo "Could not find ca.crt and ca.key files in $1"; exit 30; }
        cp "$1/ca.crt" "$1/ca.key" "$P/"
        rm -rf "$P"/apiserver.* "$P"/apiserver-kubelet-client.* "$P/conf" "$AGENT/pki"
        ;;
    *) fatal "this stand-in for MicroK8s cannot do: refresh-certs $*" ;;
    esac
    echo 'Restarting service kubelite.'
    systemctl restart "$UNIT"
    [ "$1 ${2:-}" != '-e server.crt' ] || systemctl restart snap.microk8s.daemon-cluster-agent
    sleep 2
}

# It shows the certificate that it began with.
agent() {
    until [ -s "$P/server.crt" ]; do sleep 1; done
    exec openssl s_server -accept 25000 -cert "$P/server.crt" -key "$P/apiserver.key" -www >/dev/null 2>&1
}

run=${1:-}
[ $# = 0 ] || shift
case $run in
cluster-agent) agent ;;
kubelite)
    read_launch
    if is_worker; then worker; else control_plane; fi
    ;;
status)
    if [ "$1" = -a ]; then
        # scripts/status.py: one word.
        on_a_control_plane 0
        case $2 in dns) o='deployment/coredns -n kube-system' ;; *) o=storageclass/microk8s-hostpath ;; esac
        # shellcheck disable=SC2086
        if admin get $o >/dev/null 2>&1; then echo enabled; else echo disabled; fi
        exit
    fi
    [ "$*" = '--format yaml' ] || fatal "this stand-in for MicroK8s cannot do: status $*"
    on_a_control_plane 0
    printf 'microk8s:\n  running: True\nhigh-availability:\n  enabled: True\n  nodes:\n'
    etcd_ctl https://127.0.0.1:2379 member list 2>/dev/null | awk -F', ' '
        { sub("https://", "", $4); sub(":2380", "", $4); a[NR] = $4 }
        END { if (NR == 1) a[1] = "127.0.0.1"; for (i = 1; i <= NR; i++) printf "    - address: %s:19001\n      role: voter\n", a[i] }'
    echo 'addons:'
    ;;
kubectl)
    on_a_control_plane 0
    exec kubectl --kubeconfig "$D/credentials/client.config" "$@"
    ;;
add-node)
    on_a_control_plane 1
    add_node "$@"
    ;;
join) join "$@" ;;
join-py)
    # Its line may have no end, as for Python.
    read -r connection || [ -n "$connection" ]
    join "$connection" "$@"
    ;;
remove-node)
    on_a_control_plane 1
    remove_node "$@"
    ;;
enable | disable)
    if [ "$1" = hostpath-storage ]; then
        # The one object of it that needs no image (microk8s-core-addons, addons/hostpath-storage/storage.yaml).
        verb=apply
        [ "$run" = enable ] || verb='delete --ignore-not-found'
        # shellcheck disable=SC2086
        admin $verb -f - <<CLASS
{ "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": "microk8s-hostpath" }, "provisioner": "microk8s.io/hostpath" }
CLASS
        exit
    fi
    [ "$run" = enable ] || fatal "this stand-in for MicroK8s cannot do: disable $*"
    [ "$1" = dns ] || fatal "this stand-in for MicroK8s has no addon $1"
    [ -z "${3:-}" ] || [ "$2" = /etc/resolv.conf ] || fatal "Your input value ($2) is not a valid and reachable IP address"
    admin apply -f - >/dev/null <<DEPLOYMENT
{ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "coredns", "namespace": "kube-system" },
  "spec": { "selector": { "matchLabels": { "k8s-app": "standin-dns" } }, "template": {
    "metadata": { "labels": { "k8s-app": "standin-dns" } }, "spec": { "tolerations": [{ "operator": "Exists" }],
      "containers": [{ "name": "coredns", "image": "$PAUSE" }] } } } }
DEPLOYMENT
    ;;
dbctl)
    on_a_control_plane 1
    database "$@"
    ;;
refresh-certs)
    on_a_control_plane 0
    refresh_certs "$@"
    ;;
*) fatal "this stand-in for MicroK8s cannot do: $run $*" ;;
esac
