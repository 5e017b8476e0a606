#!/bin/sh
# Runs inside the Debian builder, in one of its ways:
# `bundle`: compiles what a cluster of kubeadm has out of Go modules, and lays out the file trees of its images;
# `standins BUILD…`: the programs that stand-ins start, with a kubelet under each of these builds.
# It finds modules in /build/modules, Go's settings in /build/go.env, and Go's caches in /build/go.
set -eu
export LC_ALL=C HOME=/root PATH="/usr/lib/go-1.26/bin:$PATH"
export GOENV=/build/go.env GOMODCACHE=/build/go/mod GOCACHE=/build/go/build GOTOOLCHAIN=local CGO_ENABLED=0
# /tmp is memory here, and not enough of it.
export GOTMPDIR=/build/tmp
mkdir -p "$GOTMPDIR"
export GOFLAGS='-trimpath -buildvcs=false -mod=readonly -modcacherw'
modules=/build/modules out=/build/out

# The version of what a module requires or names as a tool.
version_of() { # module path
    sed -n "s|^\(require\)\{0,1\}[[:space:]]*$2 v\([^ ]*\).*|\2|p" "$modules/$1/go.mod" | head -n 1
}
kubernetes=$(version_of kubernetes k8s.io/kubernetes)
etcd=$(version_of etcd go.etcd.io/etcd/server/v3)
coredns=$(version_of tools github.com/coredns/coredns)
crictl=$(version_of tools sigs.k8s.io/cri-tools)
minor=${kubernetes#1.}
minor=${minor%%.*}

# What Kubernetes' programs say of themselves (hack/lib/version.sh).
stamp() { # version
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        printf -- '-X %s.gitVersion=v%s -X %s.gitMajor=1 -X %s.gitMinor=%s -X %s.gitTreeState=clean ' \
            "$package" "$1" "$package" "$package" "$minor" "$package"
    done
}

compile() { # module folder flags package…
    cd "$modules/$1"
    folder=$2 flags=$3
    shift 3
    mkdir -p "$folder"
    go build -v -o "$folder/" -ldflags "-s -w $flags" "$@"
}

compile_bundle() {
    compile kubernetes "$out/bin" "$(stamp "$kubernetes")" tool
    compile etcd "$out/bin" '' tool
    compile tools "$out/bin" "-X github.com/coredns/coredns/coremain.GitCommit=module -X sigs.k8s.io/cri-tools/pkg/version.Version=v$crictl" tool
}

# Shows what is compiled as a part of all packages: each tenth of them as a step.
progress() { # packages
    done=0 told=0
    while IFS= read -r line; do
        case $line in
        '#'* | *' '*) printf '%s\n' "$line"; continue ;;
        esac
        done=$((done + 1))
        percent=$((100 * done / $1))
        [ "$percent" -le 100 ] || percent=100
        step=
        if [ "$percent" -ge $((told + 10)) ]; then step='== ' told=$percent; fi
        printf '%s%d %% of %d packages compiled: %s\n' "$step" "$percent" "$1" "$line"
    done
}

packages() { # module
    cd "$modules/$1"
    go list -deps tool
}

download() {
    echo "== fetching the modules of Kubernetes $kubernetes, etcd $etcd, CoreDNS $coredns, crictl $crictl"
    for module in kubernetes etcd tools; do packages "$module"; done >/build/packages
}

tree() { mkdir -p "$1/usr/local/bin" "$1/tmp" "$1/etc"; }

# A program with the libraries it is linked to, at their places.
closure() {
    tree=$1
    shift
    for file in "$@"; do
        mkdir -p "$tree$(dirname "$file")"
        cp -L "$file" "$tree$file"
        { ldd "$file" 2>/dev/null || true; } | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p;s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p' | while read -r library; do
            mkdir -p "$tree$(dirname "$library")"
            [ -e "$tree$library" ] || cp -L "$library" "$tree$library"
        done
    done
}

iptables_names() { # folder
    for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
        ln -s xtables-nft-multi "$1/$name"
    done
}

lay_out() {
    echo "== laying out the images"
    mv "$out/bin/server" "$out/bin/etcd"
    images=$out/images
    for program in kube-apiserver kube-controller-manager kube-scheduler kube-proxy; do
        tree "$images/$program"
        mv "$out/bin/$program" "$images/$program/usr/local/bin/"
    done
    proxy=$images/kube-proxy
    mkdir -p "$proxy/usr/sbin" "$proxy/run"
    closure "$proxy" /usr/sbin/xtables-nft-multi /usr/sbin/conntrack /usr/lib/*/xtables/*.so
    iptables_names "$proxy/usr/sbin"
    tree "$images/etcd"
    mv "$out/bin/etcd" "$out/bin/etcdctl" "$out/bin/etcdutl" "$images/etcd/usr/local/bin/"
    tree "$images/coredns"
    mv "$out/bin/coredns" "$images/coredns/coredns"
    tree "$images/pause"
    gcc -O2 -static -s -o "$images/pause/pause" /build/pause.c
    tree "$images/busybox"
    mkdir -p "$images/busybox/bin"
    cp /bin/busybox "$images/busybox/bin/"
    for applet in $(/bin/busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$images/busybox/bin/$applet"
    done
    printf 'root:x:0:0:root:/:/bin/sh\n' >"$images/busybox/etc/passwd"
    # The tag that this kubeadm asks for.
    pause=$("$out/bin/kubeadm" config images list --kubernetes-version "v$kubernetes" 2>/dev/null | sed -n 's/.*pause://p')
    printf '%s %s\n' kubernetes "$kubernetes" etcd "$etcd-0" coredns "v$coredns" pause "$pause" >"$out/versions"
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

# Compiles in a shell of its own, whose failure the pipe behind it would hide.
watched() { # what, with its arguments
    rm -f /build/compiled
    all=$(sort -u /build/packages | wc -l)
    { "$0" "$@" && : >/build/compiled; } 2>&1 | progress "$all"
    [ -e /build/compiled ]
}

case $1 in
bundle)
    rm -rf "$out"
    download
    watched compile-bundle
    lay_out
    ;;
standins)
    rm -rf "$out"
    download
    watched compile-standins "$@"
    tools
    ;;
compile-bundle) compile_bundle ;;
compile-standins)
    shift 2
    compile_bundle
    for build in "$@"; do
        compile kubernetes "$out/build" "$(stamp "$kubernetes+$build")" k8s.io/kubernetes/cmd/kubelet
        mv "$out/build/kubelet" "$out/kubelet+$build"
    done
    rm -rf "$out/build" "$out/bin/kubelet" "$out/bin/coredns" "$out/bin/crictl"
    ;;
esac
echo "== done"
