# What the stand-ins have in common: the programs of a real Kubernetes, started as processes beside each other. The front
# that comes before this says where things are:
# BIN LIB (programs and their libraries), P (the cluster's keys), RUN (sockets), AGENT (what belongs to this node alone),
# DB (etcd's folder), NODE, IP, POD_RANGE, SERVICE_RANGE, DNS, VERSION, PAUSE, IMAGES, KUBELET (the kubelet's
# folder), PLUGINS (that of its volume plugins), OPT (that of containerd's programs); and, where they differ from what most
# have, API_PORT, ANONYMOUS (whether the API answers those that it does not know), ROUTES (the protocol of the routes to
# other nodes' pods, which stay when it ends) and BLACKHOLE (that of a route for the node's own range that leads nowhere).
: "${API_PORT:=6443}" "${ANONYMOUS:=false}" "${ROUTES:=143}" "${BLACKHOLE:=}"
# kubectl keeps what it knows of an API in the home folder.
export HOME=$RUN
export PATH=$BIN:$PATH LD_LIBRARY_PATH=$LIB XTABLES_LIBDIR=$LIB/xtables

# A program's further arguments, a word each; fronts have their own.
further() { :; } # program

say() { echo "$(date +%H:%M:%S) $*"; }

# The values of a configuration (in the form of JSON, a key on each line) as `path value`, with `[]` for what is in a list.
values() { # file
    awk '
        { line = $0; match(line, /^ */); depth = RLENGTH / 2; sub(/^ */, "", line); sub(/,$/, "", line) }
        line ~ /^[]}]+$/ || line == "{" && depth == 0 { next }
        {
            key = "[]"; value = line
            if (line ~ /^"[A-Za-z0-9_-]+": /) { key = line; sub(/^"/, "", key); sub(/": .*/, "", key); value = line; sub(/^"[^"]*": /, "", value) }
            path[depth] = key
            if (value == "{" || value == "[") next
            if (value ~ /^".*"$/) value = substr(value, 2, length(value) - 2)
            whole = path[1]
            for (i = 2; i <= depth; i++) whole = whole "." path[i]
            print whole, value
        }' "$1"
}
# One of them, out of $RUN/values.
of() { sed -n "s|^$(echo "$1" | sed 's/[].[]/\\&/g') ||p" "$RUN/values"; }

# The address by which the world is reached, if none was given.
own_address() { ip -4 route get 1.1.1.1 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p'; }

inner_config() {
    mkdir -p "$RUN"
    # shellcheck disable=SC2086 # They are words.
    cat >"$RUN/kubeadm.json" <<CONFIG
{ "apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "InitConfiguration",
  "localAPIEndpoint": { "advertiseAddress": "$IP", "bindPort": $API_PORT }, "nodeRegistration": { "name": "$NODE" } }
---
{ "apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration", "kubernetesVersion": "$VERSION",
  "certificatesDir": "$P", "controlPlaneEndpoint": "127.0.0.1:$API_PORT",
  "apiServer": { "certSANs": [$(printf '"%s",' $SANS)"127.0.0.1", "localhost"] },
  "networking": { "serviceSubnet": "$SERVICE_RANGE", "podSubnet": "$POD_RANGE" } }
CONFIG
}

# Keys and certificates of this server; the authorities are made if there are none.
inner_keys() {
    inner_config
    kubeadm init phase certs all --config "$RUN/kubeadm.json" >/dev/null 2>&1
    for k in super-admin kubelet controller-manager scheduler; do
        kubeadm init phase kubeconfig "$k" --config "$RUN/kubeadm.json" --kubeconfig-dir "$P/conf" >/dev/null 2>&1
    done
    # kubeadm's own "admin" has rights that only the rest of `kubeadm init` gives it.
    mv "$P/conf/super-admin.conf" "$P/conf/admin.conf"
    # The controllers' own.
    sed -i "s|server: .*|server: https://127.0.0.1:$API_PORT|" "$P"/conf/*.conf
    admin=$P/conf/admin.conf
    sed -n 's/.*client-certificate-data: //p' "$admin" | base64 -d >"$P/admin.crt"
    (umask 077; sed -n 's/.*client-key-data: //p' "$admin" | base64 -d >"$P/admin.key")
}

admin() { kubectl --kubeconfig "$P/conf/admin.conf" "$@"; }

etcd_ctl() { # endpoint …
    e=$1
    shift
    etcdctl --endpoints="$e" --cacert="$P/etcd/ca.crt" --cert="$P/etcd/healthcheck-client.crt" --key="$P/etcd/healthcheck-client.key" "$@"
}

# A child of this one that ends with it. When one that is needed ends, the whole ends: systemd starts it again.
children=
child() {
    "$@" &
    children="$children $!"
}

# shellcheck disable=SC2046 # They are words.
start_etcd() { # name initial-cluster new|existing
    child etcd --name "$1" --data-dir "$DB" --initial-cluster "$2" --initial-cluster-state "$3" \
        --listen-client-urls "https://127.0.0.1:2379,https://$IP:2379" --advertise-client-urls "https://$IP:2379" \
        --listen-peer-urls "https://$IP:2380" --initial-advertise-peer-urls "https://$IP:2380" \
        --cert-file "$P/etcd/server.crt" --key-file "$P/etcd/server.key" --trusted-ca-file "$P/etcd/ca.crt" --client-cert-auth \
        --peer-cert-file "$P/etcd/peer.crt" --peer-key-file "$P/etcd/peer.key" --peer-trusted-ca-file "$P/etcd/ca.crt" \
        --peer-client-cert-auth --log-level warn $(further etcd)
}

# shellcheck disable=SC2046 # They are words.
start_control_plane() {
    child kube-apiserver --advertise-address "$IP" --secure-port "$API_PORT" --anonymous-auth="$ANONYMOUS" \
        --authorization-mode Node,RBAC --client-ca-file "$P/ca.crt" --enable-admission-plugins NodeRestriction \
        --enable-bootstrap-token-auth --etcd-servers https://127.0.0.1:2379 --etcd-cafile "$P/etcd/ca.crt" \
        --etcd-certfile "$P/apiserver-etcd-client.crt" --etcd-keyfile "$P/apiserver-etcd-client.key" \
        --kubelet-client-certificate "$P/apiserver-kubelet-client.crt" --kubelet-client-key "$P/apiserver-kubelet-client.key" \
        --kubelet-preferred-address-types InternalIP --requestheader-client-ca-file "$P/front-proxy-ca.crt" \
        --requestheader-allowed-names front-proxy-client --requestheader-extra-headers-prefix X-Remote-Extra- \
        --requestheader-group-headers X-Remote-Group --requestheader-username-headers X-Remote-User \
        --proxy-client-cert-file "$P/front-proxy-client.crt" --proxy-client-key-file "$P/front-proxy-client.key" \
        --service-account-issuer https://kubernetes.default.svc.cluster.local --service-account-key-file "$P/sa.pub" \
        --service-account-signing-key-file "$P/sa.key" --service-cluster-ip-range "$SERVICE_RANGE" \
        --tls-cert-file "$P/apiserver.crt" --tls-private-key-file "$P/apiserver.key" --event-ttl 10m $(further kube-apiserver)
    n=0
    until admin get --raw /readyz >/dev/null 2>&1; do
        [ "$n" -lt 240 ] || { say 'the API does not answer'; exit 1; }
        sleep 0.5; n=$((n + 1))
    done
    child kube-controller-manager --kubeconfig "$P/conf/controller-manager.conf" --bind-address 127.0.0.1 \
        --cluster-signing-cert-file "$P/ca.crt" --cluster-signing-key-file "$P/ca.key" --root-ca-file "$P/ca.crt" \
        --service-account-private-key-file "$P/sa.key" --use-service-account-credentials --allocate-node-cidrs \
        --controllers '*,bootstrapsigner,tokencleaner' --cluster-cidr "$POD_RANGE" --service-cluster-ip-range "$SERVICE_RANGE" \
        $(further kube-controller-manager)
    child kube-scheduler --kubeconfig "$P/conf/scheduler.conf" --bind-address 127.0.0.1 $(further kube-scheduler)
}

# What every node may do, and those that only have a token.
grant() {
    admin apply -f - >/dev/null <<'RULES'
apiVersion: v1
kind: List
items:
  # With the certificate of kubeadm that the API shows to kubelets (tlsbootstrap.go, from 1.36 on).
  - apiVersion: rbac.authorization.k8s.io/v1
    kind: ClusterRoleBinding
    metadata: { name: standin-kubelets }
    roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:kubelet-api-admin" }
    subjects: [{ apiGroup: rbac.authorization.k8s.io, kind: User, name: kube-apiserver-kubelet-client }]
  - apiVersion: rbac.authorization.k8s.io/v1
    kind: ClusterRoleBinding
    metadata: { name: standin-bootstrap }
    roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node-bootstrapper" }
    subjects: [{ apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers" }]
  - apiVersion: rbac.authorization.k8s.io/v1
    kind: ClusterRoleBinding
    metadata: { name: standin-approve }
    roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:certificates.k8s.io:certificatesigningrequests:nodeclient" }
    subjects: [{ apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers" }]
  - apiVersion: rbac.authorization.k8s.io/v1
    kind: ClusterRoleBinding
    metadata: { name: standin-renew }
    roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient" }
    subjects: [{ apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:nodes" }]
  - apiVersion: rbac.authorization.k8s.io/v1
    kind: ClusterRoleBinding
    metadata: { name: standin-proxy }
    roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "system:node-proxier" }
    subjects: [{ apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:nodes" }]
  - apiVersion: rbac.authorization.k8s.io/v1
    kind: Role
    metadata: { name: standin, namespace: kube-system }
    rules:
      - { apiGroups: [""], resources: [configmaps], resourceNames: [standin, standin-servers], verbs: [get] }
      - { apiGroups: [""], resources: [secrets], verbs: [get, create] }
  - apiVersion: rbac.authorization.k8s.io/v1
    kind: RoleBinding
    metadata: { name: standin, namespace: kube-system }
    roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: standin }
    subjects: [{ apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:bootstrappers" }]
RULES
}

# A token of Kubernetes out of a secret of another form.
token_of() {
    h=$(printf %s "$1" | sha256sum)
    printf '%s.%s' "$(echo "$h" | cut -c1-6)" "$(echo "$h" | cut -c7-22)"
}

let_in() { # secret
    t=$(token_of "$1")
    admin -n kube-system create secret generic "bootstrap-token-${t%.*}" --type bootstrap.kubernetes.io/token \
        --from-literal "token-id=${t%.*}" --from-literal "token-secret=${t#*.}" --from-literal usage-bootstrap-authentication=true \
        --dry-run=client -o json | admin apply -f - >/dev/null
}

# kubectl for one who has only such a token, and does not know the CA yet.
stranger() { # server token …
    s=$1 t=$2
    shift 2
    kubectl --server "$s" --token "$t" --insecure-skip-tls-verify --kubeconfig /dev/null "$@"
}

import() { # archive
    case $1 in
    *.tar.zst) zstd -dc "$1" ;;
    *.tar) cat "$1" ;;
    *) say "this stand-in cannot read $1"; exit 1 ;;
    esac | ctr -a "$RUN/containerd/containerd.sock" -n k8s.io images import --digests - >/dev/null
}

# containerd, kubelet, kube-proxy, and the routes to the pods of the others. The CA is in $AGENT/ca.crt, and
# $AGENT/kubelet.conf or $AGENT/bootstrap.conf lets it in.
start_node() { # labels taints
    mkdir -p "$AGENT/etc" "$RUN/containerd" "$KUBELET"
    cat >"$AGENT/etc/containerd.toml" <<CONFIG
version = 2
[plugins."io.containerd.internal.v1.opt"]
  path = "$OPT"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$PAUSE"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$BIN/../cni"
    conf_dir = "$AGENT/etc/cni"
CONFIG
    child containerd --config "$AGENT/etc/containerd.toml" --address "$RUN/containerd/containerd.sock" \
        --root "$AGENT/containerd" --state "$RUN/containerd" --log-level warn
    n=0
    until ctr -a "$RUN/containerd/containerd.sock" version >/dev/null 2>&1; do
        [ "$n" -lt 100 ] || { say 'containerd does not start'; exit 1; }
        sleep 0.2; n=$((n + 1))
    done
    for i in "$IMAGES"/*.tar*; do [ ! -e "$i" ] || import "$i"; done
    cat >"$AGENT/etc/kubelet.json" <<CONFIG
{ "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "cgroupDriver": "cgroupfs",
  "authentication": { "anonymous": { "enabled": false }, "webhook": { "enabled": true }, "x509": { "clientCAFile": "$AGENT/ca.crt" } },
  "authorization": { "mode": "Webhook" }, "clusterDNS": ["$DNS"], "clusterDomain": "cluster.local", "failSwapOn": false,
  "rotateCertificates": true, "failCgroupV1": false, "containerRuntimeEndpoint": "unix://$RUN/containerd/containerd.sock", "imageGCHighThresholdPercent": 100,
  "evictionHard": { "imagefs.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%" } }
CONFIG
    # shellcheck disable=SC2046 # They are words.
    child kubelet --config "$AGENT/etc/kubelet.json" --kubeconfig "$AGENT/kubelet.conf" \
        ${BOOTSTRAP:+--bootstrap-kubeconfig "$AGENT/bootstrap.conf"} --cert-dir "$AGENT/pki" --root-dir "$KUBELET" --volume-plugin-dir "$PLUGINS" --hostname-override "$NODE" \
        --node-ip "$IP" \
        ${1:+--node-labels "$1"} ${2:+--register-with-taints "$2"} $(further kubelet)
    n=0
    until [ -s "$AGENT/kubelet.conf" ] && kubectl --kubeconfig "$AGENT/kubelet.conf" get node "$NODE" >/dev/null 2>&1; do
        [ "$n" -lt 600 ] || { say 'this node does not register'; exit 1; }
        sleep 0.5; n=$((n + 1))
    done
    child kube-proxy --kubeconfig "$AGENT/kubelet.conf" --hostname-override "$NODE" --proxy-mode iptables \
        --cluster-cidr "$POD_RANGE" --conntrack-max-per-core 0
    child routes
}

routes() {
    while sleep 1; do
        kubectl --kubeconfig "$AGENT/kubelet.conf" get nodes -o \
            'jsonpath={range .items[*]}{.metadata.name} {.spec.podCIDR} {.status.addresses[?(@.type=="InternalIP")].address}{"\n"}{end}' \
            2>/dev/null | while read -r name range address; do
            [ -n "$address" ] || continue
            if [ "$name" != "$NODE" ]; then
                ip route replace "$range" via "$address" proto "$ROUTES"
            elif [ -n "$range" ] && ! grep -qs "\"$range\"" "$AGENT/etc/cni/10-flannel.conflist"; then
                [ -z "$BLACKHOLE" ] || ip route replace blackhole "$range" proto "$BLACKHOLE" metric 1024
                # It may have another range than in the cluster that it was in before.
                ip link del cni0 2>/dev/null || :
                mkdir -p "$AGENT/etc/cni"
                cat >"$AGENT/etc/cni/.new" <<CONFIG
{ "cniVersion": "0.4.0", "name": "cbr0", "plugins": [
  { "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
    "ipam": { "type": "host-local", "ranges": [[{ "subnet": "$range" }]], "routes": [{ "dst": "0.0.0.0/0" }] } },
  { "type": "portmap", "capabilities": { "portMappings": true } } ] }
CONFIG
                mv "$AGENT/etc/cni/.new" "$AGENT/etc/cni/10-flannel.conflist"
            fi
        done
    done
}

# An API server waits a minute for those who watch it.
# shellcheck disable=SC2086 # They are numbers.
end_children() {
    kill $children 2>/dev/null || :
    n=0
    while [ "$n" -lt 20 ] && kill -0 $children 2>/dev/null; do sleep 0.2; n=$((n + 1)); done
    kill -9 $children 2>/dev/null || :
    children=
}
trap end_children EXIT
trap 'exit 143' TERM INT

# A worker's own way to a server that lives, out of those in $AGENT/servers.
balance() { # port
    p=
    trap '[ -z "$p" ] || kill "$p"; exit' TERM
    while :; do
        while read -r a; do
            answers "$a:$API_PORT" || continue
            systemd-socket-activate -l "127.0.0.1:$1" /lib/systemd/systemd-socket-proxyd "$a:$API_PORT" >/dev/null 2>&1 &
            p=$!
            while answers "$a:$API_PORT"; do
                sleep 2 &
                wait $!
            done
            kill "$p" 2>/dev/null || :
            p=
        done <"$AGENT/servers"
        sleep 1
    done
}
answers() { curl -sk --max-time 2 -o /dev/null "https://$1/readyz"; } # host:port
known_servers() { # server token
    stranger "$1" "$2" -n kube-system get configmap standin-servers -o 'jsonpath={.data.*}' | tr ' ' '\n' >"$AGENT/servers"
    echo >>"$AGENT/servers"
}

# Tells systemd, and ends when one of the children does. Containers go on, as KillMode=process means.
serve() {
    systemd-notify --ready "--status=up" 2>/dev/null || :
    trap 'exit 0' TERM INT
    while :; do
        for c in $children; do
            kill -0 "$c" 2>/dev/null || { say "a child ended"; exit 1; }
        done
        sleep 1 &
        wait $!
    done
}

# What the servers keep in the cluster for those that join.
publish() { # key=value…
    keys=$(tar -C "$P" -cz ca.crt ca.key sa.key sa.pub front-proxy-ca.crt front-proxy-ca.key etcd/ca.crt etcd/ca.key | base64 -w0)
    (umask 077; echo "$keys" | base64 -d >"$RUN/keys")
    admin -n kube-system create secret generic standin-server --from-file "keys=$RUN/keys" --dry-run=client -o json | admin apply -f - >/dev/null
    rm -f "$RUN/keys"
    for f in "$@"; do
        set -- "$@" --from-literal "$f"
        shift
    done
    admin -n kube-system create configmap standin --from-file "ca=$P/ca.crt" "$@" --dry-run=client -o json | admin apply -f - >/dev/null
    admin -n kube-system create configmap standin-servers >/dev/null 2>&1 || :
    admin -n kube-system patch configmap standin-servers --type merge -p "{ \"data\": { \"$NODE\": \"$IP\" } }" >/dev/null
}

# The address of a server that lives: etcd has no certificate for an address that moves.
live_server() { # server token
    for a in $(stranger "$1" "$2" -n kube-system get configmap standin-servers -o 'jsonpath={.data.*}'); do
        if [ "$a" != "$IP" ] && curl -sk --max-time 2 -o /dev/null "https://$a:$API_PORT/"; then
            echo "$a"
            return
        fi
    done
}

of_cluster() { # key
    kubectl --kubeconfig /dev/null patch --local -f "$RUN/cluster.json" --type merge -p '{}' -o "jsonpath={.data.$1}"
}

# The keys of a cluster, for a server that joins it.
fetch_keys() { # server token
    mkdir -p "$P"
    stranger "$1" "$2" -n kube-system get secret standin-server -o 'jsonpath={.data.keys}' | base64 -d | tar -xz -C "$P"
}

# Adds this server to the etcd of a cluster as a learner, and waits until it votes.
join_etcd_as() { # endpoint name
    until cluster=$(etcd_ctl "$1" member add "$2" --peer-urls "https://$IP:2380" --learner 2>"$RUN/error" | sed -n 's/^ETCD_INITIAL_CLUSTER="\(.*\)"/\1/p') && [ -n "$cluster" ]; do
        say "cannot be added yet: $(tail -n 1 "$RUN/error")"
        sleep 2
    done
    start_etcd "$2" "$cluster" existing
    say 'joined etcd as a learner'
    until [ -n "${id:=$(etcd_ctl "$1" member list | awk -F', ' -v p="https://$IP:2380" '$4 == p || $5 == p { print $1 }')}" ] &&
        etcd_ctl "$1" member promote "$id" >/dev/null 2>&1; do sleep 1; done
}

bootstrap_config() { # server token
    cat >"$AGENT/bootstrap.conf" <<CONFIG
{ "apiVersion": "v1", "kind": "Config", "current-context": "join",
  "clusters": [{ "name": "join", "cluster": { "server": "$1", "certificate-authority": "$AGENT/ca.crt" } }],
  "users": [{ "name": "join", "user": { "token": "$2" } }],
  "contexts": [{ "name": "join", "context": { "cluster": "join", "user": "join" } }] }
CONFIG
    chmod 600 "$AGENT/bootstrap.conf"
    BOOTSTRAP=yes
}
