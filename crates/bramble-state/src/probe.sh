# Looks at the node and prints one record a line. Built-in commands are used wherever they can be: each program that
# is started costs a board some milliseconds. Takes no variables; sets B, and defines: line, texts.
umask 077
B=/var/lib/bramble
command -v dpkg-query >/dev/null || { echo 'its system has no dpkg: bramble works with Raspberry Pi OS, Debian, Ubuntu and their kin' >&2; exit 1; }
[ -d /run/bramble ] || mkdir -p /run/bramble
exec 9>/run/bramble/lock
flock -n 9 || {
    n=0
    # It says that it waits while it does: a script that is silent is given up.
    until echo waiting && flock -w 10 9; do
        [ "$n" -lt 90 ] || { echo busy; exit 75; }
        n=$((n + 1))
    done
}
echo 'bramble 1'
line() { if [ -r "$2" ]; then v=; IFS= read -r v <"$2" || :; printf 'fact %s %s\n' "$1" "$v"; fi; }
# Tells what is in files, line by line. The shell loses NULs, and others lose what is no UTF-8: such a file is told again in
# base64, behind a `*`.
texts() { # paths…
    for f in "$@"; do
        shift
        [ ! -f "$f" ] || set -- "$@" "$f"
    done
    [ "$#" -gt 0 ] || return 0
    W=$(printf '\t\r')
    s=$(stat -L -c '%s %n' -- "$@")
    echo "$s" | while read -r s f; do
        printf 'text %s\n' "$f"
        n=0 odd=no
        while IFS= read -r v; do
            printf '=%s\n' "$v"
            n=$((n + ${#v} + 1))
            case $v in *[!\ -~$W]*) odd=yes ;; esac
        done <"$f"
        [ -z "$v" ] || printf '~%s\n' "$v"
        case $v in *[!\ -~$W]*) odd=yes ;; esac
        [ "$((n + ${#v}))" = "$s" ] || odd=yes
        [ "$odd" = no ] || { printf '*'; base64 -w0 <"$f"; echo; }
        echo .
    done
}
line run "$B/run"
line hostname /proc/sys/kernel/hostname
line boot-id /proc/sys/kernel/random/boot_id
line kernel /proc/sys/kernel/osrelease
line cmdline /proc/cmdline
line model /sys/firmware/devicetree/base/model
line machine-id /etc/machine-id
line host-key /etc/ssh/ssh_host_ed25519_key.pub
# The last one that was mounted there is the one that counts.
r=
while read -r _ p k o rest; do if [ "$p" = / ]; then r="$k ,$o,"; fi; done </proc/mounts
case $r in
overlay\ * | overlayfs\ *) echo 'fact root overlay' ;;
*,ro,*) echo 'fact root read-only' ;;
esac
while read -r k v rest; do case $k in MemTotal:) echo "fact memory $v"; break ;; esac; done </proc/meminfo
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    echo 'fact cgroup 2'
    line controllers /sys/fs/cgroup/cgroup.controllers
else
    echo 'fact cgroup 1'
    c=
    while read -r k _ n e; do [ "$e" != 1 ] || c="$c $k"; done </proc/cgroups
    echo "fact controllers$c"
fi
while read -r f k rest; do [ "$f" = Filename ] || echo "fact swap $f"; done </proc/swaps
# shellcheck disable=SC1091 # It is on the node.
(. /etc/os-release; echo "fact os ${ID:-unknown} ${VERSION_ID:-0} ${VERSION_CODENAME:-none}")
for f in /sys/class/net/*/address; do
    i=${f#/sys/class/net/}
    v=; read -r v <"$f" 2>/dev/null || :
    echo "fact mac ${i%/address} $v"
done
for f in /sys/bus/usb/devices/*/idVendor /sys/bus/pci/devices/*/vendor; do
    [ -r "$f" ] || continue
    case $f in *idVendor) k=${f%Vendor}Product ;; *) k=${f%vendor}device ;; esac
    v=; IFS= read -r v <"$f" || :
    i=; IFS= read -r i <"$k" || :
    echo "fact device ${v#0x}:${i#0x}"
done
for f in /dev/apex_* /dev/hailo* /dev/h1x-*; do [ ! -e "$f" ] || echo "fact accelerator $f"; done
[ ! -e /run/systemd/resolve/resolv.conf ] || echo 'fact resolved yes'
if [ -d /run/NetworkManager/devices ]; then echo 'fact network NetworkManager'
elif [ -e /run/systemd/netif/state ]; then echo 'fact network networkd'; fi
[ ! -e /run/systemd/container ] || echo 'fact container yes'
[ ! -c /dev/watchdog ] || echo 'fact watchdog yes'
[ ! -e /run/reboot-required ] || echo 'fact reboot-required yes'
[ ! -d /etc/rpi/swap.conf.d ] && [ ! -e /usr/lib/systemd/system-generators/rpi-swap-generator ] || echo 'fact rpi-swap yes'
for f in "$B"/done/*; do [ ! -f "$f" ] || { v=; IFS= read -r v <"$f" || :; printf 'done %s %s\n' "${f##*/}" "$v"; }; done
for f in "$B"/pending/*; do [ ! -f "$f" ] || { v=; IFS= read -r v <"$f" || :; printf 'pending %s %s\n' "${f##*/}" "$v"; }; done
for f in "$B"/ledger/[0-9]*; do
    [ -d "$f" ] || continue
    v=; for k in path unit; do [ ! -r "$f/$k" ] || IFS= read -r v <"$f/$k" || :; done
    echo "kept ${f##*.} $v"
done
stat -f -c 'fact disk-free %a %S' /
v=$(dpkg --print-architecture)
echo "fact arch $v"
v=$(date +%s)
echo "fact time $v"
all=$(ip -o -4 addr show scope global)
echo "$all" | while read -r n i f a rest; do [ -z "$i" ] || echo "fact address ${a%/*} $i"; done
for f in /boot/firmware/current/cmdline.txt /boot/firmware/cmdline.txt /boot/cmdline.txt; do
    if [ -e "$f" ]; then echo "fact cmdline-file $f"; break; fi
done
for f in /boot/firmware/config.txt /boot/config.txt; do
    if [ -e "$f" ]; then echo "fact config-file $f"; break; fi
done
