fail() { echo "$*" >&2; exit 1; }
missing=
for p in lsblk findmnt sfdisk wipefs mkfs.vfat mkfs.ext4; do
    command -v $p >/dev/null || missing="$missing $p"
done
[ -z "$missing" ] || fail "it has no$missing: install fdisk, dosfstools and e2fsprogs"

to=$(readlink -f "$to")
[ -b "$to" ] && [ "$(lsblk -dnro TYPE "$to")" = disk ] || fail "$to is no disk of it; there are: $(lsblk -dnpro NAME | tr '\n' ' ')"
root=$(findmnt -nvo SOURCE /)
if lsblk -nspro NAME "$root" | grep -qxF "$to"; then
    echo already
    exit 0
fi
b=/boot
[ ! -e /boot/firmware/cmdline.txt ] || b=/boot/firmware
[ -e "$b/cmdline.txt" ] || [ -e "$b/current/cmdline.txt" ] || fail "it does not boot as a Raspberry Pi does: there is no $b/cmdline.txt"
mountpoint -q "$b" || fail "its boot partition is not mounted at $b"
[ ! -e /var/lib/bramble/done/kubernetes ] || fail 'Kubernetes runs on it, whose data would change while it is copied: take the node out of the cluster file and run `bramble up`, move its root, and put it in again'
used=$(lsblk -nro MOUNTPOINT "$to" | grep . | tr '\n' ' ')
[ -z "$used" ] || fail "$to is in use: $used"
[ -z "$(ls "/sys/block/${to##*/}/holders")" ] || fail "$to is a part of something else (LVM, RAID, encryption)"
need=$(df -B1 --output=used / "$b" | awk 'NR > 1 { s += $1 } END { printf "%.0f", s * 1.1 + 268435456 }')
size=$(blockdev --getsize64 "$to")
[ "$size" -ge "$need" ] || fail "$to has $((size / 1000000)) MB, and $((need / 1000000)) MB are needed"
if [ "$go" != yes ]; then
    echo "disk $((size / 1000000)) $(lsblk -dnro TRAN "$to" | grep . || echo -) $(lsblk -dno MODEL "$to")"
    lsblk -nro NAME,FSTYPE,LABEL "$to" | awk '$2 != "" { print "holds " $0 }'
    exit 0
fi

set -e
m=/run/bramble/move
leave() {
    umount "$m/root" "$m/boot" 2>/dev/null || :
    rmdir "$m/root" "$m/boot" "$m" 2>/dev/null || :
}
trap leave EXIT
id=$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')
boot=$(($(blockdev --getsize64 "$(findmnt -nvo SOURCE "$b")") / 512))
# A table of this kind ends at 2 TiB.
rest=$((size / 512 - 8192 - boot))
[ $rest -lt 4294900000 ] || rest=4294900000
wipefs -qa "$to"
printf 'label: dos\nlabel-id: 0x%s\nstart=8192, size=%s, type=c\nstart=%s, size=%s, type=83\n' "$id" "$boot" $((8192 + boot)) $rest |
    sfdisk -q --wipe always --wipe-partitions always "$to"
udevadm settle
set -- $(lsblk -npro NAME,TYPE "$to" | awk '$2 == "part" { print $1 }' | sort)
[ $# = 2 ] || fail "the kernel does not see the partitions of $to"
label=$(lsblk -nro LABEL "$(findmnt -nvo SOURCE "$b")")
mkfs.vfat -F 32 -n "${label:-bootfs}" "$1" >/dev/null
mkfs.ext4 -qF -L "$(lsblk -nro LABEL "$root")" "$2"
mkdir -p "$m/root" "$m/boot"
mount "$2" "$m/root"
mount "$1" "$m/boot"
# Until all is there, nothing boots from it: the kernel knows the partitions, the disk does not. It asks the disk again only
# when none of them is mounted.
table=$(mktemp)
dd if="$to" of="$table" bs=512 count=1 2>/dev/null
dd if=/dev/zero of="$to" bs=512 count=1 conv=fsync 2>/dev/null
start=$(mktemp)
cp -ax /. "$m/root"
cp -r "$b/." "$m/boot"
awk -v id="$id" -v b="$b" '
    $1 !~ /^#/ && $2 == "/" { sub(/^[^ \t]+/, "PARTUUID=" id "-02") }
    $1 !~ /^#/ && $2 == b { sub(/^[^ \t]+/, "PARTUUID=" id "-01") }
    { print }' /etc/fstab >"$m/root/etc/fstab"
for f in "$m/boot/cmdline.txt" "$m/boot/current/cmdline.txt"; do
    [ ! -e "$f" ] || sed -i "s,\(^\| \)root=[^ ]*,\1root=PARTUUID=$id-02," "$f"
done
sync
dd if="$table" of="$to" bs=512 count=1 conv=fsync 2>/dev/null
rm -f "$table"
umount "$m/root" "$m/boot"
bad() {
    umount "$m/root" "$m/boot" 2>/dev/null || :
    wipefs -qa "$to"
    fail "the copy on $to is damaged ($1): use another disk"
}
e2fsck -fn "$2" >/dev/null 2>&1 || bad "its file system"
# Read back, from the disk and not from memory, and compared with what did not change meanwhile.
mount -o ro "$2" "$m/root"
mount -o ro "$1" "$m/boot"
same() { # copy original which…
    c=$1 o=$2
    shift 2
    (cd "$c" && find . -xdev -type f "$@" -print0 | xargs -0r md5sum) | (cd "$o" && md5sum -c --quiet 2>/dev/null) |
        sed 's/: FAILED.*//' | while read -r f; do
            if [ -e "$o/$f" ] && [ ! "$o/$f" -nt "$start" ]; then echo "$f"; break; fi
        done
}
f=$(same "$m/root" / ! -newer "$start")$(same "$m/boot" "$b" ! -name cmdline.txt)
[ -z "$f" ] || bad "$f"
rm -f "$start"
umount "$m/root" "$m/boot"
echo moved
