b=/boot
[ ! -e /boot/firmware/cmdline.txt ] || b=/boot/firmware

echo "$name" >/etc/hostname
sed -i '/^127\.0\.1\.1[[:space:]]/d' /etc/hosts
printf '127.0.1.1\t%s\n' "$name" >>/etc/hosts

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
# Images since April 2026 have a user that nobody can log in as.
case $(getent passwd "$user" | cut -d: -f7) in */nologin | */false) usermod -s /bin/bash "$user" ;; esac
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

type=ethernet
link=eth0
if [ -n "$country" ]; then
    raspi-config nonint do_wifi_country "$country" 2>/dev/null
    rfkill unblock wifi 2>/dev/null
    for f in /var/lib/systemd/rfkill/*:wlan; do [ ! -e "$f" ] || echo 0 >"$f"; done
    if [ -n "$ssid" ]; then
        type=wifi
        link=wlan0
    fi
fi
if [ -d /etc/NetworkManager/system-connections ]; then
    if [ -n "$address$ssid" ]; then
        f=/etc/NetworkManager/system-connections/bramble.nmconnection
        # A name with signs of its own is written byte by byte (nm-settings-keyfile(5)).
        case $ssid in
        *[!A-Za-z0-9_-]*) s=$(printf %s "$ssid" | od -An -v -tu1 | sed 's/  */;/g;s/^;//' | tr '\n' ';') ;;
        *) s=$ssid ;;
        esac
        {
            printf '[connection]\nid=bramble\ntype=%s\nautoconnect-priority=100\n\n' "$type"
            [ -z "$ssid" ] || printf '[wifi]\nmode=infrastructure\nssid=%s\n\n[wifi-security]\nkey-mgmt=wpa-psk\npsk=%s\n\n' "$s" "$psk"
            if [ -n "$address" ]; then
                printf '[ipv4]\nmethod=manual\naddress1=%s,%s\ndns=' "$address" "$gateway"
                for d in $dns; do printf '%s;' "$d"; done
                echo
            else
                printf '[ipv4]\nmethod=auto\n'
            fi
            printf '\n[ipv6]\nmethod=auto\n'
        } >"$f"
        chmod 600 "$f"
    fi
    if [ -n "$inside" ]; then
        f=/etc/NetworkManager/system-connections/bramble-inside.nmconnection
        printf '[connection]\nid=bramble-inside\ntype=ethernet\ninterface-name=%s\nautoconnect-priority=100\n\n[ipv4]\nmethod=manual\naddress1=%s\nnever-default=true\n\n[ipv6]\nmethod=link-local\n' "$inside" "$inside_address" >"$f"
        chmod 600 "$f"
    fi
else
    [ -z "$inside" ] || printf '\ninterface %s\nstatic ip_address=%s\nnogateway\n' "$inside" "$inside_address" >>/etc/dhcpcd.conf
    [ -z "$address" ] || printf '\ninterface %s\nstatic ip_address=%s\nstatic routers=%s\nstatic domain_name_servers=%s\n' "$link" "$address" "$gateway" "$dns" >>/etc/dhcpcd.conf
    if [ -n "$ssid" ]; then
        f=/etc/wpa_supplicant/wpa_supplicant.conf
        printf 'country=%s\nctrl_interface=DIR=/var/run/wpa_supplicant GROUP=netdev\nupdate_config=1\nnetwork={\n\tssid=%s\n\tpsk=%s\n}\n' \
            "$country" "$(printf %s "$ssid" | od -An -v -tx1 | tr -d ' \n')" "$psk" >"$f"
        chmod 600 "$f"
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
