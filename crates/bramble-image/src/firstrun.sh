b=/boot
[ ! -e /boot/firmware/cmdline.txt ] || b=/boot/firmware

old=$(cat /etc/hostname)
echo "$name" >/etc/hostname
sed -i "s/^127\.0\.1\.1[[:space:]].*$old.*/127.0.1.1\t$name/" /etc/hosts

# The image's own user gets this name; nobody logs in by a password.
first=$(getent passwd 1000 | cut -d: -f1)
if [ -x /usr/lib/userconf-pi/userconf ]; then
    /usr/lib/userconf-pi/userconf "$user" '*'
elif [ -n "$first" ] && [ "$first" != "$user" ]; then
    usermod -l "$user" "$first"
    usermod -m -d "/home/$user" "$user"
    groupmod -n "$user" "$first"
elif [ -z "$first" ]; then
    useradd --create-home --shell /bin/bash --groups sudo "$user"
fi
usermod -p '*' "$user"
echo "$user ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/010_bramble
chmod 440 /etc/sudoers.d/010_bramble
home=$(getent passwd "$user" | cut -d: -f6)
install -d -m 700 -o "$user" -g "$user" "$home/.ssh"
echo "$keys" >"$home/.ssh/authorized_keys"
chown "$user:$user" "$home/.ssh/authorized_keys"
chmod 600 "$home/.ssh/authorized_keys"

systemctl disable regenerate_ssh_host_keys 2>/dev/null
rm -f /etc/ssh/ssh_host_*_key /etc/ssh/ssh_host_*_key.pub
(umask 077; printf '%s' "$private" >/etc/ssh/ssh_host_ed25519_key)
echo "$public" >/etc/ssh/ssh_host_ed25519_key.pub
mkdir -p /etc/ssh/sshd_config.d
echo 'PasswordAuthentication no' >/etc/ssh/sshd_config.d/00-bramble.conf
systemctl enable ssh

if [ -n "$address" ]; then
    if [ -d /etc/NetworkManager/system-connections ]; then
        f=/etc/NetworkManager/system-connections/bramble.nmconnection
        {
            printf '[connection]\nid=bramble\ntype=ethernet\nautoconnect-priority=100\n\n[ipv4]\nmethod=manual\n'
            printf 'address1=%s,%s\ndns=' "$address" "$gateway"
            for d in $dns; do printf '%s;' "$d"; done
            printf '\n\n[ipv6]\nmethod=auto\n'
        } >"$f"
        chmod 600 "$f"
    else
        printf '\ninterface eth0\nstatic ip_address=%s\nstatic routers=%s\nstatic domain_name_servers=%s\n' "$address" "$gateway" "$dns" >>/etc/dhcpcd.conf
    fi
fi
if [ -n "$timezone" ]; then
    ln -sf "/usr/share/zoneinfo/$timezone" /etc/localtime
    echo "$timezone" >/etc/timezone
fi
if [ -n "$locale" ]; then
    sed -i "s/^# *\($locale\( .*\)\{0,1\}\)$/\1/" /etc/locale.gen
    locale-gen
    update-locale "LANG=$locale"
fi

# It holds the private key: on FAT a file that is deleted stays readable.
sed -i 's| systemd\.run[^ ]*||g; s| systemd\.unit=kernel-command-line\.target||' "$b/cmdline.txt"
dd if=/dev/zero of="$b/firstrun.sh" bs=1 count="$(wc -c <"$b/firstrun.sh")" conv=notrunc,fsync 2>/dev/null
rm -f "$b/firstrun.sh"
sync
exit 0
