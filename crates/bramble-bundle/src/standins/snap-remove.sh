# What the real hook does when MicroK8s goes.
for p in /proc/[0-9]*; do
    case $(tr '\0' ' ' <"$p/cmdline" 2>/dev/null) in /snap/microk8s/*) [ "${p#/proc/}" = $$ ] || kill -9 "${p#/proc/}" 2>/dev/null || : ;; esac
done
awk -v c="$SNAP_COMMON/" 'index($2, c) == 1 { print $2 }' /proc/self/mounts | sort -r | while read -r m; do umount -l "$m" || :; done
for l in /var/lib/kubelet /var/lib/calico /etc/cni/net.d /opt/cni/bin; do [ ! -L "$l" ] || rm "$l"; done
