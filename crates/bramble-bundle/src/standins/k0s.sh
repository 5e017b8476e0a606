#!/bin/sh
# Stands in for k0s on the lab's racks, where no release of it can be had: the interface of release 1.36 as its source has
# it, in front of a real Kubernetes whose programs come behind this script. It refuses every flag and every key of k0s.yaml
# that the real one does not have, and whatever it does not know how to do. Instead of keepalived a loop moves the address.
set -eu
export LC_ALL=C
umask 022
VERSION=@VERSION@
PAUSE=@PAUSE@
K=/var/lib/k0s
D=$K/standin-@DIGEST@
BIN=$D/bin LIB=$D/lib
RUN=/run/k0s
P=$K/pki
DB=$K/etcd
AGENT=$K/standin
IMAGES=$K/images
KUBELET=$K/kubelet
PLUGINS=/usr/libexec/k0s/kubelet-plugins/volume/exec
OPT=/opt/containerd
SANS= BOOTSTRAP=
# kube-router's (pkg/utils).
ROUTES=17
if [ ! -e "$D" ]; then
    mkdir -p "$D.$$"
    sed '1,/^__PROGRAMS__$/d' "$0" | gzip -dc | tar -x -C "$D.$$"
    mv -T "$D.$$" "$D" 2>/dev/null || rm -rf "$D.$$"
fi
@INNER@

fatal() { # message
    echo "Error: $*" >&2
    exit 1
}

# Every key that this stand-in takes, as the structures of pkg/apis/k0s/v1beta1 name them.
KEYS='apiVersion kind metadata.name spec.api.address spec.api.externalAddress spec.api.sans.[] spec.storage.type
spec.storage.etcd.peerAddress spec.network.podCIDR spec.network.serviceCIDR spec.network.provider
spec.network.nodeLocalLoadBalancing.enabled spec.network.controlPlaneLoadBalancing.enabled
spec.network.controlPlaneLoadBalancing.type
spec.network.controlPlaneLoadBalancing.keepalived.vrrpInstances.[].virtualIPs.[]
spec.network.controlPlaneLoadBalancing.keepalived.vrrpInstances.[].virtualRouterID
spec.network.controlPlaneLoadBalancing.keepalived.vrrpInstances.[].authPass
spec.network.controlPlaneLoadBalancing.keepalived.vrrpInstances.[].unicastSourceIP
spec.network.controlPlaneLoadBalancing.keepalived.vrrpInstances.[].unicastPeers.[]
spec.telemetry.enabled spec.workerProfiles.[].name spec.workerProfiles.[].values.failCgroupV1'
VRRP=spec.network.controlPlaneLoadBalancing.keepalived.vrrpInstances.[]

read_config() { # file
    mkdir -p "$RUN"
    values "$1" >"$RUN/values"
    while read -r key _; do
        case $key in spec.api.extraArgs.* | spec.storage.etcd.extraArgs.* | spec.controllerManager.extraArgs.* | spec.scheduler.extraArgs.*) continue ;; esac
        # shellcheck disable=SC2086
        printf '%s\n' $KEYS | grep -qxF -e "$key" || fatal "unknown field \"$key\" in $1"
    done <"$RUN/values"
    [ "$(of apiVersion)" = k0s.k0sproject.io/v1beta1 ] && [ "$(of kind)" = ClusterConfig ] || fatal "$1 is no ClusterConfig"
    [ "$(of spec.storage.type)" = etcd ] && [ "$(of spec.network.provider)" = kuberouter ] ||
        fatal 'this stand-in for k0s has only etcd and kuberouter'
    if [ "$(of spec.network.nodeLocalLoadBalancing.enabled)" = true ] && [ -n "$(of spec.api.externalAddress)" ]; then
        fatal 'spec.network.nodeLocalLoadBalancing: node-local load balancing cannot be used in conjunction with an external Kubernetes API server address'
    fi
    if [ -n "$(of "$VRRP.unicastPeers.[]")" ] && [ "$(of spec.network.nodeLocalLoadBalancing.enabled)" != true ]; then
        fatal 'this stand-in for k0s has no way from each controller to each worker without node-local load balancing'
    fi
    w=$(of "$VRRP.authPass")
    if [ "$(of spec.network.controlPlaneLoadBalancing.enabled)" = true ]; then
        [ -n "$w" ] && [ ${#w} -le 8 ] || fatal 'AuthPass must be set and have at most 8 characters'
    fi
}

TOKEN='' LABELS='' TAINTS='' IP='' CONFIG=/etc/k0s/k0s.yaml WORKER='' FREE='' EXTRA=''
further() { # program
    case $1 in
    kubelet) echo "$EXTRA" ;;
    kube-apiserver) more spec.api ;;
    etcd) more spec.storage.etcd ;;
    kube-controller-manager) more spec.controllerManager ;;
    kube-scheduler) more spec.scheduler ;;
    esac
}
more() { sed -n "s/^$1\.extraArgs\.\([^ ]*\) /--\1=/p" "$RUN/values"; } # section
flags() { # controller|worker flag…
    role=$1
    shift
    for a in "$@"; do
        case $role,$a in
        controller,--config=*) CONFIG=${a#*=} ;;
        controller,--enable-worker) WORKER=yes ;;
        controller,--no-taints) FREE=yes ;;
        *,--token-file=*) TOKEN=${a#*=} ;;
        *,--labels=*) LABELS=${a#*=} ;;
        *,--taints=*) TAINTS=$TAINTS${TAINTS:+,}${a#*=} ;;
        *,--kubelet-extra-args=*)
            for e in ${a#*=}; do
                case $e in --node-ip=*) IP=${e#*=} ;; *) EXTRA="$EXTRA $e" ;; esac
            done
            ;;
        *,--profile=* | *,--ignore-pre-flight-checks) ;;
        *) fatal "unknown flag: $a" ;;
        esac
    done
    NODE=$(hostname)
    [ -n "$IP" ] || IP=$(own_address)
    mkdir -p "$RUN" "$AGENT" "$IMAGES"
}

# What a token says: `server token`, and the CA in $RUN/ca.crt.
read_token() { # file controller|worker
    [ -s "$1" ] || fatal "the token file $1 is empty or not there"
    base64 -d "$1" | gzip -dc >"$RUN/join.json"
    value() { sed -n "s/.*\"$1\": \"\\([^\"]*\\)\".*/\\1/p" "$RUN/join.json"; }
    [ "$(value user)" = "$([ "$2" = worker ] && echo kubelet || echo controller)-bootstrap" ] || fatal "wrong token type, expected type: $2"
    value certificate-authority-data | base64 -d >"$RUN/ca.crt"
    h=$(value server)
    h=${h#https://}
    server=https://${h%:*}:6443 token=$(value token)
    until stranger "$server" "$token" -n kube-system get configmap standin -o json >"$RUN/cluster.json" 2>"$RUN/error"; do
        say "cannot reach $server: $(tail -n 1 "$RUN/error")"
        sleep 2
    done
    of_cluster ca | cmp -s - "$RUN/ca.crt" || fatal 'x509: certificate signed by unknown authority'
}

state() { # role success
    cat >"$RUN/status.json" <<STATUS
{
   "Version": "$VERSION+k0s.0",
   "Pid": $$,
   "Role": "$1",
   "Workloads": true,
   "SingleNode": false,
   "WorkerToAPIConnectionStatus": {
      "Message": "",
      "Success": $2
   }
}
STATUS
}

controller() {
    for u in etcd kube-apiserver konnectivity-server kube-scheduler; do
        id -u "$u" >/dev/null 2>&1 || say "level=warning msg=\"running as root: user $u not found\""
    done
    read_config "$CONFIG"
    [ -n "$WORKER" ] || fatal 'this stand-in for k0s has only controllers that are workers too'
    address=$(of spec.api.address)
    [ "$(of spec.storage.etcd.peerAddress)" = "$IP" ] && [ "$address" = "$IP" ] || fatal 'the addresses of this controller differ'
    SANS="$(of 'spec.api.sans.[]') $NODE"
    POD_RANGE=$(of spec.network.podCIDR) SERVICE_RANGE=$(of spec.network.serviceCIDR)
    DNS=$(of_network_tenth "$SERVICE_RANGE")
    state controller+worker false
    if [ -e "$DB/member/snap/db" ]; then
        inner_keys
        start_etcd "$NODE" "$NODE=https://$IP:2380" existing
    elif [ -n "$TOKEN" ]; then
        read_token "$TOKEN" controller
        fetch_keys "$server" "$token"
        inner_keys
        e=https://$(live_server "$server" "$token"):2379
        [ -z "$(etcd_ctl "$e" member list | awk -F', ' -v p="https://$IP:2380" '$4 == p')" ] || fatal 'etcdserver: Peer URLs already exists'
        join_etcd_as "$e" "$NODE"
    else
        inner_keys
        start_etcd "$NODE" "$NODE=https://$IP:2380" new
    fi
    until etcd_ctl https://127.0.0.1:2379 endpoint health >/dev/null 2>&1; do sleep 0.5; done
    start_control_plane
    grant
    publish "pods=$POD_RANGE" "services=$SERVICE_RANGE" "dns=$DNS" "balanced=$(of spec.network.nodeLocalLoadBalancing.enabled)"
    cp -p "$P/conf/admin.conf" "$P/admin.conf"
    cp "$P/apiserver.crt" "$P/server.crt"
    cp "$P/apiserver.crt" "$P/k0s-api.crt"
    admin apply -f - >/dev/null <<'CRD'
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: controlnodes.autopilot.k0sproject.io }
spec:
  group: autopilot.k0sproject.io
  scope: Cluster
  names: { plural: controlnodes, singular: controlnode, kind: ControlNode }
  versions: [{ name: v1beta2, served: true, storage: true, schema: { openAPIV3Schema: { type: object } } }]
CRD
    until echo "{ \"apiVersion\": \"autopilot.k0sproject.io/v1beta2\", \"kind\": \"ControlNode\", \"metadata\": { \"name\": \"$NODE\" } }" |
        admin apply -f - >/dev/null 2>&1; do sleep 1; done
    [ "$(of spec.network.controlPlaneLoadBalancing.enabled)" != true ] || child move_address
    cp "$P/ca.crt" "$AGENT/ca.crt"
    cp -p "$P/conf/kubelet.conf" "$AGENT/kubelet.conf"
    [ -n "$FREE" ] || TAINTS="node-role.kubernetes.io/control-plane=:NoSchedule"
    start_node "$LABELS" "$TAINTS"
    ln -sfn "$AGENT/kubelet.conf" "$K/kubelet.conf"
    admin label node "$NODE" node-role.kubernetes.io/control-plane=true --overwrite >/dev/null
    state controller+worker true
    serve
}

of_network_tenth() { # range
    a=${1%/*}
    echo "${a%.*}.$((${a##*.} + 10))"
}

# The address is where the first controller is, in the order of their addresses, whose API answers.
move_address() {
    # keepalived runs as this user where there is one, cannot write to /run, and ends, again and again.
    if id -u keepalived >/dev/null 2>&1; then exit 0; fi
    v=$(of "$VRRP.virtualIPs.[]")
    l=$(ip -4 -o addr show | awk -v a="$IP/" 'index($4, a) == 1 { print $2 }')
    while sleep 1; do
        mine=yes
        for p in $(of "$VRRP.unicastPeers.[]"); do
            [ "$(printf '%s\n%s\n' "$p" "$IP" | sort -V | head -n 1)" != "$p" ] || ! answers "$p:6443" || mine=
        done
        answers 127.0.0.1:6443 || mine=
        if [ -n "$mine" ]; then ip addr add "$v" dev "$l" 2>/dev/null || :; else ip addr del "$v" dev "$l" 2>/dev/null || :; fi
    done
}

# Which controllers there are, as the API tells.
follow_servers() {
    while sleep 5; do
        kubectl --kubeconfig "$AGENT/kubelet.conf" get endpointslices -l kubernetes.io/service-name=kubernetes \
            -o 'jsonpath={range .items[*].endpoints[*]}{.addresses[0]}{"\n"}{end}' >"$AGENT/servers.new" 2>/dev/null || continue
        [ ! -s "$AGENT/servers.new" ] || mv "$AGENT/servers.new" "$AGENT/servers"
    done
}

worker() {
    state worker false
    if [ ! -e "$K/kubelet.conf" ]; then
        [ -n "$TOKEN" ] || fatal 'no join token was given'
        read_token "$TOKEN" worker
        cp "$RUN/ca.crt" "$AGENT/ca.crt"
        cp "$RUN/cluster.json" "$AGENT/cluster.json"
        known_servers "$server" "$token"
    fi
    cp "$AGENT/cluster.json" "$RUN/cluster.json"
    POD_RANGE=$(of_cluster pods) DNS=$(of_cluster dns)
    if [ "$(of_cluster balanced)" = true ]; then
        child balance 7443
        until answers 127.0.0.1:7443; do sleep 0.5; done
        server=https://127.0.0.1:7443
    fi
    [ -e "$K/kubelet.conf" ] || bootstrap_config "$server" "$token"
    start_node "$LABELS" "$TAINTS"
    child follow_servers
    ln -sfn "$AGENT/kubelet.conf" "$K/kubelet.conf"
    mkdir -p "$KUBELET/pki"
    ln -sfn "$AGENT/pki/kubelet-client-current.pem" "$KUBELET/pki/kubelet-client-current.pem"
    rm -f "$AGENT/bootstrap.conf"
    state worker true
    serve
}

alive() {
    p=$(sed -n 's/.*"Pid": \([0-9]*\),/\1/p' "$RUN/status.json" 2>/dev/null)
    [ -n "$p" ] && kill -0 "$p" 2>/dev/null
}

token_create() { # flag…
    role=worker expiry=0s
    while [ $# -gt 0 ]; do
        case $1 in
        --role) role=$2 ;;
        --expiry) expiry=$2 ;;
        *) fatal "unknown flag: $1" ;;
        esac
        shift 2
    done
    case $role in
    worker) user=kubelet-bootstrap port=6443 ;;
    controller) user=controller-bootstrap port=9443 ;;
    *) fatal "unsupported role: $role" ;;
    esac
    case $expiry in *m) t=$(date -u -d "+${expiry%m} minutes" +%Y-%m-%dT%H:%M:%SZ) ;; *) fatal "this stand-in for k0s cannot wait for $expiry" ;; esac
    s=$(od -An -N11 -tx1 /dev/urandom | tr -d ' \n')
    id=$(echo "$s" | cut -c1-6) word=$(echo "$s" | cut -c7-22)
    admin -n kube-system create secret generic "bootstrap-token-$id" --type bootstrap.kubernetes.io/token --from-literal "token-id=$id" \
        --from-literal "token-secret=$word" --from-literal usage-bootstrap-authentication=true --from-literal "expiration=$t" >/dev/null
    read_config "$CONFIG"
    a=$(of spec.api.externalAddress)
    [ -n "$a" ] || a=$(of spec.api.address)
    gzip -c <<KUBECONFIG | base64 -w0
{ "apiVersion": "v1", "kind": "Config", "current-context": "k0s",
  "clusters": [{ "name": "k0s", "cluster": { "server": "https://$a:$port",
    "certificate-authority-data": "$(base64 -w0 <"$P/ca.crt")" } }],
  "contexts": [{ "name": "k0s", "context": { "cluster": "k0s",
    "user": "$user" } }],
  "users": [{ "name": "$user", "user": { "token": "$id.$word" } }] }
KUBECONFIG
    echo
}

case "${1:-} ${2:-}" in
'controller '*)
    shift
    flags controller "$@"
    controller
    ;;
'worker '*)
    shift
    flags worker "$@"
    worker
    ;;
'kubectl '*)
    shift
    export KUBECONFIG="${KUBECONFIG:-$P/admin.conf}"
    exec kubectl "$@"
    ;;
'status ' | 'status -o')
    alive || fatal "status: can't get \"status\" via \"/run/k0s/status.sock\": no such file or directory"
    [ "${3:-json}" = json ] || fatal "this stand-in for k0s cannot do: $*"
    cat "$RUN/status.json"
    ;;
'token create')
    alive || fatal "failed to get k0s status: status: can't get \"status\" via \"/run/k0s/status.sock\": no such file or directory"
    shift 2
    token_create "$@"
    ;;
'token invalidate')
    admin -n kube-system delete secret "bootstrap-token-$3" --ignore-not-found >/dev/null
    echo "token $3 deleted successfully"
    ;;
'etcd member-list')
    etcd_ctl https://127.0.0.1:2379 member list | awk -F', ' '
        { all = all (all == "" ? "" : ",") "\"" $3 "\":\"" $4 "\"" } END { print "{\"members\":{" all "}}" }'
    ;;
'etcd leave')
    [ "${3:-}" = --peer-address ] || fatal "this stand-in for k0s cannot do: $*"
    id=$(etcd_ctl https://127.0.0.1:2379 member list | awk -F', ' -v p="https://$4:2380" '$4 == p { print $1 }')
    [ -n "$id" ] || fatal "no member has the address $4"
    etcd_ctl https://127.0.0.1:2379 member remove "$id" >/dev/null
    ;;
'backup --save-path')
    alive || fatal 'k0s is not running'
    d=$(mktemp -d)
    case $d in "${TMPDIR:-none}"/*) ;; *) fatal "this stand-in for k0s does not write a backup into memory: $d" ;; esac
    etcd_ctl https://127.0.0.1:2379 snapshot save "$d/etcd-snapshot.db" >/dev/null
    cp -a "$P" "$d/pki"
    [ ! -d "$IMAGES" ] || cp -a "$IMAGES" "$d/images"
    cp "$CONFIG" "$d/k0s.yaml"
    tar -C "$d" -czf "$3/k0s_backup_$(date -u +%Y-%m-%dT%H_%M_%S).tar.gz" .
    rm -rf "$d"
    ;;
'restore '?*)
    [ "${3:-}" = --config-out ] && [ $# = 4 ] || fatal "this stand-in for k0s cannot do: $*"
    ! alive || fatal 'k0s seems to be running! please stop k0s before restoring backup'
    [ ! -d "$DB" ] || fatal "data-dir \"$DB\" not empty or could not be read"
    d=$(mktemp -d)
    tar -C "$d" -xzf "$2"
    read_config "$d/k0s.yaml"
    a=$(of spec.storage.etcd.peerAddress)
    mkdir -p "$K"
    etcdutl snapshot restore "$d/etcd-snapshot.db" --data-dir "$DB" --name "$(hostname)" \
        --initial-cluster "$(hostname)=https://$a:2380" --initial-advertise-peer-urls "https://$a:2380" >/dev/null 2>&1
    rm -rf "$P"
    mkdir -p "$P/etcd"
    for f in ca.crt ca.key sa.key sa.pub front-proxy-ca.crt front-proxy-ca.key etcd/ca.crt etcd/ca.key; do cp -p "$d/pki/$f" "$P/$f"; done
    cp "$d/k0s.yaml" "$4"
    rm -rf "$d"
    ;;
'version '*) echo "$VERSION+k0s.0" ;;
*) fatal "unknown command \"${1:-}\" for \"k0s\" (a stand-in)" ;;
esac
exit
__PROGRAMS__
