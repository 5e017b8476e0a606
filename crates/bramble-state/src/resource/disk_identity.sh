# Which disk a device is, in one line that stays as it is for as long as it is the same disk with the same medium. Takes
# nothing; defines: disk_identity, disk_word.

# A file of /sys that is missing, or cannot be read, says nothing.
disk_word() { # name file
    v=
    read -r v 2>/dev/null <"$2" || :
    [ -z "$v" ] || i="$i, $1 $v"
}

disk_identity() { # device
    n=$(stat -Lc '%t %T' -- "$1")
    n=$(printf '%d:%d' "0x${n% *}" "0x${n#* }")
    p=$(readlink -f "/sys/dev/block/$n")
    read -r i <"$p/size"
    i="device $n, $i sectors"
    if [ -e "$p/partition" ]; then
        disk_word start "$p/start"
        p=${p%/*}
    fi
    disk_word diskseq "$p/diskseq"
    disk_word WWID "$p/wwid"
    disk_word WWID "$p/device/wwid"
    disk_word CID "$p/device/cid"
    disk_word model "$p/device/model"
    disk_word file "$p/loop/backing_file"
    # What it is plugged into may have the number; a USB controller has one of its own.
    until [ -z "$p" ] || [ -e "$p/serial" ] || [ -e "$p/device/serial" ]; do
        p=${p%/*}
        case $p in */usb[0-9] | */usb[0-9][0-9]) p= ;; esac
    done
    disk_word serial "$p/serial"
    disk_word serial "$p/device/serial"
    echo "$i"
}
