# What could be newer on a node, and how it becomes so. Takes B and the functions of ledger.sh. Defines: list_packages,
# list_firmware, upgrade_packages, upgrade_firmware.

# Packages that are held stay: Kubernetes' own have their version from the cluster file.
list_packages() {
    attempt patient apt-get -q update >"$B/updates" 2>&1
    [ "$rc" = 0 ] || { tail -n 5 "$B/updates" >&2; return 1; }
    apt-get -s -o Debug::NoLocking=1 --with-new-pkgs upgrade >"$B/updates"
    awk '$1 == "Inst" {
        from = "-"; to = $3
        if ($3 ~ /^\[/) { from = $3; gsub(/[][]/, "", from); to = $4 }
        gsub(/[()]/, "", to)
        print "package", $2, from, to
    }' "$B/updates"
    apt-mark showhold >"$B/updates"
    sed 's/^/held /' "$B/updates"
    rm -f "$B/updates"
    # Debian's packages that want one say so there.
    [ ! -e /run/reboot-required ] || echo 'restart yes'
}

# The bootloader in the EEPROM of a Raspberry Pi 4 or 5 (rpi-eeprom-update: 1 means that there is a newer one).
list_firmware() {
    command -v rpi-eeprom-update >/dev/null || return 0
    rpi-eeprom-update >"$B/updates" 2>&1 || [ "$?" = 1 ] || { tail -n 5 "$B/updates" >&2; return 1; }
    awk -F '[()]' '
        /CURRENT:/ && from == "" { from = $2 }
        /LATEST:/ && to == "" { to = $2 }
        END { if (to + 0 > from + 0) print "firmware", from, to }' "$B/updates"
    # Boards without an EEPROM have the program, too.
    grep -q 'CURRENT:' "$B/updates" || { rm -f "$B/updates"; return 0; }
    rpi-eeprom-config >"$B/updates"
    h=$(sha256sum <"$B/updates")
    rm -f "$B/updates"
    echo "settings ${h%% *}"
}

upgrade_packages() {
    patient dpkg --configure -a --force-confdef --force-confold
    apt_get --with-new-pkgs upgrade
    rm -f "$B/nothing-to-remove"
}

# It is written at the next boot, with the settings that the old one has.
upgrade_firmware() { rpi-eeprom-update -a; }
