# Says from what a board boots, and sets it. Takes the functions of eeprom.sh; wanted, the order that it is to have, or nothing;
# defines no functions.
command -v rpi-eeprom-config >/dev/null || { echo 'it has no rpi-eeprom-config: install the package rpi-eeprom' >&2; exit 1; }
# What was asked of a board whose updates are written at once (Raspberry Pi 5): it shows the old order until it boots.
asked=/run/bramble/boot-order
d=$(mktemp -d)
trap 'rm -rf "$d"' EXIT
eeprom_waits
set --
if [ -n "$waits" ] && [ ! -e "$asked" ]; then set -- "$b/pieeprom.upd"; fi
rpi-eeprom-config "$@" >"$d/now" 2>&1 || { cat "$d/now" >&2; exit 1; }
has_settings "$d/now" || { head -n 3 "$d/now" >&2; echo 'the settings of its EEPROM cannot be read' >&2; exit 1; }
[ -z "$waits" ] || echo 'waiting yes'
# `[all]` ends a filter, and what stands in the part for config.txt is none of the bootloader's.
o=$(tr -d '\r' <"$d/now" | awk '/^\[/ { s = $0 } (s == "" || s == "[all]") && sub(/^BOOT_ORDER=/, "") { o = tolower($1) } END { print o }')
[ ! -e "$asked" ] || o=$(cat "$asked")
echo "order $o"
if [ -n "$wanted" ] && [ "$o" != "$wanted" ]; then
    # The newest image that the package has is written with it.
    rpi-eeprom-update >"$d/log" 2>&1 || [ "$?" = 1 ] || { cat "$d/log" >&2; exit 1; }
    i=$(rpi-eeprom-update -l 2>/dev/null)
    [ -f "$i" ] || { echo 'rpi-eeprom has no image for this board: a compute module takes its order with rpiboot' >&2; exit 1; }
    awk -F '[()]' '/CURRENT:/ && f == "" { f = $2 } /LATEST:/ && t == "" { t = $2 } END { exit t + 0 < f + 0 }' "$d/log" || {
        echo 'its bootloader is newer than the one that rpi-eeprom would write: set FIRMWARE_RELEASE_STATUS in /etc/default/rpi-eeprom-update, or upgrade the package' >&2
        exit 1
    }
    tr -d '\r' <"$d/now" | awk -v order="BOOT_ORDER=$wanted" '
        { l[NR] = $0 }
        /^\[/ { s = $0; if (s != "[all]" && !at) at = NR }
        (s == "" || s == "[all]") && /^BOOT_ORDER=/ { gone[NR] = 1; last = NR }
        END {
            if (last) at = last
            for (i = 1; i <= NR; i++) { if (i == at) print order; if (!gone[i]) print l[i] }
            if (!at) print order
        }' >"$d/boot.conf"
    rpi-eeprom-config --apply "$d/boot.conf" >"$d/log" 2>&1 || {
        cat "$d/log" >&2
        forget_update "$d/log"
        exit 1
    }
    mkdir -p "${asked%/*}"
    [ -e "$b/pieeprom.upd" ] || echo "$wanted" >"$asked"
    echo 'set yes'
fi
