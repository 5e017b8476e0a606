#!/bin/sh
# Runs inside the Debian builder, in one of its ways:
# `bundle ARCHITECTURES [containerd]`: compiles what a cluster of kubeadm has out of Go modules, its own containerd too if that is
# said, and lays out the file trees of its images, in a folder for each architecture;
# `standins BUILD…`: the programs that stand-ins start, with a kubelet under each of these builds.
. /build/library.sh

kubernetes=$(version_of kubernetes k8s.io/kubernetes)
etcd=$(version_of etcd go.etcd.io/etcd/server/v3)
coredns=$(version_of tools github.com/coredns/coredns)
crictl=$(version_of tools sigs.k8s.io/cri-tools)
containerd=$(version_of containerd github.com/containerd/containerd/v2)
minor=${kubernetes#1.}
minor=${minor%%.*}

# What Kubernetes' programs say of themselves (hack/lib/version.sh).
stamp() { # version
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        printf -- '-X %s.gitVersion=v%s -X %s.gitMajor=1 -X %s.gitMinor=%s -X %s.gitTreeState=clean ' \
            "$package" "$1" "$package" "$package" "$minor" "$package"
    done
}

compile_bundle() {
    compile kubernetes "$out/bin" "$(stamp "$kubernetes")" tool
    compile etcd "$out/bin" '' tool
    compile tools "$out/bin" "-X github.com/coredns/coredns/coremain.GitCommit=module -X sigs.k8s.io/cri-tools/pkg/version.Version=v$crictl" tool
    [ -z "${1:-}" ] || compile containerd "$out/bin" "-X github.com/containerd/containerd/v2/version.Version=v$containerd" tool
}

# Does something for each of these architectures.
for_each() { # architectures function arguments…
    architectures=$1
    shift
    for architecture in $architectures; do
        export GOARCH="$architecture"
        out=/build/out/$architecture
        debian=
        [ "$architecture" = "$(dpkg --print-architecture)" ] || debian=/build/debian/$architecture
        "$@"
    done
}

download() { # [containerd]
    echo "== fetching the modules of Kubernetes $kubernetes, etcd $etcd, CoreDNS $coredns, crictl $crictl${1:+, containerd $containerd}${GOARCH:+ for $GOARCH}"
    for module in kubernetes etcd tools ${1:-}; do packages "$module" tool; done >>/build/packages
}

lay_out() {
    echo "== laying out the images${GOARCH:+ for $GOARCH}"
    mv "$out/bin/server" "$out/bin/etcd"
    images=$out/images
    for program in kube-apiserver kube-controller-manager kube-scheduler kube-proxy; do
        tree "$images/$program"
        mv "$out/bin/$program" "$images/$program/usr/local/bin/"
    done
    proxy=$images/kube-proxy
    mkdir -p "$proxy/usr/sbin" "$proxy/run"
    closure "$proxy" /usr/sbin/xtables-nft-multi /usr/sbin/conntrack '/usr/lib/*/xtables/*.so'
    iptables_names "$proxy/usr/sbin"
    tree "$images/etcd"
    mv "$out/bin/etcd" "$out/bin/etcdctl" "$out/bin/etcdutl" "$images/etcd/usr/local/bin/"
    tree "$images/coredns"
    mv "$out/bin/coredns" "$images/coredns/coredns"
    tree "$images/pause"
    go build -ldflags '-s -w' -o "$images/pause/pause" /build/pause.go
    tree "$images/busybox"
    busybox "$images/busybox"
    printf 'root:x:0:0:root:/:/bin/sh\n' >"$images/busybox/etc/passwd"
}

tell_versions() { # [containerd]
    # The tag that this kubeadm asks for.
    pause=$("/build/out/$(dpkg --print-architecture)/bin/kubeadm" config images list --kubernetes-version "v$kubernetes" 2>/dev/null | sed -n 's/.*pause://p')
    printf '%s %s\n' kubernetes "$kubernetes" etcd "$etcd-0" coredns "v$coredns" pause "$pause" >/build/out/versions
    [ -z "${1:-}" ] || echo "containerd $containerd" >>/build/out/versions
}

# The programs beside Kubernetes, with the libraries that not every Debian has.
tools() {
    mkdir -p "$out/lib/xtables" "$out/cni"
    mv "$out/bin/server" "$out/bin/etcd"
    for program in /usr/bin/containerd /usr/bin/containerd-shim-runc-v2 /usr/bin/ctr /usr/sbin/runc /usr/sbin/conntrack \
        /usr/sbin/xtables-nft-multi /usr/bin/zstd; do
        cp -L "$program" "$out/bin/"
        { ldd "$program" || true; } | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | grep -v '/lib\(c\|m\|dl\|rt\|pthread\|resolv\)\.so' |
            while read -r library; do cp -L "$library" "$out/lib/"; done
    done
    iptables_names "$out/bin"
    cp /usr/lib/*/xtables/*.so "$out/lib/xtables/"
    cp -L /usr/lib/cni/* "$out/cni/"
}

case $1 in
bundle)
    rm -rf "$out" /build/packages
    for_each "$2" download "${3:-}"
    watched compile-bundle "$2" "${3:-}"
    for_each "$2" lay_out
    tell_versions "${3:-}"
    ;;
standins)
    rm -rf "$out" /build/packages
    download ''
    watched compile-standins "$@"
    tools
    ;;
compile-bundle) for_each "$2" compile_bundle "${3:-}" ;;
compile-standins)
    shift 2
    compile_bundle ''
    for build in "$@"; do
        compile kubernetes "$out/build" "$(stamp "$kubernetes+$build")" k8s.io/kubernetes/cmd/kubelet
        mv "$out/build/kubelet" "$out/kubelet+$build"
    done
    rm -rf "$out/build" "$out/bin/kubelet" "$out/bin/coredns" "$out/bin/crictl"
    ;;
esac
echo "== done"
