#!/bin/sh
# Stands in for k3s on the lab's racks, where no release of it can be had: the interface of release 1.36 as its source has
# it, in front of a real Kubernetes whose programs come behind this script. It refuses every flag and every key of
# config.yaml that the real one does not have, and whatever it does not know how to do. SQLite is not there: where the
# real one would use it, this one has an etcd of its own.
set -eu
export LC_ALL=C
umask 022
VERSION=@VERSION@
PAUSE=@PAUSE@
K=/var/lib/rancher/k3s
C=/etc/rancher/k3s
D=$K/data/@DIGEST@
BIN=$D/bin LIB=$D/lib
RUN=/run/k3s
P=$K/server/standin
DB=$K/server/db/etcd
AGENT=$K/agent
IMAGES=$AGENT/images
KUBELET=/var/lib/kubelet
PLUGINS=/usr/libexec/kubernetes/kubelet-plugins/volume/exec
OPT=$AGENT/containerd
SANS= BOOTSTRAP=
# flannel's of the backend host-gw: it says nothing of a protocol.
ROUTES=boot
if [ ! -e "$D" ]; then
    mkdir -p "$D.$$"
    sed '1,/^__PROGRAMS__$/d' "$0" | gzip -dc | tar -x -C "$D.$$"
    mv -T "$D.$$" "$D" 2>/dev/null || rm -rf "$D.$$"
    ln -sfn "$D" "$K/data/current"
fi
@INNER@

fatal() { # message
    echo "time=\"$(date +%H:%M:%S)\" level=fatal msg=\"$*\"" >&2
    exit 1
}

# Keys and values of the configuration files and of the arguments, a line each.
settings() { # server|agent argument…
    kind=$1
    shift
    mkdir -p "$RUN"
    {
        for f in "$C/config.yaml" "$C"/config.yaml.d/*.yaml; do
            [ -e "$f" ] || continue
            awk '
                function bare(v) { if (v ~ /^".*"$/) v = substr(v, 2, length(v) - 2); return v }
                /^#/ || /^$/ { next }
                /^[a-z0-9-]+: ./ { k = $0; sub(/: .*/, "", k); v = $0; sub(/^[^:]*: /, "", v); print k, bare(v); next }
                /^[a-z0-9-]+:$/ { list = substr($0, 1, length($0) - 1); next }
                /^  - / { print list, bare(substr($0, 5)); next }
                { print "line-of-yaml-that-is-not-known", $0 }' "$f"
        done
        for a in "$@"; do
            case $a in
            --*=*) a=${a#--}; echo "${a%%=*} ${a#*=}" ;;
            --*) echo "${a#--} true" ;;
            *) echo "argument-that-is-not-known $a" ;;
            esac
        done
    } >"$RUN/settings"
    # A server of the real one only warns.
    while read -r key _; do
        grep -qxF -e "$key" "$D/flags.$kind" || fatal "flag provided but not defined: -$key"
    done <"$RUN/settings"
    if list etcd-arg | grep -qE '=([0-9.]+(ns|us|ms|s|m|h))+$'; then
        fatal 'failed to start etcd: error unmarshaling JSON: json: cannot unmarshal string into Go value of type time.Duration'
    fi
    for key in datastore-endpoint disable-agent rootless docker vpn-auth secrets-encryption; do
        [ -z "$(get "$key")" ] || fatal "this stand-in for k3s has no $key"
    done
}
get() { sed -n "s/^$1 //p" "$RUN/settings" | tail -n 1; }
list() { sed -n "s/^$1 //p" "$RUN/settings"; }
further() { # program
    case $1 in
    # It writes a file of settings, in which a duration is a number of nanoseconds; a flag wants the unit.
    etcd) list etcd-arg | sed 's/^/--/; s/=[0-9]\{7,\}$/&ns/' ;;
    *) list "$1-arg" | sed "s/^/--/" ;;
    esac
}
joined() { list "$1" | paste -sd, -; }
# A file of a token, without the digest of the CA before it.
secret() { # file
    [ -s "$1" ] || fatal "there is no token in $1"
    sed 's/^K10[0-9a-f]*::[a-z]*://' "$1"
}
bootstrap_key() { echo "/bootstrap/$(printf %s "$1" | sha256sum | cut -c1-12)"; }

common() {
    NODE=$(get node-name)
    [ -n "$NODE" ] || NODE=$(hostname)
    IP=$(get node-ip)
    [ -n "$IP" ] || IP=$(own_address)
    t=$(get token-file)
    [ -n "$t" ] || fatal 'this stand-in for k3s wants a token-file'
    token=$(secret "$t")
    known=$(sed -n 's/^K10\([0-9a-f]*\)::.*/\1/p' "$t")
    url=$(get server)
    mkdir -p "$AGENT" "$IMAGES" /etc/rancher/node
    [ -s /etc/rancher/node/password ] || (umask 077; od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >/etc/rancher/node/password)
}

# The CA of a cluster, if it is the one that the token names.
authority() {
    until stranger "$url" "$(token_of "$token")" -n kube-system get configmap standin -o json >"$RUN/cluster.json" 2>"$RUN/error"; do
        say "cannot reach $url: $(tail -n 1 "$RUN/error")"
        sleep 2
    done
    of_cluster ca >"$RUN/ca.crt"
    [ -z "$known" ] || [ "$(sha256sum <"$RUN/ca.crt")" = "$known  -" ] ||
        fatal 'token CA hash does not match the Cluster CA certificate hash'
}
# A node has a password that another board with its name does not know.
introduce() { # kubectl of somebody who may
    h=$(sha256sum </etc/rancher/node/password)
    while :; do
        if was=$("$@" -n kube-system get secret "$NODE.node-password.k3s" -o 'jsonpath={.data.hash}' 2>/dev/null); then
            [ "$(echo "$was" | base64 -d)" != "${h%% *}" ] || return 0
            say "Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match server node-passwd entry, try enabling a unique node name with the --with-node-id flag"
        else
            "$@" -n kube-system create secret generic "$NODE.node-password.k3s" --from-literal "hash=${h%% *}" >/dev/null 2>&1 && return 0
        fi
        sleep 3
    done
}

member_of() { etcd_ctl "$1" member list | awk -F', ' -v n="$2-" 'index($3, n) == 1 { print $1 }'; } # endpoint node

join_etcd() {
    authority
    for pair in "pods cluster-cidr" "services service-cidr" "dns cluster-dns" "flannel flannel-backend"; do
        # shellcheck disable=SC2086
        set -- $pair
        [ "$(of_cluster "$1")" = "$(get "$2")" ] ||
            fatal "critical configuration mismatched: $2: failed to validate server configuration: critical configuration value mismatch between servers"
    done
    fetch_keys "$url" "$(token_of "$token")"
    inner_keys
    e=https://$(live_server "$url" "$(token_of "$token")"):2379
    [ -z "$(member_of "$e" "$NODE")" ] || fatal 'duplicate node name found, please use a unique name for this node'
    name=$NODE-$(od -An -N4 -tx1 /dev/urandom | tr -d ' \n')
    echo "$name" >"$K/server/db/name"
    join_etcd_as "$e" "$name"
}

# Who may ask: a file that is saved beside the keys, with its time. One that is another and newer one than that keeps a server from
# starting (k3s, pkg/cluster/bootstrap.go, `isNewerFile`); a token that it has not is written into it (pkg/daemons/control/deps, genUsers).
users() {
    p=$K/server/cred/passwd
    mkdir -p "$K/server/cred"
    saved=$(etcd_ctl https://127.0.0.1:2379 get --print-value-only /passwd)
    if [ -n "$saved" ]; then
        echo "${saved#* }" | base64 -d >"$RUN/passwd"
        if [ ! -e "$p" ] || ! cmp -s "$p" "$RUN/passwd"; then
            if [ -e "$p" ] && [ "$(stat -c %Y "$p")" -ge "$((${saved%% *} + 3))" ]; then
                fatal "$p newer than datastore and could cause a cluster outage. Remove the file(s) from disk and restart to be recreated from datastore."
            fi
            cp "$RUN/passwd" "$p"
            touch -d "@${saved%% *}" "$p"
        fi
    fi
    printf '%s,server,server,k3s:server\n%s,node,node,k3s:agent\n' "$token" "$agent_token" >"$RUN/passwd"
    if [ ! -e "$p" ] || ! cmp -s "$p" "$RUN/passwd"; then cp "$RUN/passwd" "$p"; fi
    [ -n "$saved" ] || save_users
}
save_users() { etcd_ctl https://127.0.0.1:2379 put /passwd "$(date +%s) $(base64 -w0 "$K/server/cred/passwd")" >/dev/null; }

server() {
    common
    POD_RANGE=$(get cluster-cidr) SERVICE_RANGE=$(get service-cidr) DNS=$(get cluster-dns)
    SANS="$(list tls-san | paste -sd' ' -) $NODE"
    a=$(get agent-token-file)
    agent_token=$token
    [ -z "$a" ] || agent_token=$(secret "$a")
    mkdir -p "$K/server/db" "$K/server/tls/etcd"
    chmod 700 "$K/server"
    [ -z "$(get cluster-reset)" ] || reset
    [ -z "$(get cluster-reset-restore-path)" ] || fatal 'invalid flag use; --cluster-reset required with --cluster-reset-restore-path'
    if [ -d "$DB/member" ]; then
        inner_keys
        start_etcd "$(cat "$K/server/db/name")" "$(cat "$K/server/db/name")=https://$IP:2380" existing
    elif [ -n "$url" ]; then
        join_etcd
    else
        name=$NODE-$(od -An -N4 -tx1 /dev/urandom | tr -d ' \n')
        inner_keys
        start_etcd "$name" "$name=https://$IP:2380" new
        echo "$name" >"$K/server/db/name"
    fi
    until etcd_ctl https://127.0.0.1:2379 endpoint health >/dev/null 2>&1; do sleep 0.5; done
    keys=$(tar -C "$P" -cz ca.crt ca.key sa.key sa.pub front-proxy-ca.crt front-proxy-ca.key etcd/ca.crt etcd/ca.key | base64 -w0)
    stored=$(etcd_ctl https://127.0.0.1:2379 get --prefix --print-value-only /bootstrap/ | head -n 1)
    if [ -z "$stored" ]; then
        etcd_ctl https://127.0.0.1:2379 put "$(bootstrap_key "$token")" "$keys" >/dev/null
    elif [ -z "$(etcd_ctl https://127.0.0.1:2379 get --keys-only "$(bootstrap_key "$token")")" ]; then
        fatal 'bootstrap data already found and encrypted with different token'
    fi
    users
    start_control_plane
    grant
    let_in "$token"
    let_in "$agent_token"
    publish "pods=$POD_RANGE" "services=$SERVICE_RANGE" "dns=$DNS" "flannel=$(get flannel-backend)"
    # As the real one has them.
    T=$K/server/tls
    cp "$P/ca.crt" "$T/server-ca.crt"
    cp "$P/ca.crt" "$T/client-ca.crt"
    cp "$P/admin.crt" "$T/client-admin.crt"
    cp -p "$P/admin.key" "$T/client-admin.key"
    cp "$P/apiserver.crt" "$T/serving-kube-apiserver.crt"
    cp "$P/etcd/server.crt" "$T/etcd/server-client.crt"
    h=$(sha256sum <"$T/server-ca.crt")
    (
        umask 077
        echo "K10${h%% *}::server:$token" >"$K/server/token"
        ln -sfn "$K/server/token" "$K/server/node-token"
        echo "K10${h%% *}::node:$agent_token" >"$K/server/agent-token"
        sed "s/kubernetes-admin@kubernetes/default/; s/kubernetes-admin/default/; s/: kubernetes$/: default/" "$P/conf/admin.conf" >"$C/k3s.yaml"
    )
    # A server that was restored gets its password anew.
    if [ -e "$K/server/db/reset-flag" ]; then
        rm "$K/server/db/reset-flag"
        admin -n kube-system delete secret "$NODE.node-password.k3s" --ignore-not-found >/dev/null
    fi
    introduce admin
    cp "$P/ca.crt" "$AGENT/ca.crt"
    cp -p "$P/conf/kubelet.conf" "$AGENT/kubelet.conf"
    mkdir -p /run/flannel
    printf 'FLANNEL_NETWORK=%s\nFLANNEL_IPMASQ=true\n' "$POD_RANGE" >/run/flannel/subnet.env
    start_node "$(joined node-label)" "$(joined node-taint)"
    ln -sfn "$AGENT/kubelet.conf" "$AGENT/kubelet.kubeconfig"
    admin label node "$NODE" node-role.kubernetes.io/control-plane=true node-role.kubernetes.io/etcd=true --overwrite >/dev/null
    case " $(list disable | paste -sd' ' -) " in
    *' coredns '*) ;;
    *)
        admin apply -f - >/dev/null <<DEPLOYMENT
{ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "coredns", "namespace": "kube-system" },
  "spec": { "selector": { "matchLabels": { "k8s-app": "standin-dns" } }, "template": {
    "metadata": { "labels": { "k8s-app": "standin-dns" } }, "spec": { "tolerations": [{ "operator": "Exists" }],
      "containers": [{ "name": "coredns", "image": "$PAUSE" }] } } } }
DEPLOYMENT
        ;;
    esac
    child housekeeping
    say 'k3s is up and running'
    serve
}

patch_node() { # name path content
    curl -sf --cacert "$P/ca.crt" --cert "$P/admin.crt" --key "$P/admin.key" -X PATCH -o /dev/null \
        -H 'Content-Type: application/strategic-merge-patch+json' -d "$3" "https://127.0.0.1:6443/api/v1/nodes/$1$2"
}

# Members of etcd come and go with their nodes.
housekeeping() {
    f=wrangler.cattle.io/managed-etcd-controller
    while sleep 2; do
        patch_node "$NODE" '' "{ \"metadata\": { \"finalizers\": [\"$f\"] } }" || :
        now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
        patch_node "$NODE" /status "{ \"status\": { \"conditions\": [{ \"type\": \"EtcdIsVoter\", \"status\": \"True\", \"reason\": \"MemberNotLearner\", \"message\": \"Node is a voting member of the etcd cluster\", \"lastHeartbeatTime\": \"$now\" }] } }" || :
        for gone in $(admin get nodes -o 'jsonpath={range .items[?(@.metadata.deletionTimestamp)]}{.metadata.name}{"\n"}{end}' 2>/dev/null); do
            for m in $(member_of https://127.0.0.1:2379 "$gone"); do etcd_ctl https://127.0.0.1:2379 member remove "$m" || continue 2; done
            admin patch node "$gone" --type merge -p '{ "metadata": { "finalizers": null } }' >/dev/null || :
        done
    done
}

# Makes the datastore out of a snapshot, with this server as its only member.
reset() {
    [ -z "$url" ] || fatal 'cannot perform cluster-reset while server URL is set - remove server from configuration before resetting'
    from=$(get cluster-reset-restore-path)
    # A file of the token does not count.
    [ -n "${K3S_TOKEN:-}" ] || fatal '--token is required when using --cluster-reset-restore-path'
    [ -s "$from" ] || fatal "this stand-in for k3s wants a snapshot; there is none at $from"
    [ ! -d "$DB" ] || mv "$DB" "$K/server/db/etcd-old-$(date +%s)"
    name=$NODE-$(od -An -N4 -tx1 /dev/urandom | tr -d ' \n')
    etcdutl snapshot restore "$from" --data-dir "$DB" --name "$name" --initial-cluster "$name=https://$IP:2380" \
        --initial-advertise-peer-urls "https://$IP:2380" >/dev/null 2>&1 || fatal 'the snapshot cannot be read'
    echo "$name" >"$K/server/db/name"
    # The keys of the cluster are in it.
    child etcd --name "$name" --data-dir "$DB" --listen-client-urls http://127.0.0.1:2399 --advertise-client-urls http://127.0.0.1:2399 \
        --listen-peer-urls http://127.0.0.1:2398 --log-level error
    e=http://127.0.0.1:2399
    until etcdctl --endpoints "$e" endpoint health >/dev/null 2>&1; do sleep 0.2; done
    keys=$(etcdctl --endpoints "$e" get --print-value-only "$(bootstrap_key "$token")")
    end_children
    [ -n "$keys" ] || fatal 'bootstrap data already found and encrypted with different token'
    rm -rf "$P"
    mkdir -p "$P"
    echo "$keys" | base64 -d | tar -xz -C "$P"
    touch "$K/server/db/reset-flag"
    # shellcheck disable=SC2016
    say 'Managed etcd cluster membership has been reset, restart without --cluster-reset flag now. Backup and delete ${datadir}/server/db on each peer etcd server and rejoin the nodes'
    exit 1
}

agent() {
    common
    [ -n "$url" ] || fatal '--server is required'
    authority
    cp "$RUN/ca.crt" "$AGENT/ca.crt"
    POD_RANGE=$(of_cluster pods) DNS=$(of_cluster dns)
    introduce stranger "$url" "$(token_of "$token")"
    bootstrap_config "$url" "$(token_of "$token")"
    mkdir -p /run/flannel
    printf 'FLANNEL_NETWORK=%s\nFLANNEL_IPMASQ=true\n' "$POD_RANGE" >/run/flannel/subnet.env
    start_node "$(joined node-label)" "$(joined node-taint)"
    ln -sfn "$AGENT/kubelet.conf" "$AGENT/kubelet.kubeconfig"
    sed '/END CERTIFICATE/q' "$AGENT/pki/kubelet-client-current.pem" >"$AGENT/client-kubelet.crt"
    say 'k3s agent is up and running'
    serve
}

case ${1:-} in
server)
    shift
    settings server "$@"
    server
    ;;
agent)
    shift
    settings agent "$@"
    agent
    ;;
kubectl)
    shift
    export KUBECONFIG="${KUBECONFIG:-$C/k3s.yaml}"
    exec kubectl "$@"
    ;;
ctr)
    shift
    exec ctr -a "$RUN/containerd/containerd.sock" -n k8s.io "$@"
    ;;
etcd-snapshot)
    [ "${2:-}" = save ] || fatal "this stand-in for k3s cannot do: $*"
    shift 2
    name=on-demand dir=$K/server/db/snapshots
    while [ $# -gt 0 ]; do
        case $1 in
        --name) name=$2 ;;
        --dir | --etcd-snapshot-dir) dir=$2 ;;
        *) fatal "flag provided but not defined: $1" ;;
        esac
        shift 2
    done
    [ -d "$DB/member" ] || fatal 'etcd datastore disabled'
    # Only its own folder is made.
    [ "$dir" != "$K/server/db/snapshots" ] || mkdir -p "$dir"
    [ -d "$dir" ] || fatal "stat $dir: no such file or directory"
    etcd_ctl https://127.0.0.1:2379 snapshot save "$dir/$name-$(hostname)-$(date +%s)" >/dev/null
    ;;
token)
    [ "$*" = 'token rotate' ] || fatal "this stand-in for k3s cannot do: $*"
    old=$(secret "$K/server/token")
    new=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    e=https://127.0.0.1:2379
    etcd_ctl "$e" get --print-value-only "$(bootstrap_key "$old")" >"$RUN/bootstrap"
    [ -s "$RUN/bootstrap" ] || fatal 'failed to rotate token: no bootstrap data of the old one'
    etcd_ctl "$e" put "$(bootstrap_key "$new")" <"$RUN/bootstrap" >/dev/null
    etcd_ctl "$e" del "$(bootstrap_key "$old")" >/dev/null
    rm -f "$RUN/bootstrap"
    t=$(token_of "$old")
    admin -n kube-system delete secret "bootstrap-token-${t%.*}" --ignore-not-found >/dev/null
    let_in "$new"
    (umask 077; sed "s/::server:.*/::server:$new/" "$K/server/token" >"$K/server/token.new")
    mv "$K/server/token.new" "$K/server/token"
    sed -i "s/^[^,]*,server,server,/$new,server,server,/" "$K/server/cred/passwd"
    save_users
    echo 'Token rotated, restart k3s nodes with new token'
    ;;
--version) echo "k3s version $VERSION+k3s1 (a stand-in)" ;;
*) fatal "this stand-in for k3s cannot do: $*" ;;
esac
exit
__PROGRAMS__
