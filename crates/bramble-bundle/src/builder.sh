#!/bin/sh
# Runs inside the Debian builder: Kubernetes from Debian's source package, and the file trees of the images.
# Its arguments are the builds that a kubelet each is made for.
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive HOME=/root
builds=$*
cd /build
echo "== fetching the source package"
apt-get -qq update
apt-get -qq source --download-only kubernetes
dpkg-source --no-check -x kubernetes_*.dsc src >/dev/null
version=$(sed -n 's/^kubernetes (\([^)]*\)).*/\1/p;q' src/debian/changelog)
# 1.20.5+really1.20.2-1.1: what it really is stands behind "really".
release=${version##*+really}
release=${release%%-*}
echo "== Kubernetes $release (Debian $version)"
cd src
# Built with Go 1.18 or newer, these two vendored packages panic; Debian's newer ones do not.
for package in modern-go/reflect2 json-iterator/go; do
    rm -rf "vendor/github.com/$package"
    cp -r "/usr/share/gocode/src/github.com/$package" "vendor/github.com/$package"
done
minor=${release#1.}
minor=${minor%%.*}
next=${release%.*}.$((${release##*.} + 1))
export PATH=/usr/lib/go-1.19/bin:"$PATH"
export GO111MODULE=off KUBE_GIT_VERSION_FILE=/build/version
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
# What has Kubernetes' own version, compiled as this one. The second time only linking is left to do.
kubernetes() { # version folder
    echo "== compiling Kubernetes $1"
    cat >/build/version <<VERSION
KUBE_GIT_COMMIT='debian-$version'
KUBE_GIT_TREE_STATE='clean'
KUBE_GIT_VERSION='v$1'
KUBE_GIT_MAJOR='1'
KUBE_GIT_MINOR='$minor'
VERSION
    make all GOLDFLAGS='-s -w' \
        WHAT='cmd/kubeadm cmd/kubelet cmd/kubectl cmd/kube-apiserver cmd/kube-controller-manager cmd/kube-scheduler cmd/kube-proxy'
    out=$(readlink -f _output/bin)
    mkdir -p "$2/bin" "$2/images"
    for program in kubeadm kubelet kubectl; do cp "$out/$program" "$2/bin/"; done
    cp /build/crictl "$2/bin/"
    for program in kube-apiserver kube-controller-manager kube-scheduler; do
        tree "$2/images/$program"
        cp "$out/$program" "$2/images/$program/usr/local/bin/"
    done
    proxy=$2/images/kube-proxy
    tree "$proxy"
    cp "$out/kube-proxy" "$proxy/usr/local/bin/"
    mkdir -p "$proxy/usr/sbin" "$proxy/run"
    closure "$proxy" /usr/sbin/xtables-nft-multi /usr/sbin/conntrack /usr/lib/*/xtables/*.so
    for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
        ln -s xtables-nft-multi "$proxy/usr/sbin/$name"
    done
    # What the stand-ins for other distributions start, under versions with the builds of their releases.
    programs=$2/standin/bin
    mkdir -p "$programs"
    for program in kubeadm kubectl kube-apiserver kube-controller-manager kube-scheduler kube-proxy; do
        cp "$out/$program" "$programs/"
    done
    for build in $builds; do
        sed -i "s/^KUBE_GIT_VERSION=.*/KUBE_GIT_VERSION='v$1+$build'/" /build/version
        make all GOLDFLAGS='-s -w' WHAT=cmd/kubelet
        cp "$out/kubelet" "$2/standin/kubelet+$build"
    done
    echo "$1" >"$2/kubernetes-version"
    # The tag that this kubeadm asks for.
    "$out/kubeadm" config images list --kubernetes-version "v$1" 2>/dev/null | sed -n 's/.*pause://p' >"$2/pause-version"
}
kubernetes "$release" /build/out
kubernetes "$next" /build/next
cd /build/out/images
echo "== laying out"
tree etcd
closure etcd /usr/bin/etcd /usr/bin/etcdctl
etcd --version | sed -n 's/^etcd Version: //p' >../etcd-version
tree pause
cat >/build/pause.c <<'PAUSE'
#include <signal.h>
#include <string.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int signal) { (void)signal; _exit(0); }
static void reap(int signal) { (void)signal; while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main(int count, char **words) {
    // kubeadm's upgrade asks it for its version, to see that jobs run.
    if (count > 1 && !strcmp(words[1], "-v")) return puts("pause") < 0;
    signal(SIGINT, end);
    signal(SIGTERM, end);
    signal(SIGCHLD, reap);
    for (;;) pause();
}
PAUSE
cc -O2 -static -s -o pause/pause /build/pause.c
tree busybox
mkdir -p busybox/bin
cp /bin/busybox busybox/bin/
for applet in $(/bin/busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "busybox/bin/$applet"
done
printf 'root:x:0:0:root:/:/bin/sh\n' >busybox/etc/passwd
cp -a etcd pause busybox /build/next/images/
# The programs beside Kubernetes, with the libraries that not every Debian has.
tools=/build/out/standin
mkdir -p "$tools/lib/xtables" "$tools/cni"
for program in /usr/bin/etcd /usr/bin/etcdctl /usr/bin/containerd /usr/bin/containerd-shim-runc-v2 /usr/bin/ctr \
    /usr/sbin/runc /usr/sbin/conntrack /usr/sbin/xtables-nft-multi /usr/bin/zstd; do
    cp -L "$program" "$tools/bin/"
    { ldd "$program" || true; } | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | grep -v '/lib\(c\|m\|dl\|rt\|pthread\|resolv\)\.so' |
        while read -r library; do cp -L "$library" "$tools/lib/"; done
done
for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    ln -s xtables-nft-multi "$tools/bin/$name"
done
cp /usr/lib/*/xtables/*.so "$tools/lib/xtables/"
cp -L /usr/lib/cni/* "$tools/cni/"
cp -a "$tools/lib" "$tools/cni" /build/next/standin/
cp -an "$tools/bin/." /build/next/standin/bin/
cp ../etcd-version /build/next/
echo "== done"
