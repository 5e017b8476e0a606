# What k0s needs. Takes service, and the functions of steps.sh, cluster.sh and own_runtime.sh.
# Defines what cluster.sh and own_runtime.sh ask of a distribution, and: takes_tokens, etcd_has, make_users, remove_users, with_token,
# forget_token, tell_ca, tell_tokens, k0s_init, k0s_join.
K=/var/lib/k0s
kubectl_node() { k0s kubectl --cache-dir /run/bramble/kube-cache --kubeconfig "$K/kubelet.conf" "$@"; } # question
kubectl_admin() { k0s kubectl --cache-dir /run/bramble/kube-cache --kubeconfig "$K/pki/admin.conf" "$@"; } # question

# Its service says nothing of how far it is; its status does.
runs() { # question
    case $service in
    k0scontroller) k0s status >/dev/null 2>&1 && kubectl_admin get --raw /readyz >/dev/null 2>&1 ;;
    *) k0s status -o json 2>/dev/null | tr -d ' \n' | grep -q '"WorkerToAPIConnectionStatus":{[^}]*"Success":true' ;;
    esac
}
# shellcheck disable=SC2034 # For service_until.
hopeless=
# Whether it makes tokens, long before everything runs: for that it asks its own status, and the API has to have a place for them.
takes_tokens() { k0s status >/dev/null 2>&1 && kubectl_admin get --raw /api/v1/namespaces/kube-system >/dev/null 2>&1; } # question

was_member() { [ -e "$K/pki/ca.crt" ] || [ -e "$K/kubelet.conf" ]; } # question

# Whether etcd answers, and has a member with this address.
etcd_has() { k0s etcd member-list 2>/dev/null | tr -d ' ' | grep -q "\"https://$1:2380\""; } # question

# A member of etcd is known by its address. k0s has a record of its own for each controller.
forget_node() { # name address
    # Its etcd has no leader for a moment when a member was lost.
    n=0
    until m=$(k0s etcd member-list 2>/run/bramble/etcd); do
        [ "$n" -lt 60 ] || { cat /run/bramble/etcd >&2; return 1; }
        sleep 1; n=$((n + 1))
    done
    if echo "$m" | tr -d ' ' | grep -q "\"https://$2:2380\""; then
        k0s etcd leave --peer-address "$2" >/run/bramble/etcd 2>&1 || { cat /run/bramble/etcd >&2; return 1; }
    fi
    best_effort kubectl_admin delete controlnodes.autopilot.k0sproject.io "$1" --ignore-not-found
    kubectl_admin delete node "$1" --ignore-not-found --timeout=60s >/dev/null
}

# The users that its programs run as; without them all would run as root (k0s, pkg/apis/k0s/v1beta1/system.go). keepalived has to: as
# a user `keepalived` it cannot write its file of its process into /run, and ends.
K0S_USERS='etcd kube-apiserver konnectivity-server kube-scheduler'
make_users() {
    for u in $K0S_USERS; do
        if id -u "$u" >/dev/null 2>&1; then continue; fi
        useradd --system --no-create-home --home-dir "$K" --shell /usr/sbin/nologin "$u"
        mkdir -p "$B/k0s.users"
        : >"$B/k0s.users/$u"
    done
}

stop_kubernetes() { systemctl stop k0scontroller; }

# Kubernetes leaves the node, whatever state it was in. Images that were sent stay.
reset_kubernetes() {
    stop_units k0scontroller k0sworker
    end_pods "$K"
    unmount_below /run/k0s/ "$K/"
    # Debian 13 has no iptables where nobody installed it; k0s brings its own.
    PATH=$PATH:$K/bin remove_pods_network
    remove_link kube-bridge
    # kube-router's routes to the pods of others (17, kube-router, pkg/utils) would lead the next cluster's astray.
    best_effort ip route flush proto 17
    rm -f /etc/cni/net.d/10-kuberouter.conflist /etc/cni/net.d/10-calico.conflist /etc/cni/net.d/calico-kubeconfig
    rm -rf --one-file-system /run/k0s /etc/k0s/member
    [ ! -d "$K" ] || find "$K" -mindepth 1 -maxdepth 1 ! -name images -exec rm -rf --one-file-system {} +
    remove_sockets
    forget_token
    forget_cluster
}

remove_users() {
    for u in $K0S_USERS; do
        [ -e "$B/k0s.users/$u" ] || continue
        # A user whose processes still run stays, and is tried again.
        ! id -u "$u" >/dev/null 2>&1 || userdel "$u"
        rm -f "$B/k0s.users/$u"
    done
    rm -rf "$B/k0s.users"
}

# The token, and leave to start, are given to this start alone: once a node has joined the token is not asked for again,
# and a controller's gives the keys of the cluster away.
J=/run/systemd/system/$service.service.d
with_token() { # token
    private_file /run/bramble/k0s.token "$1"
    mkdir -p "$J"
    c=$(sed -n 's/^ExecStart=//p' "/etc/systemd/system/$service.service")
    [ -n "$c" ] || { echo "the unit $service has no ExecStart" >&2; return 1; }
    printf '[Unit]\nConditionPathExists=\n[Service]\nExecStart=\nExecStart=%s --token-file=/run/bramble/k0s.token\n' "$c" >"$J/bramble.conf"
}
forget_token() {
    rm -rf "$J" /run/bramble/k0s.token
    systemctl daemon-reload
}

tell_ca() {
    h=$(sha256sum <"$K/pki/ca.crt")
    echo "@fact ca-hash ${h%% *}"
}

# What others join with, for half an hour.
tell_tokens() { # role…
    for r in "$@"; do
        t=$(k0s token create --role "$r" --expiry 30m)
        # It is a kubeconfig; the name of its token ends at the point.
        p=$(echo "$t" | base64 -d | gzip -dc | grep -o '[a-z0-9]\{6\}\.[a-z0-9]\{16\}') || { echo 'there is no token in what k0s gives' >&2; return 1; }
        private_folder
        for p in $p; do echo "${p%%.*}" >>/run/bramble/k0s.tokens; done
        echo "@fact $r-token $t"
    done
}
forget_tokens() {
    [ -e /run/bramble/k0s.tokens ] || return 0
    while read -r t; do k0s token invalidate "$t" </dev/null >/dev/null; done </run/bramble/k0s.tokens
    rm -f /run/bramble/k0s.tokens
}

k0s_init() { # backup role…
    leave_old
    make_users
    if [ -n "$1" ]; then
        d=/var/lib/bramble/restore
        rm -rf "$d"
        mkdir -m 700 "$d"
        tar -C "$d" -xzf "$1"
        # What it unpacks is not for a /tmp in memory.
        TMPDIR=$d k0s restore "$d"/k0s_backup_* --config-out "$d/k0s.yaml" >"$d/log" 2>&1 || { tail -n 5 "$d/log" >&2; return 1; }
        rm -rf "$d" "$1"
    fi
    shift
    : >/etc/k0s/member
    service_begins start
    service_until takes_tokens
    ca=$(tell_ca)
    echo "$ca"
    tell_tokens "$@"
    # Workers begin while the rest of it starts.
    echo '@fact joinable yes'
    service_until runs
    step_ends ca-hash "${ca##* }"
}

k0s_join() { # token address
    leave_old
    [ "$service" != k0scontroller ] || make_users
    with_token "$1"
    service_runs start
    mkdir -p /etc/k0s
    : >/etc/k0s/member
    forget_token
    [ "$service" = k0scontroller ] || return 0
    # The next one can come when this one is a member for good.
    n=0
    until etcd_has "$2"; do
        if [ "$n" -ge 300 ]; then
            echo 'its etcd does not become a member' >&2
            unit_failed "$service"
            return 1
        fi
        sleep 1; n=$((n + 1))
    done
}

# Images are not the state of a cluster, and k0s knows of no way to leave them out: it is shown an empty folder. It works in
# TMPDIR, since /tmp may be memory.
snapshot_state() { # folder
    mkdir -p "$1/tmp" "$1/none" "$K/images"
    # shellcheck disable=SC2016 # They are for the inner shell.
    TMPDIR=$1/tmp unshare --mount sh -ec 'mount --bind "$1" "$2"; exec k0s backup --save-path "$3"' sh "$1/none" "$K/images" "$1" \
        >/run/bramble/snapshot 2>&1 || { tail -n 3 /run/bramble/snapshot >&2; return 1; }
    rm -rf "$1/tmp" "$1/none"
    set -- "$1"/k0s_backup_*
    [ -s "$1" ] || { tail -n 3 /run/bramble/snapshot >&2; return 1; }
}
