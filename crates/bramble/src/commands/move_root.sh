# Copies a board's system to another disk. Takes to, the disk, and go, `yes` to do it, else only to say what there is; is,
# which disk was shown then; disk_identity. Defines: fail, leave, bad, same.
fail() { echo "$*" >&2; exit 1; }
missing=
for p in lsblk findmnt sfdisk wipefs mkfs.vfat mkfs.ext4; do
    command -v $p >/dev/null || missing="$missing $p"
done
[ -z "$missing" ] || fail "it has no$missing: install fdisk, dosfstools and e2fsprogs"

to=$(readlink -f "$to")
type=
[ ! -b "$to" ] || type=$(lsblk -dnro TYPE "$to")
if [ "$type" != disk ]; then
    disks=$(lsblk -dnpro NAME)
    disks=$(echo "$disks" | tr '\n' ' ')
    fail "$to is no disk of it; there are: $disks"
fi
root=$(findmnt -nvo SOURCE /)
below=$(lsblk -nspro NAME "$root")
if echo "$below" | grep -qxF "$to"; then
    echo already
    exit 0
fi
b=/boot
[ ! -e /boot/firmware/cmdline.txt ] || b=/boot/firmware
[ -e "$b/cmdline.txt" ] || [ -e "$b/current/cmdline.txt" ] || fail "it does not boot as a Raspberry Pi does: there is no $b/cmdline.txt"
mountpoint -q "$b" || fail "its boot partition is not mounted at $b"
# shellcheck disable=SC2016 # They are quotes.
[ ! -e /var/lib/bramble/done/kubernetes ] || fail 'Kubernetes runs on it, whose data would change while it is copied: take the node out of the cluster file and run `bramble up`, move its root, and put it in again'
used=$(lsblk -nro MOUNTPOINT "$to")
used=$(echo "$used" | sed '/^$/d' | tr '\n' ' ')
[ -z "$used" ] || fail "$to is in use: $used"
holders=$(ls "/sys/block/${to##*/}/holders")
[ -z "$holders" ] || fail "$to is a part of something else (LVM, RAID, encryption)"
sector=$(blockdev --getss "$to")
[ "$sector" = 512 ] || fail "$to has sectors of $sector bytes, and the partition table of a board's disk counts in 512: use another disk"
need=$(df -B1 --output=used / "$b")
need=$(echo "$need" | awk 'NR > 1 { s += $1 } END { printf "%.0f", s * 1.1 + 268435456 }')
size=$(blockdev --getsize64 "$to")
[ "$size" -ge "$need" ] || fail "$to has $((size / 1000000)) MB, and $((need / 1000000)) MB are needed"
if [ "$go" != yes ]; then
    transport=$(lsblk -dnro TRAN "$to")
    model=$(lsblk -dno MODEL "$to")
    echo "disk $((size / 1000000)) ${transport:--} $model"
    parts=$(lsblk -nro NAME,FSTYPE,LABEL "$to")
    echo "$parts" | awk '$2 != "" { print "holds " $0 }'
    o=$(disk_identity "$to")
    echo "identity $o"
    exit 0
fi
# While it is open its number goes to no other device; while it is locked udev does not look at it.
exec 8<"$to"
flock -w 10 8 || fail "$to is locked by another program"
o=$(disk_identity "$to")
[ "$o" = "$is" ] || fail "$to is not the disk that was shown (${is:-unknown}) but another ($o): nothing on it was changed; run this again"

m=/run/bramble/move
# Whatever is mounted and there: at most times only a part is.
leave() {
    rm -f "$m/names" "$m/sums" "$m/differ" "$m/bad" "$m/table" "$m/start"
    umount "$m/boot" "$m/root" 2>/dev/null || :
    rmdir "$m/root" "$m/boot" "$m" 2>/dev/null || :
}
trap leave EXIT
id=$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')
bootfs=$(findmnt -nvo SOURCE "$b")
boot=$(blockdev --getsize64 "$bootfs")
boot=$((boot / 512))
# A table of this kind ends at 2 TiB.
rest=$((size / 512 - 8192 - boot))
[ $rest -lt 4294900000 ] || rest=4294900000
wipefs -qa "$to"
printf 'label: dos\nlabel-id: 0x%s\nstart=8192, size=%s, type=c\nstart=%s, size=%s, type=83\n' "$id" "$boot" $((8192 + boot)) $rest |
    sfdisk -q --wipe always --wipe-partitions always "$to"
# udev makes the names of the partitions now.
flock -u 8
udevadm settle
parts=$(lsblk -npro NAME,TYPE "$to")
parts=$(echo "$parts" | awk '$2 == "part" { print $1 }' | sort)
# shellcheck disable=SC2086 # They are names of devices.
set -- $parts
[ $# = 2 ] || fail "the kernel does not see the partitions of $to"
label=$(lsblk -nro LABEL "$bootfs")
mkfs.vfat -F 32 -n "${label:-bootfs}" "$1" >/dev/null
label=$(lsblk -nro LABEL "$root")
mkfs.ext4 -qF -L "$label" "$2"
mkdir -p "$m/root" "$m/boot"
mount "$2" "$m/root"
mount "$1" "$m/boot"
# Until all is there, nothing boots from it: the kernel knows the partitions, the disk does not. It asks the disk again only
# when none of them is mounted.
table=$m/table
dd if="$to" of="$table" bs=512 count=1 2>/dev/null
dd if=/dev/zero of="$to" bs=512 count=1 conv=fsync 2>/dev/null
start=$m/start
: >"$start"
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
    best_effort wipefs -qa "$to"
    fail "the copy on $to is damaged ($1): use another disk"
}
e2fsck -fn "$2" >/dev/null 2>&1 || bad "its file system"
# Read back, from the disk and not from memory, and compared with what did not change meanwhile.
mount -o ro "$2" "$m/root"
mount -o ro "$1" "$m/boot"
# Prints the first file that differs. What it read and found lies in memory, as one list can have a hundred thousand names.
same() { # copy original which…
    c=$1 o=$2
    shift 2
    (cd "$c"; find . -xdev -type f "$@" -print0) >"$m/names"
    (cd "$c"; xargs -0r md5sum) <"$m/names" >"$m/sums"
    # A sum that differs is no failure here: it may be of a file that changed meanwhile.
    : >"$m/differ"
    if [ -s "$m/sums" ]; then (cd "$o"; md5sum -c --quiet) <"$m/sums" >"$m/differ" 2>/dev/null || [ -s "$m/differ" ]; fi
    sed 's/: FAILED.*//' "$m/differ" | while read -r f; do
        if [ -e "$o/$f" ] && [ ! "$o/$f" -nt "$start" ]; then echo "$f"; break; fi
    done
    rm -f "$m/names" "$m/sums" "$m/differ"
}
attempt same "$m/root" / ! -newer "$start" >"$m/bad"
[ "$rc" = 0 ] || bad 'it cannot be read'
attempt same "$m/boot" "$b" ! -name cmdline.txt >>"$m/bad"
[ "$rc" = 0 ] || bad 'it cannot be read'
f=$(head -n 1 "$m/bad")
rm -f "$m/bad"
[ -z "$f" ] || bad "$f"
rm -f "$start"
umount "$m/root" "$m/boot"
echo moved
