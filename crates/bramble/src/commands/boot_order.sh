# Says from what a board boots, and sets it. Takes wanted, the order that it is to have, or nothing; defines no functions.
command -v rpi-eeprom-config >/dev/null || { echo 'it has no rpi-eeprom-config: install the package rpi-eeprom' >&2; exit 1; }
b=$(rpi-eeprom-update -b)
# What was asked of a board whose updates are written at once (Raspberry Pi 5): it shows the old order until it boots.
asked=/run/bramble/boot-order
if [ -e "$b/pieeprom.upd" ]; then
    c=$(rpi-eeprom-config "$b/pieeprom.upd")
    echo 'waiting yes'
    rm -f "$asked"
else
    c=$(rpi-eeprom-config)
fi
o=$(echo "$c" | awk '/^\[/ { s = $0 } (s == "" || s == "[all]") && sub(/^BOOT_ORDER=/, "") { o = tolower($1) } END { print o }')
if [ -e "$asked" ]; then
    o=$(cat "$asked")
    echo 'waiting yes'
fi
echo "order $o"
if [ -n "$wanted" ] && [ "$o" != "$wanted" ]; then
    d=$(mktemp -d)
    trap 'rm -rf "$d"' EXIT
    echo "$c" | awk -v order="$wanted" '
        /^\[/ { s = $0 }
        (s == "" || s == "[all]") && /^BOOT_ORDER=/ { next }
        { print }
        END { if (s != "" && s != "[all]") print "[all]"; print "BOOT_ORDER=" order }' >"$d/boot.conf"
    rpi-eeprom-config --apply "$d/boot.conf" >"$d/log" 2>&1 || { cat "$d/log" >&2; exit 1; }
    mkdir -p "${asked%/*}"
    [ -e "$b/pieeprom.upd" ] || echo "$wanted" >"$asked"
    echo 'set yes'
fi
