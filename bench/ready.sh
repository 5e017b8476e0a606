#!/bin/sh
# From prepared nodes to all Ready: `bramble up` against a hand-written script that runs `kubeadm init` and starts the
# joins as early as they can be, with the CA pinned, too. Both on a rack of one control plane and two workers of the
# same bundle, prepared by `bramble up --prepare-only`. Usage: bench/ready.sh [runs]. Needs root.
set -eu
cd "$(dirname "$0")/.."
runs=${1:-3} bramble=$PWD/target/release/bramble work=$(mktemp -d) rack=meas net=10.78.30
trap '"$bramble" lab down $rack >/dev/null 2>&1; rm -rf "$work"' EXIT
"$bramble" -q lab up --passwordless-sudo --name $rack --subnet $net.0/24 --dir "$work" >/dev/null
key=$(sed -n 's/.*keys: \[\(.*\)\]/\1/p' "$work/bramble.yaml")
bundle=$(sed -n 's/.*bundle: \(.*\) }.*/\1/p' "$work/bramble.yaml")
field() { sed -n "s/^  \"$1\": \"\(.*\)\",$/\1/p" "$bundle/manifest.json"; }
version=$(field kubernetes) etcd=$(field etcd_tag)
on() { # address, script on standard input
    ssh -i "$key" -o BatchMode=yes -o UserKnownHostsFile="$work/.bramble/known_hosts" "pi@$1" sudo sh -s
}
ready() { echo 'kubectl --kubeconfig /etc/kubernetes/admin.conf get nodes --no-headers 2>/dev/null | grep -c " Ready"' | on $net.50 || :; }
floor() {
    token=abcdef.0123456789abcdef
    hash=$(on $net.50 <<X
cat >/run/init.yaml <<Y
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens: [{ token: $token, ttl: 1h0m0s }]
localAPIEndpoint: { advertiseAddress: $net.50 }
nodeRegistration: { criSocket: /run/containerd/containerd.sock }
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v$version
imageRepository: bundle.bramble
etcd: { local: { imageTag: $etcd, dataDir: /var/lib/etcd } }
networking: { podSubnet: 10.244.0.0/16 }
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: $driver
failCgroupV1: false
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
conntrack: { maxPerCore: 0 }
Y
kubeadm init phase certs ca --config /run/init.yaml >/dev/null
openssl x509 -pubkey -noout -in /etc/kubernetes/pki/ca.crt | openssl pkey -pubin -outform der | sha256sum | cut -c1-64
X
)
    echo 'kubeadm init --config /run/init.yaml --skip-phases=preflight,addon/coredns' | on $net.50 >"$work/init.log" 2>&1 &
    for n in 51 52; do
        echo "kubeadm join $net.50:6443 --token $token --discovery-token-ca-cert-hash sha256:$hash --cri-socket /run/containerd/containerd.sock --skip-phases=preflight" \
            | on $net.$n >"$work/join.$n.log" 2>&1 &
    done
    until [ "$(ready)" = 3 ]; do sleep 0.2; done
    wait
}
ours() {
    "$bramble" -f "$work/bramble.yaml" up --yes >"$work/up.log" 2>&1 &
    up=$!
    until grep -q "the system's pods" "$work/up.log"; do sleep 0.1; kill -0 $up; done
}
clock() { a=$(date +%s%N); "$@"; b=$(date +%s%N); echo $(((b - a) / 1000000)); }
driver=$([ -e /sys/fs/cgroup/cgroup.controllers ] && echo systemd || echo cgroupfs)
for _ in $(seq "$runs"); do
    for who in floor ours; do
        "$bramble" -q -f "$work/bramble.yaml" up --yes --prepare-only >/dev/null
        clock $who >>"$work/$who"
        echo "$who: $(tail -n 1 "$work/$who") ms"
        wait
        [ $who = floor ] || grep 'is up' "$work/up.log"
        "$bramble" -q -f "$work/bramble.yaml" down --yes >/dev/null
        # The floor leaves Kubernetes behind; a fresh rack is the surest way to equal starts.
        "$bramble" -q lab down $rack >/dev/null
        "$bramble" -q lab up --passwordless-sudo --name $rack --subnet $net.0/24 --dir "$work" >/dev/null 2>&1
    done
done
median() { sort -n "$1" | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }
f=$(median "$work/floor") o=$(median "$work/ours")
echo "prepared to all Ready, median of $runs: floor $f ms, bramble $o ms, ratio $(awk "BEGIN { printf \"%.2f\", $o / $f }")"
join() { tr '\n' ',' <"$1" | sed 's/,$//'; }
out=${OUT:-docs/performance}
mkdir -p "$out"
printf '{"one script": [%s], "bramble": [%s]}\n' "$(join "$work/floor")" "$(join "$work/ours")" >"$out/ready.json"
