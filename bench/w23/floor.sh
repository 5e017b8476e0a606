#!/bin/sh
# The 23 steps as one hand-written script, run as root on a node by `ssh node sudo sh -s`: the floor that bramble is
# measured against. It does the same work, with the same care for what is there already, and nothing else.
# $1 the node's name, $2 the hosts lines, $3 the URL of the file to fetch, $4 its digest.
set -eu
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
name=$1 hosts=$2 url=$3 digest=$4
put() { # path mode, text on standard input
    new=$(cat)
    if [ -e "$1" ] && [ "$new" = "$(cat "$1")" ] && [ "$(stat -c %a "$1")" = "$2" ]; then return 1; fi
    mkdir -p "$(dirname "$1")"
    printf '%s\n' "$new" >"$1.new"
    chmod "$2" "$1.new"
    mv "$1.new" "$1"
}
uname -a >/dev/null
# shellcheck disable=SC1091 # It is on the node.
. /etc/os-release
put /etc/hostname 644 <<X || :
$name
X
[ "$(cat /proc/sys/kernel/hostname)" = "$name" ] || hostname "$name"
grep -qF "$hosts" /etc/hosts || printf '%s\n' "$hosts" >>/etc/hosts
[ "$(readlink /etc/localtime)" = /usr/share/zoneinfo/Europe/Berlin ] || ln -sf /usr/share/zoneinfo/Europe/Berlin /etc/localtime
put /etc/timezone 644 <<X || :
Europe/Berlin
X
if ! grep -q '^en_GB.UTF-8 UTF-8' /etc/locale.gen; then echo 'en_GB.UTF-8 UTF-8' >>/etc/locale.gen; fi
locale -a | grep -q en_GB.utf8 || locale-gen >/dev/null
put /etc/default/locale 644 <<X || :
LANG=en_GB.UTF-8
X
packages='htop jq nano rsync tree unzip'
# shellcheck disable=SC2086 # They are words.
seen=$(dpkg-query -W -f '${Package} ${db:Status-Abbrev}\n' $packages 2>/dev/null || :)
for p in $packages; do
    case $seen in
    *"$p ii"* | *"$p hi"*) ;;
    *)
        [ -n "$(find /var/lib/apt/lists -name '*Packages*' -mmin -1440 | head -n 1)" ] || apt-get -q update >/dev/null
        # shellcheck disable=SC2086
        apt-get -q -y install --no-install-recommends $packages >/dev/null
        break
        ;;
    esac
done
s=/var/lib/floor.autoremove
if [ ! -e "$s" ] || [ /var/lib/dpkg/status -nt "$s" ]; then apt-get -q -y autoremove >/dev/null; : >"$s"; fi
reboot=no
c=/boot/firmware/config.txt
for l in gpu_mem=16 arm_64bit=1; do grep -qx "$l" $c || { echo "$l" >>$c; reboot=yes; }; done
c=/boot/firmware/cmdline.txt
for t in cgroup_enable=memory cgroup_memory=1; do grep -qw -- "$t" $c || { sed -i "1s/\$/ $t/" $c; reboot=yes; }; done
[ "$(wc -l </proc/swaps)" = 1 ] || swapoff -a
! grep -q '[[:space:]]swap[[:space:]]' /etc/fstab || sed -i 's/^\([^#].*[[:space:]]swap[[:space:]].*\)/# \1/' /etc/fstab
put /etc/modules-load.d/w23.conf 644 <<X || :
overlay
br_netfilter
X
grep -qw overlay /proc/filesystems || modprobe overlay
[ -d /proc/sys/net/bridge ] || modprobe br_netfilter
put /etc/sysctl.d/90-w23.conf 644 <<X || :
net.ipv4.ip_forward = 1
net.bridge.bridge-nf-call-iptables = 1
net.bridge.bridge-nf-call-ip6tables = 1
vm.swappiness = 10
X
for k in net/ipv4/ip_forward=1 net/bridge/bridge-nf-call-iptables=1 net/bridge/bridge-nf-call-ip6tables=1 vm/swappiness=10; do
    [ "$(cat "/proc/sys/${k%=*}")" = "${k#*=}" ] || echo "${k#*=}" >"/proc/sys/${k%=*}"
done
if put /etc/ssh/sshd_config.d/00-w23.conf 644 <<X
ClientAliveInterval 60
LoginGraceTime 30
MaxAuthTries 4
MaxSessions 20
PasswordAuthentication no
PermitEmptyPasswords no
PermitRootLogin no
X11Forwarding no
X
then sshd -t && systemctl restart ssh; fi
if put /etc/sudoers.d/w23 440 <<X
Defaults timestamp_timeout=5
X
then visudo -cq; fi
put /etc/containerd/config.toml 644 <<'X' || :
version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = true
X
put /etc/rancher/k3s/registries.yaml 644 <<X || :
mirrors:
  docker.io:
    endpoint: ["http://mirror.home:5000"]
X
put /etc/rancher/k3s/config.yaml 600 <<X || :
write-kubeconfig-mode: "0600"
disable: [servicelb]
X
for p in jq rsync tree; do
    case $seen in *"$p hi"*) ;; *) apt-mark hold jq rsync tree >/dev/null; break ;; esac
done
[ "$(systemctl is-enabled cron) $(systemctl is-active cron)" = 'enabled active' ] || systemctl enable --now cron
[ ! -e /run/reboot-required ] || reboot=yes
f=/usr/local/share/fetched
if [ ! -e $f ] || [ "$(sha256sum <$f | cut -c1-64)" != "$digest" ]; then
    curl -fsS -o $f.new "$url"
    [ "$(sha256sum <$f.new | cut -c1-64)" = "$digest" ]
    mv $f.new $f
fi
echo "reboot $reboot"
