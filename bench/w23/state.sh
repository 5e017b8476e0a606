#!/bin/sh
# What the 23 steps come to on a node, whichever tool took them: run as root on it. Names of files that belong to a tool
# do not matter, what they bring about does.
export LC_ALL=C
echo "hostname $(cat /etc/hostname)"
grep '^10\.' /etc/hosts | sort | sed 's/w23[a-z]*-/node-/;s/^10\.78\.[0-9]*\./10.x.y./'
echo "zone $(cat /etc/timezone) $(sha256sum </etc/localtime)"
echo "locale $(cat /etc/default/locale) $(locale -a | grep en_GB)"
dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\n' htop jq nano rsync tree unzip
echo "removable $(apt-get -s autoremove | grep -c ^Remv)"
grep -x 'gpu_mem=16\|arm_64bit=1' /boot/firmware/config.txt | sort
for file in /boot/firmware/cmdline.txt /proc/cmdline; do
    for token in $(head -n 1 $file); do case $token in cgroup*memory*) echo "$file $token" ;; esac; done | sort
done
echo "swaps $(wc -l </proc/swaps) $(grep -c '^[^#].*[[:space:]]swap[[:space:]]' /etc/fstab)"
cat /etc/modules-load.d/*.conf | grep -x 'overlay\|br_netfilter' | sort -u
for key in net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables net.bridge.bridge-nf-call-ip6tables vm.swappiness; do
    echo "$key $(sysctl -n $key) $(cat /etc/sysctl.d/*.conf | grep -c "^$key *= *$(sysctl -n $key)$")"
done
sshd -T | grep -i '^\(clientaliveinterval\|logingracetime\|maxauthtries\|maxsessions\|passwordauthentication\|permitemptypasswords\|permitrootlogin\|x11forwarding\) '
cat /etc/sudoers.d/* | grep timestamp_timeout
for file in /etc/containerd/config.toml /etc/rancher/k3s/registries.yaml /etc/rancher/k3s/config.yaml /usr/local/share/fetched; do
    echo "$file $(stat -c %a $file) $(sha256sum <$file)"
done
systemctl is-enabled cron
systemctl is-active cron
[ ! -e /run/reboot-required ] || echo 'a reboot is asked for'
