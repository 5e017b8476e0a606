# What the real hook does before MicroK8s' services start, as far as it can be seen from outside.
command -v sudo >/dev/null || { echo 'sudo: command not found'; exit 1; }
for f in /etc/microk8s.yaml /root/snap/microk8s/common/.microk8s.yaml "$SNAP_COMMON/.microk8s.yaml"; do
    [ -f "$f" ] || continue
    mkdir -p "$SNAP_COMMON/etc/launcher"
    cp "$f" "$SNAP_COMMON/etc/launcher/install.yaml"
    break
done
[ -e "$SNAP_COMMON/etc/launcher/install.yaml" ] || { echo 'this stand-in for MicroK8s wants a launch configuration'; exit 1; }
mkdir -p "$SNAP_DATA/args/cni-network" "$SNAP_DATA/certs" "$SNAP_DATA/credentials" "$SNAP_DATA/var/lib/calico" "$SNAP_DATA/var/lock" \
    "$SNAP_DATA/opt/cni/bin" "$SNAP_COMMON/etc/sideload" "$SNAP_COMMON/var/lib/kubelet"
# What they begin with comes out of default-args; the rest of it is this stand-in's own.
getent group microk8s >/dev/null || groupadd --system microk8s
mkdir -p /etc/apparmor.d
echo '# profile cri-containerd.apparmor.d' >/etc/apparmor.d/cri-containerd.apparmor.d
for p in kubelet kube-apiserver kube-controller-manager kube-scheduler; do echo '--v=0' >"$SNAP_DATA/args/$p"; done
echo '--resolv-conf=/etc/resolv.conf' >>"$SNAP_DATA/args/kubelet"
cp "$SNAP_COMMON"/sideload/*.tar "$SNAP_COMMON/etc/sideload/" 2>/dev/null || :
link() { [ -e "$2" ] || { mkdir -p "${2%/*}" && ln -s "$1" "$2"; }; }
link "$SNAP_COMMON/var/lib/kubelet" /var/lib/kubelet
link "$SNAP_DATA/var/lib/calico" /var/lib/calico
link "$SNAP_DATA/args/cni-network" /etc/cni/net.d
link "$SNAP_DATA/opt/cni/bin" /opt/cni/bin
