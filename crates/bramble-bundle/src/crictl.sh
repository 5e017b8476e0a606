#!/bin/sh
# Stands in for crictl on the lab's racks, since Debian does not have it: the calls that kubeadm up to 1.30 makes
# (kubernetes, cmd/kubeadm/app/util/runtime), carried out by containerd's own ctr. It refuses every other one.
set -eu
if [ "$1" = -r ]; then shift 2; fi
c() { ctr -n k8s.io "$@"; }
# The containers of a pod, its sandbox among them.
of() {
    uid=$(c containers info "$1" | sed -n 's/.*"io.kubernetes.pod.uid": "\([^"]*\)".*/\1/p' | head -n 1)
    [ -z "$uid" ] || c containers ls -q "labels.\"io.kubernetes.pod.uid\"==$uid"
}
case "$1 ${2:-}" in
'info ') exec ctr version ;;
'pods -q') c containers ls -q 'labels."io.cri-containerd.kind"==sandbox' ;;
'stopp '?*) of "$2" | while read -r i; do c tasks kill -s KILL "$i" 2>/dev/null || :; done ;;
'rmp '?*)
    of "$2" | while read -r i; do
        c tasks rm -f "$i" >/dev/null 2>&1 || :
        c containers rm "$i"
    done
    ;;
'inspecti '?*) c images ls -q "name==$2" | grep -qxF "$2" ;;
'pull '?*) c images pull "$2" ;;
*)
    echo "this stand-in for crictl does not know: $*" >&2
    exit 1
    ;;
esac
