# $1: the offset, or `real`.
set -eu
cd /
sshd=/etc/systemd/system/ssh.service.d/lab-clock.conf
if [ "$1" = real ]; then
    rm -f /etc/faketimerc /etc/ld.so.preload "$sshd"
else
    mkdir -p "${sshd%/*}"
    # OpenSSH of Debian 12 lets its unprivileged half make few calls: libfaketime may neither share memory nor read its
    # file again.
    printf '[Service]\nEnvironment=FAKETIME_DISABLE_SHM=1 FAKETIME_CACHE_DURATION=1000000\n' >"$sshd"
    echo "$1" >/etc/faketimerc
    echo /usr/lib/*/faketime/libfaketimeMT.so.1 >/etc/ld.so.preload
fi
systemctl daemon-reload
systemctl restart ssh.service
