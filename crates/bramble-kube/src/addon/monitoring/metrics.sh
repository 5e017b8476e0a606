#!/bin/sh
# Written by bramble: what node exporter does not know of a board. Run every half minute.
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
d=/var/lib/prometheus/node-exporter
mkdir -p "$d"
metrics() {
    echo '# HELP bramble_temperature_celsius Temperature of the processor.'
    echo '# TYPE bramble_temperature_celsius gauge'
    t=$(vcgencmd measure_temp 2>/dev/null | sed -n "s/^temp=\([0-9.]*\)'C$/\1/p")
    if [ -z "$t" ] && read -r m 2>/dev/null </sys/class/thermal/thermal_zone0/temp; then t=$((m / 1000)).$((m % 1000 / 100)); fi
    [ -z "$t" ] || echo "bramble_temperature_celsius $t"

    # raspberrypi.com/documentation, "vcgencmd", get_throttled: bits 0 to 3 now, 16 to 19 since the board was turned on.
    echo '# HELP bramble_throttled What holds the board back, by its firmware.'
    echo '# TYPE bramble_throttled gauge'
    v=$(vcgencmd get_throttled 2>/dev/null | sed -n 's/^throttled=//p')
    f=/sys/devices/platform/soc/soc:firmware/get_throttled
    if [ -z "$v" ] && [ -r "$f" ]; then v=0x$(cat "$f"); fi
    if [ -n "$v" ]; then
        b=0
        for what in under-voltage frequency-capped throttled soft-temperature-limit; do
            echo "bramble_throttled{what=\"$what\",when=\"now\"} $(((v >> b) & 1))"
            echo "bramble_throttled{what=\"$what\",when=\"since-boot\"} $(((v >> (b + 16)) & 1))"
            b=$((b + 1))
        done
    fi

    # The PoE+ HAT tells what it gives (raspberrypi/linux, drivers/power/supply/rpi_poe_power.c); in microamperes
    # (kernel.org, ABI/testing/sysfs-class-power).
    echo '# HELP bramble_poe_current_amperes Current that the PoE HAT gives the board.'
    echo '# TYPE bramble_poe_current_amperes gauge'
    echo '# HELP bramble_poe_current_limit_amperes What it may give by the class that the switch granted.'
    echo '# TYPE bramble_poe_current_limit_amperes gauge'
    echo '# HELP bramble_poe_overcurrent Whether it had to give more than it may.'
    echo '# TYPE bramble_poe_overcurrent gauge'
    for f in /sys/class/power_supply/*poe*; do
        for n in now: max:_limit; do
            [ ! -r "$f/current_${n%:*}" ] || awk -v n="bramble_poe_current${n#*:}_amperes" '{ printf "%s %.3f\n", n, $1 / 1e6 }' "$f/current_${n%:*}"
        done
        [ ! -r "$f/health" ] || awk '{ print "bramble_poe_overcurrent", /[Oo]ver ?current/ ? 1 : 0 }' "$f/health"
    done

    # JESD84-B51, EXT_CSD 268 and 269: tenths of the life that are used, rounded up.
    echo '# HELP bramble_disk_life_used_ratio How much of its life a disk has used up, by itself.'
    echo '# TYPE bramble_disk_life_used_ratio gauge'
    for f in /sys/block/mmcblk*/device/life_time; do
        [ -r "$f" ] || continue
        read -r a b <"$f"
        n=${f#/sys/block/}
        [ "$((a > b ? a : b))" = 0 ] || echo "bramble_disk_life_used_ratio{device=\"${n%%/*}\"} $((a > b ? a : b))" | awk '{ printf "%s %.1f\n", $1, $2 / 10 }'
    done
    if command -v smartctl >/dev/null; then
        for f in /dev/sd? /dev/nvme?n1; do
            [ -b "$f" ] || continue
            smartctl -A "$f" | awk -v d="${f#/dev/}" '
                /^Percentage Used:/ { sub(/%/, "", $3); u = $3 }
                $1 == 177 || $1 == 202 || $1 == 231 || $1 == 233 { if (u == "") u = 100 - $4 }
                END { if (u != "") printf "bramble_disk_life_used_ratio{device=\"%s\"} %.2f\n", d, u / 100 }'
        done
    fi
    echo '# HELP bramble_filesystem_written_bytes Bytes written to a file system since it was made.'
    echo '# TYPE bramble_filesystem_written_bytes counter'
    for f in /sys/fs/ext4/*/lifetime_write_kbytes; do
        [ -r "$f" ] || continue
        read -r k <"$f" || continue
        n=${f#/sys/fs/ext4/}
        echo "bramble_filesystem_written_bytes{device=\"${n%%/*}\"} ${k}000"
    done
    if read -r m e 2>/dev/null </var/lib/bramble/backups-state/made; then
        echo '# HELP bramble_backup_made_seconds When the cluster made its last backup by itself, in seconds since 1970.'
        echo '# TYPE bramble_backup_made_seconds gauge'
        echo "bramble_backup_made_seconds $m"
        echo '# HELP bramble_backup_every_seconds How much time there should be between two of them.'
        echo '# TYPE bramble_backup_every_seconds gauge'
        echo "bramble_backup_every_seconds $e"
    fi
    if read -r m _ e _ 2>/dev/null </var/lib/bramble/backups-volumes/saved; then
        echo '# HELP bramble_volumes_saved_seconds When this node saved all its volumes last, in seconds since 1970.'
        echo '# TYPE bramble_volumes_saved_seconds gauge'
        echo "bramble_volumes_saved_seconds $m"
        echo '# HELP bramble_volumes_every_seconds How much time there should be between two times.'
        echo '# TYPE bramble_volumes_every_seconds gauge'
        echo "bramble_volumes_every_seconds $e"
    fi
    echo '# HELP bramble_certificate_end_seconds When a certificate ends, in seconds since 1970.'
    echo '# TYPE bramble_certificate_end_seconds gauge'
    # shellcheck disable=SC2154 # They are named above this text.
    for f in $certificates; do
        [ -r "$f" ] || continue
        e=$(openssl x509 -noout -enddate -in "$f" 2>/dev/null | cut -d= -f2)
        [ -n "$e" ] || continue
        s=$(date -d "$e" +%s) || continue
        echo "bramble_certificate_end_seconds{file=\"$f\"} $s"
    done
}
metrics >"$d/bramble.prom.new"
mv -f "$d/bramble.prom.new" "$d/bramble.prom"
