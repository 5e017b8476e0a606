# What k3s needs. Takes service, and the functions of steps.sh, cluster.sh and own_runtime.sh.
# Defines what cluster.sh and own_runtime.sh ask of a distribution, and: k3s_init, k3s_join, k3s_restore, tell_how_to_join,
# plain_token, keep_tokens, begin, rotate_token, take_tokens, rotate_encryption, copy_sqlite, unpack, forget_releases, forget_passwords.
K=/var/lib/rancher/k3s
kubectl_node() { k3s kubectl --cache-dir /run/bramble/kube-cache --kubeconfig "$K/agent/kubelet.kubeconfig" "$@"; } # question
kubectl_admin() { k3s kubectl --cache-dir /run/bramble/kube-cache --kubeconfig /etc/rancher/k3s/k3s.yaml "$@"; } # question

# k3s takes the member of a deleted node out of etcd itself. Its password would keep a new board of this name out.
forget_node() { # name address
    kubectl_admin delete node "$1" --ignore-not-found --timeout=120s >/dev/null
    kubectl_admin -n kube-system delete secret "$1.node-password.k3s" --ignore-not-found >/dev/null
}

stop_kubernetes() { systemctl stop k3s; }

# Kubernetes leaves the node, whatever state it was in. Volumes of pods, images that were sent and what somebody has said to
# k3s' containerd stay.
reset_kubernetes() {
    stop_units k3s k3s-agent
    end_pods "$K/data"
    unmount_below /run/k3s/ "$K/server/" "$K/agent/"
    PATH=$PATH:$K/data/current/bin/aux remove_pods_network
    rm -rf --one-file-system /run/k3s "$K/server" /etc/rancher/node /etc/rancher/k3s/token /etc/rancher/k3s/agent-token \
        /etc/rancher/k3s/k3s.yaml /etc/rancher/k3s/config.yaml.d/10-begin.yaml
    a=$K/agent
    for d in "$a" "$a/etc" "$a/etc/containerd"; do
        [ ! -d "$d" ] || find "$d" -mindepth 1 -maxdepth 1 ! -path "$a/images" ! -path "$a/etc" ! -path "$a/etc/containerd" \
            ! -path "$a/etc/containerd/*.tmpl" ! -path "$a/etc/containerd/*.toml.d" -exec rm -rf --one-file-system {} +
    done
    remove_sockets
    forget_cluster
}

# k3s unpacks itself when it is first asked for something: 275 MB, before its turn to start.
unpack() { k3s kubectl version --client >/dev/null; }

# What earlier releases have unpacked goes, but for the last one, and for those whose programs still run: the shims of pods.
forget_releases() {
    private_folder
    # Some processes end while this reads.
    ls -l /proc/[0-9]*/exe >/run/bramble/programs 2>/dev/null || :
    [ -s /run/bramble/programs ] || return 0
    for d in "$K"/data/*; do
        if [ -L "$d" ] || [ ! -d "$d" ] || [ "${d##*/}" = cni ]; then continue; fi
        for l in current previous; do
            [ "$(readlink "$K/data/$l" || :)" != "$d" ] || continue 2
        done
        # Programs are told by where they really are.
        r=$(readlink -f "$d")
        grep -qF -e "-> $r/" /run/bramble/programs || rm -rf --one-file-system "$d"
    done
    rm -f /run/bramble/programs
}

runs() { systemctl -q is-active "$service"; } # question
# shellcheck disable=SC2034 # For service_until.
hopeless='Node password rejected\|encrypted with different token'

# Whether the server has let this agent in.
let_in() { [ -e "$K/agent/client-kubelet.crt" ] && [ -e "$K/agent/kubelet.kubeconfig" ]; } # question

was_member() { [ -e "$K/server/db" ] || [ -e "$K/agent/client-kubelet.crt" ]; } # question

# Files of tokens hold them with or without the digest of the CA.
plain_token() { # file
    sed 's/^K10[0-9a-f]*::[a-z]*://' "$1"
}

# What this node lets others in with.
tell_how_to_join() { # address
    t=$(cat "$K/server/token")
    case $t in
    K10?*::*) h=${t#K10} ;;
    *) echo "$K/server/token does not hold the digest of the CA" >&2; return 1 ;;
    esac
    echo "@fact ca-hash ${h%%::*}"
    echo "@fact server https://$1:6443"
    for f in token agent-token; do
        t=$(plain_token "/etc/rancher/k3s/$f")
        [ -n "$t" ] || { echo "/etc/rancher/k3s/$f is empty" >&2; return 1; }
        echo "@fact $f $t"
    done
}

# The tokens are the cluster's own, and stay.
forget_tokens() { :; }

# k3s is told how it begins: with whom, if not alone, and by which token.
begin() { # token agent-token server
    mkdir -p /etc/rancher/k3s/config.yaml.d
    keep_tokens "$1" "$2"
    [ -z "$3" ] || (umask 077; echo "server: $3" >/etc/rancher/k3s/config.yaml.d/10-begin.yaml)
}

keep_tokens() { # token agent-token
    (
        umask 077
        printf '%s' "$1" >/etc/rancher/k3s/token
        [ -z "$2" ] || printf '%s' "$2" >/etc/rancher/k3s/agent-token
    )
}

# Servers have a new token from now on, by which their datastore opens; each needs it when it starts again. Agents have one, too.
rotate_token() {
    private_folder
    a=$(od -An -v -N24 -tx1 /dev/urandom)
    a=$(echo "$a" | tr -d ' \n')
    p=$K/server/cred/passwd
    cp -p "$p" /run/bramble/passwd
    # k3s saves this file together with the token, and a server whose own is another and newer one never starts again: what lets
    # agents in has to stand there before (k3s, pkg/cluster/bootstrap.go, `isNewerFile`).
    sed -i "s/^[^,]*,node,node,/$a,node,node,/" "$p"
    if ! grep -q "^$a," "$p" || ! k3s token rotate >/run/bramble/rotate 2>&1; then
        cp -p /run/bramble/passwd "$p"
        [ ! -e /run/bramble/rotate ] || tail -n 3 /run/bramble/rotate >&2
        echo 'k3s does not make its tokens anew: it has the old ones' >&2
        return 1
    fi
    rm -f /run/bramble/rotate /run/bramble/passwd
    t=$(plain_token "$K/server/token")
    [ -n "$t" ] || { echo "$K/server/token is empty" >&2; return 1; }
    # Its datastore opens only by this one from now on, also if this script ends here.
    keep_tokens "$t" "$a"
    echo "@fact token $t"
    echo "@fact agent-token $a"
}

take_tokens() { # token agent-token
    keep_tokens "$1" "$2"
    # It comes back as it was saved.
    [ -z "$2" ] || rm -f "$K/server/cred/passwd"
    service_runs restart
}

# All Secrets are encrypted anew; other servers read the new key when they start again.
rotate_encryption() {
    # A server that has just started again says a little later what it has.
    n=0
    while :; do
        s=$(k3s secrets-encrypt status)
        case $s in *'hash does not match'* | *'hashes do not match'*) ;; *) break ;; esac
        [ "$n" -lt 60 ] || break
        sleep 1; n=$((n + 1))
    done
    case $s in
    *'Encryption Status: Enabled'*) ;;
    *)
        echo 'k3s does not encrypt Secrets here: say "server: { secrets-encryption: true }" for a new cluster; one that runs wants "k3s secrets-encrypt enable", too' >&2
        return 1
        ;;
    esac
    case $s in
    *'All hashes match'*) ;;
    *)
        echo 'not all servers have the keys of the last time yet: start k3s again on those that have not, one after the other' >&2
        return 1
        ;;
    esac
    k3s secrets-encrypt rotate-keys
}

# Boards may have joined anew since the backup, with another password than it has: each says its own again.
forget_passwords() {
    private_folder
    api_answers 120
    kubectl_admin -n kube-system get secrets -o name >/run/bramble/secrets
    sed -n '/\.node-password\.k3s$/p' /run/bramble/secrets | while read -r s; do
        kubectl_admin -n kube-system delete "$s" --ignore-not-found </dev/null >/dev/null
    done
    rm -f /run/bramble/secrets
}

k3s_init() { # token agent-token address backup component
    leave_old
    if [ -z "$4" ]; then begin "$1" "$2" ''; else k3s_restore "$4"; fi
    service_runs start
    [ -z "$4" ] || forget_passwords
    facts=$(tell_how_to_join "$3")
    echo "$facts"
    echo '@fact joinable yes'
    if [ -n "$5" ]; then
        # The system's pods come a little later. Each question costs a second of a core, while all nodes start.
        n=0
        until d=$(kubectl_admin -n kube-system get deployment "$5" --ignore-not-found -o name 2>&1) && [ -n "$d" ]; do
            [ "$n" -lt 40 ] || { echo "k3s does not bring its $5 $d" >&2; return 1; }
            sleep 4; n=$((n + 1))
        done
    fi
    h=$(echo "$facts" | sed -n 's/^@fact ca-hash //p')
    step_ends ca-hash "$h"
}

k3s_join() { # token agent-token server etcd
    leave_old
    begin "$1" "$2" "$3"
    if [ "$service" != k3s ]; then
        # An agent says that it is active when all of it has started, which may be minutes after the node is Ready (seen with 1.36.3):
        # whether it is, is asked at the end, of all nodes at once.
        service_begins start
        service_until let_in
        return 0
    fi
    service_runs start
    api_answers 120
    [ -n "$4" ] || return 0
    # It begins as a learner; the next one can come when this one votes.
    h=$(hostname)
    n=0
    until v=$(kubectl_admin get node "$h" -o 'jsonpath={.status.conditions[?(@.type=="EtcdIsVoter")].status}' 2>/dev/null) && [ "$v" = True ]; do
        if [ "$n" -ge 300 ]; then
            echo 'its etcd does not catch up with the others' >&2
            unit_failed k3s
            return 1
        fi
        sleep 1; n=$((n + 1))
    done
}

# What SQLite has on the disk at one moment is a database that it can go on with. k3s stands still for that moment, and goes
# on whatever happens here.
copy_sqlite() { # folder
    mkdir "$1"
    p=$(systemctl show -p MainPID --value k3s)
    # Number 0 would be all processes of this script.
    if [ "${p:-0}" != 0 ]; then
        trap 'kill -CONT "$p"' EXIT
        trap 'exit 1' HUP INT TERM
        kill -STOP "$p"
    fi
    cp -p "$K/server/db/state.db" "$1/"
    [ ! -e "$K/server/db/state.db-wal" ] || cp -p "$K/server/db/state.db-wal" "$1/"
}

# All that makes the cluster what it is: its data, in which its keys are, and the tokens that open them.
snapshot_state() { # folder
    cp -p /etc/rancher/k3s/token /etc/rancher/k3s/agent-token "$1/"
    # The folder of etcd is there with SQLite, too.
    if [ -d "$K/server/db/etcd/member" ]; then
        mkdir "$1/etcd"
        k3s etcd-snapshot save --name bramble --dir "$1/etcd" >/dev/null 2>/run/bramble/snapshot || { tail -n 3 /run/bramble/snapshot >&2; return 1; }
        mv "$1"/etcd/bramble-* "$1/etcd.db"
        rm -rf "$1/etcd"
    else
        # A shell of its own, for its trap.
        (copy_sqlite "$1/sqlite")
        [ -s "$1/sqlite/state.db" ] || { echo 'there is no database of k3s' >&2; return 1; }
    fi
}

k3s_restore() { # archive
    d=/var/lib/bramble/restore
    rm -rf "$d"
    mkdir -m 700 "$d"
    tar -C "$d" -xzf "$1"
    t=$(plain_token "$d/token")
    a=$(plain_token "$d/agent-token")
    if [ -z "$t" ] || [ -z "$a" ]; then
        echo 'the backup has no tokens' >&2
        return 1
    fi
    begin "$t" "$a" ''
    if [ -e "$d/etcd.db" ]; then
        # It ends with an error also when it has worked; its mark tells. The token opens what is in the snapshot, and a file of
        # it does not count here (k3s, pkg/cli/server/server.go).
        K3S_TOKEN=$t timeout 600 k3s server --cluster-reset --cluster-reset-restore-path="$d/etcd.db" >"$d/log" 2>&1 || :
        [ -e "$K/server/db/reset-flag" ] || { tail -n 12 "$d/log" >&2; return 1; }
    else
        mkdir -p "$K/server/db"
        chmod 700 "$K/server"
        cp -p "$d"/sqlite/* "$K/server/db/"
    fi
    rm -rf "$d" "$1"
}
