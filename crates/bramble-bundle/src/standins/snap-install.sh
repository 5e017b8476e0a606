# What the real hook does before MicroK8s' services start, as far as it can be seen from outside.
for f in /etc/microk8s.yaml /root/snap/microk8s/common/.microk8s.yaml "$SNAP_COMMON/.microk8s.yaml"; do
    [ -f "$f" ] || continue
    mkdir -p "$SNAP_COMMON/etc/launcher"
    cp "$f" "$SNAP_COMMON/etc/launcher/install.yaml"
    break
done
[ -e "$SNAP_COMMON/etc/launcher/install.yaml" ] || { echo 'this stand-in for MicroK8s wants a launch configuration'; exit 1; }
mkdir -p "$SNAP_DATA/args/cni-network" "$SNAP_DATA/certs" "$SNAP_DATA/credentials" "$SNAP_DATA/var/lib/calico" "$SNAP_DATA/var/lock" \
    "$SNAP_DATA/opt/cni/bin" "$SNAP_COMMON/etc/sideload" "$SNAP_COMMON/var/lib/kubelet"
cp "$SNAP_COMMON"/sideload/*.tar "$SNAP_COMMON/etc/sideload/" 2>/dev/null || :
link() { [ -e "$2" ] || { mkdir -p "${2%/*}" && ln -s "$1" "$2"; }; }
link "$SNAP_COMMON/var/lib/kubelet" /var/lib/kubelet
link "$SNAP_DATA/var/lib/calico" /var/lib/calico
link "$SNAP_DATA/args/cni-network" /etc/cni/net.d
link "$SNAP_DATA/opt/cni/bin" /opt/cni/bin
