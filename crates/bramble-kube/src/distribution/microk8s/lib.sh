# What MicroK8s needs: a snap that is a cluster of its own as soon as it is there. Its programs end with success when they
# did nothing, and with an error when all went well, so what counts is what there is afterwards.
# Takes service; snaps, those that were sent, in the order in which they need each other; and the functions of steps.sh,
# cluster.sh and own_runtime.sh. Defines what cluster.sh and own_runtime.sh ask of a distribution, and: microk8s, is_worker,
# planes, asserted, installed, patiently, install_snaps, send_images, images_arrived, in_time, begin_waiting, begin,
# tell_ca, tell_tokens, tell_arguments, microk8s_init, ask_to_join, join_said, microk8s_join, microk8s_upgrade, without_kicker,
# renew_certificates, restore_state, remove_snaps.
P=/snap/microk8s/current
D=/var/snap/microk8s/current
C=/var/snap/microk8s/common
S=/var/lib/bramble/snaps
microk8s() { /snap/bin/microk8s "$@"; } # question
# Its own wrapper starts a dozen programs first.
kubectl_node() { "$P/kubectl" --cache-dir /run/bramble/kube-cache --kubeconfig "$D/credentials/kubelet.config" "$@"; } # question
kubectl_admin() { "$P/kubectl" --cache-dir /run/bramble/kube-cache --kubeconfig "$D/credentials/client.config" "$@"; } # question

is_worker() { [ -e "$D/var/lock/clustered.lock" ]; } # question
was_member() { [ -e "$P" ]; } # question
stop_kubernetes() { snap stop microk8s; }

# A worker reaches the API through a proxy of its own.
runs() { # question
    if is_worker; then "$P/kubectl" --kubeconfig "$D/credentials/kubelet.config" get --raw /readyz >/dev/null 2>&1
    else kubectl_admin get --raw /readyz >/dev/null 2>&1
    fi
}
# shellcheck disable=SC2034 # For service_until.
hopeless=

# The control planes that dqlite knows, by address. None if it does not answer.
planes() { microk8s status --format yaml 2>/dev/null | sed -n 's/^ *- address: \([0-9.]*\):.*/\1/p'; } # question

# A member of dqlite that is gone keeps a new board with its address out. No answer is none of dqlite's.
forget_node() { # name address
    if kubectl_admin get node "$1" >/dev/null 2>&1; then
        microk8s remove-node "$1" --force >/run/bramble/forget 2>&1 || :
    fi
    n=0
    until p=$(planes) && [ -n "$p" ] && ! echo "$p" | grep -qxF "$2"; do
        [ "$n" -lt 10 ] || { echo "dqlite keeps its member $2:"; tail -n 5 /run/bramble/forget; return 1; } >&2
        microk8s remove-node "$2" --force >/run/bramble/forget 2>&1 || :
        sleep 1; n=$((n + 1))
    done
    kubectl_admin delete node "$1" --ignore-not-found --timeout=60s >/dev/null
}

# The revision of a snap that its assertion speaks of, and the one that is there.
asserted() { sed -n 's/^snap-revision: //p' "$S/$1.assert"; }
installed() { readlink "/snap/$1/current" 2>/dev/null || :; }

# Another change of snapd's may be under way: it looks for new revisions by itself.
patiently() {
    n=0
    until "$@" >/run/bramble/snap 2>&1; do
        if [ "$n" -ge 30 ] || ! grep -q 'changes\{0,1\} in progress\|try again\|cannot communicate with server' /run/bramble/snap; then
            tail -n 5 /run/bramble/snap >&2
            return 1
        fi
        sleep 2; n=$((n + 1))
    done
}

# Snaps that were sent, each with who vouches for it. One that others brought stays as it is, but MicroK8s. snapd keeps
# snaps of its own: ours are the same bytes, once.
install_snaps() {
    patiently snap wait system seed.loaded
    [ -e "$P" ] || getent group microk8s >/dev/null || : >"$B/group.ours"
    for s in $snaps; do
        r=$(asserted "$s")
        [ -n "$r" ] || { echo "$S/$s.assert names no revision" >&2; return 1; }
        i=$(installed "$s")
        if [ -n "$i" ] && { [ "$s" != microk8s ] || [ "$i" = "$r" ]; }; then continue; fi
        [ -n "$i" ] || echo "$s" >>"$B/snaps.ours"
        classic=
        if [ "$s" = microk8s ]; then
            classic=--classic
            send_images
        fi
        patiently snap ack "$S/$s.assert"
        # Somebody's kubectl would keep an upgrade from happening.
        patiently snap install --ignore-running ${classic:+"$classic"} "$S/$s.snap"
        own=/var/lib/snapd/snaps/${s}_$r.snap
        if cmp -s "$own" "$S/$s.snap"; then
            best_effort ln -f "$own" "$S/$s.snap"
            chmod 644 "$S/$s.snap"
        fi
    done
    # It would go to another version by itself, on all nodes in the same hour.
    patiently snap refresh --hold microk8s
}

# Its containerd takes archives from there, and gives them another name when it has them.
send_images() {
    [ -e "$S/images.tar" ] || return 0
    if [ -d "$C/etc/sideload" ]; then
        rm -f "$C"/etc/sideload/bramble.tar*
        cp "$S/images.tar" "$C/etc/sideload/bramble.part"
        mv "$C/etc/sideload/bramble.part" "$C/etc/sideload/bramble.tar"
    else
        mkdir -p "$C/sideload"
        # Another file system cannot have the same bytes.
        ln -f "$S/images.tar" "$C/sideload/bramble.tar" 2>/dev/null || cp "$S/images.tar" "$C/sideload/bramble.tar"
    fi
}
images_arrived() {
    n=0
    while [ -e "$C/etc/sideload/bramble.tar" ]; do
        [ "$n" -lt 600 ] || { echo 'its containerd does not take the images' >&2; return 1; }
        sleep 1; n=$((n + 1))
    done
    rm -f "$C"/etc/sideload/bramble.tar* "$C/sideload/bramble.tar"
}

in_time() { # question
    now=$(date +%s) && [ "$now" -lt "$end" ]
}

# From now on it is in_time for ten minutes.
begin_waiting() {
    end=$(date +%s)
    end=$((end + 600))
}

# Begins as a cluster of this node alone, with its network: applied later, it would be applied to the cluster that it joins.
# With too little memory for a control plane it only waits to become a worker.
begin() {
    leave_old
    install_snaps
    images_arrived
    begin_waiting
    until [ -e "$D/var/lock/low-memory-guard.lock" ] || { runs && [ -e "$D/var/lock/cni-loaded" ]; }; do
        in_time || { unit_failed "$service"; return 1; }
        sleep 1
    done
    # It would make its certificate anew and start again when an address comes or goes.
    : >"$D/var/lock/no-cert-reissue"
}

tell_ca() {
    h=$(sha256sum <"$D/certs/ca.crt")
    echo "@fact ca-hash ${h%% *}"
}

# What others join with, each with its own: for two hours, since control planes wait for each other.
tell_tokens() { # address name…
    echo "@fact agent $1:25000"
    shift
    all=
    for j in "$@"; do
        t=$(microk8s add-node --token-ttl 7200 --format token-check)
        case $t in ?*/?*) ;; *) echo 'MicroK8s gives no token' >&2; return 1 ;; esac
        private_folder
        (umask 077; echo "${t%/*}" >>/run/bramble/microk8s.tokens)
        all="$all $j=$t"
    done
    echo "@fact tokens$all"
}
forget_tokens() {
    [ -e /run/bramble/microk8s.tokens ] || return 0
    f=$D/credentials/cluster-tokens.txt
    if [ -e "$f" ]; then
        # There may be no others.
        (umask 077; grep -vFf /run/bramble/microk8s.tokens "$f" >/run/bramble/kept || [ "$?" = 1 ])
        cat /run/bramble/kept >"$f"
    fi
    rm -f /run/bramble/microk8s.tokens /run/bramble/kept
}

microk8s_init() { # backup address dns name…
    begin
    [ -z "$1" ] || restore_state "$1"
    address=$2
    # shellcheck disable=SC2086
    microk8s enable dns $3 >/run/bramble/dns 2>&1 || { tail -n 5 /run/bramble/dns >&2; return 1; }
    shift 3
    ca=$(tell_ca)
    echo "$ca"
    tell_tokens "$address" "$@"
    echo '@fact joinable yes'
    step_ends ca-hash "${ca##* }"
}

# `microk8s join` takes the token as an argument, which every user of the node can read. So its program is started here as its
# wrapper does it (microk8s-resources/wrappers/microk8s-join.wrapper), and finds the connection among its arguments when it
# runs. `snap run --shell` gives the arguments that follow to bash (snapd, cmd/snap-exec/main.go): its commands, and as $0
# those of Python.
ask_to_join() { # [--worker]; standard input has the connection # question
    # shellcheck disable=SC2016 # It is for another shell.
    snap run --shell microk8s -c '
        set -eu
        . "$SNAP/actions/common/utils.sh"
        use_snap_env
        exec "$SNAP/usr/bin/python3" -c "$0" "$SNAP/scripts/wrappers/join.py" "$@"
    ' 'if 1:
        import os, runpy, sys
        program = sys.argv[1]
        sys.argv[:2] = [program, sys.stdin.readline().strip()]
        sys.path[0] = os.path.dirname(program)
        runpy.run_path(program, run_name="__main__")
    ' ${1:+"$1"}
}

# What it said of joining, but for the token.
join_said() { # token
    while IFS= read -r l; do
        case $l in '' | *"$1"*) ;; *) printf '%s\n' "$l" ;; esac
    done </run/bramble/join
}

microk8s_join() { # address:port token address [--worker]
    begin
    # The first one that joins lets the other side's control plane start again.
    n=0
    private_file /run/bramble/connection "$1/$2"
    until ask_to_join "$4" </run/bramble/connection >/run/bramble/join 2>&1; do
        [ "$n" -lt 5 ] || { join_said "$2" | tail -n 5 >&2; return 1; }
        sleep 10; n=$((n + 1))
    done
    rm -f /run/bramble/connection
    begin_waiting
    until runs && { [ -n "$4" ] || planes | grep -qxF "$3"; }; do
        in_time || { echo 'it does not become a member:'; join_said "$2" | tail -n 5; unit_failed "$service"; return 1; } >&2
        sleep 1
    done
    # It has its kubelet's arguments from the other node, whose system may be another one: the file may be missing here, or name
    # a name server of this machine's, which pods would look for in themselves. MicroK8s finds one by itself then.
    f=
    [ ! -e "$D/args/kubelet" ] || f=$(sed -n 's/^--resolv-conf=//p' "$D/args/kubelet")
    if [ -n "$f" ] && { [ ! -e "$f" ] || grep -q '^ *nameserver *\(127\.\|::1\)' "$f"; }; then
        sed -i '/^--resolv-conf=/d' "$D/args/kubelet"
        service_runs restart
    fi
    # Its agent would show others the certificate that it began with.
    [ -n "$4" ] || systemctl restart snap.microk8s.daemon-cluster-agent
}

# Tells a program of Kubernetes its further arguments, behind those that it has; those of before go.
tell_arguments() { # program [argument]…
    f=$D/args/$1
    shift
    # A node has from MicroK8s what it begins with; the last line may have no end.
    # shellcheck disable=SC1003
    sed -i -e '/^# bramble begins$/,/^# bramble ends$/d' -e '$a\' "$f"
    [ "$#" = 0 ] || {
        echo '# bramble begins'
        printf '%s\n' "$@"
        echo '# bramble ends'
    } >>"$f"
}

microk8s_upgrade() {
    install_snaps
    images_arrived
    begin_waiting
    until runs; do
        in_time || { unit_failed "$service"; return 1; }
        sleep 1
    done
    # Calico's pod has folders of the old revision; on a control plane MicroK8s starts it anew by itself.
    if is_worker; then
        h=$(hostname)
        "$P/kubectl" --kubeconfig "$D/credentials/kubelet.config" -n kube-system delete pod --ignore-not-found \
            -l k8s-app=calico-node --field-selector "spec.nodeName=$h" >/dev/null
    fi
}

# What keeps certificates right by itself would take those that are just being made for wrong ones.
without_kicker() {
    systemctl stop snap.microk8s.daemon-apiserver-kicker
    rc=0
    "$@" >/run/bramble/certs 2>&1 || rc=$?
    systemctl start snap.microk8s.daemon-apiserver-kicker
    [ "$rc" = 0 ] || tail -n 5 /run/bramble/certs >&2
    rm -rf "$D/certs-backup"
    return "$rc"
}
renew_certificates() {
    for c in server.crt front-proxy-client.crt; do without_kicker microk8s refresh-certs -e "$c"; done
    api_answers 120
}

# Its archive is called after the folder in it, and must keep its name.
snapshot_state() { # folder
    (cd "$1" && microk8s dbctl backup -o state >/run/bramble/snapshot 2>&1) || { tail -n 3 /run/bramble/snapshot >&2; return 1; }
    [ -s "$1/state.tar.gz" ] || { tail -n 3 /run/bramble/snapshot >&2; return 1; }
    for f in ca.crt ca.key serviceaccount.key; do cp -p "$D/certs/$f" "$1/"; done
    # Workers know their control planes by it.
    [ ! -e "$D/credentials/callback-token.txt" ] || cp -p "$D/credentials/callback-token.txt" "$1/"
}

restore_state() { # archive
    d=/var/lib/bramble/restore
    rm -rf "$d"
    mkdir -m 700 "$d"
    tar -C "$d" -xzf "$1"
    cat "$d/serviceaccount.key" >"$D/certs/serviceaccount.key"
    [ ! -e "$d/callback-token.txt" ] || cp -p "$d/callback-token.txt" "$D/credentials/"
    without_kicker microk8s refresh-certs "$d"
    api_answers 120
    # Into its database alone: what runs beside it would write as well. It says what it could not put back, and goes on.
    systemctl stop "$service"
    if ! (cd "$d" && microk8s dbctl restore state.tar.gz >"$d/log" 2>&1) || grep -qi 'failed to restore key' "$d/log" ||
        ! grep -qi 'completed database restore' "$d/log"; then
        tail -n 5 "$d/log" >&2
        return 1
    fi
    rm -rf "$d" "$1"
    service_runs restart
}

# Kubernetes leaves the node, whatever state it was in.
reset_kubernetes() {
    if [ -e "$P" ]; then
        # A half installed one cannot be stopped, but removed.
        best_effort snap stop microk8s
        end_pods /snap/microk8s
        unmount_below /var/snap/microk8s/
        patiently snap remove --purge microk8s
    fi
    for l in /var/lib/kubelet /var/lib/calico /etc/cni/net.d /opt/cni/bin; do
        [ -L "$l" ] || continue
        t=$(readlink "$l")
        case $t in /var/snap/microk8s/*) rm -f "$l" ;; esac
    done
    remove_pods_network
    unmount_below /var/snap/microk8s/
    rm -rf --one-file-system /var/snap/microk8s
    forget_tokens
    forget_cluster
}

# The last one can only go with the package snapd itself.
remove_snaps() {
    if [ -e "$B/group.ours" ]; then
        ! getent group microk8s >/dev/null || best_effort groupdel microk8s
        rm -f "$B/group.ours"
    fi
    [ -e "$B/snaps.ours" ] || return 0
    l=$(sort -u "$B/snaps.ours" | grep -vxF snapd || [ "$?" = 1 ])
    for s in $l snapd; do
        i=$(installed "$s")
        [ -z "$i" ] || best_effort snap remove --purge "$s"
    done
    rm -f "$B/snaps.ours"
}
