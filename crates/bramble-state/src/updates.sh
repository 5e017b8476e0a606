# What could be newer on a node, and how it becomes so. Takes B and the functions of ledger.sh. Defines: list_packages,
# list_firmware, for which it takes eeprom.sh, upgrade_packages, upgrade_firmware.

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
    # Its service begins an update anew when the package is configured, and drops one that waits.
    if grep -q '^Inst rpi-eeprom ' "$B/updates" && command -v rpi-eeprom-update >/dev/null; then
        eeprom_waits
        [ -z "$waits" ] || { echo 'its EEPROM takes new settings at the next boot, which a newer rpi-eeprom would drop: boot it first, with bramble reboot' >&2; return 1; }
    fi
    apt-mark showhold >"$B/updates"
    sed 's/^/held /' "$B/updates"
    rm -f "$B/updates"
    # Debian's packages that want one say so there.
    [ ! -e /run/reboot-required ] || echo 'restart yes'
}

# The bootloader in the EEPROM of a Raspberry Pi 4 or 5 (rpi-eeprom-update: 1 means that there is a newer one), and why it stays
# as it is where an upgrade would lose its settings: it takes none that it cannot read, none of less than three lines
# (`prepareImage`), and begins with those of the last boot, whatever waits for the next one.
list_firmware() {
    command -v rpi-eeprom-update >/dev/null || return 0
    rpi-eeprom-update >"$B/updates" 2>&1 || [ "$?" = 1 ] || { tail -n 5 "$B/updates" >&2; return 1; }
    # Boards without an EEPROM have the program, too.
    grep -q 'CURRENT:' "$B/updates" || { rm -f "$B/updates"; return 0; }
    newer=$(awk -F '[()]' '
        /CURRENT:/ && from == "" { from = $2 }
        /LATEST:/ && to == "" { to = $2 }
        END { if (to + 0 > from + 0) print "firmware", from, to }' "$B/updates")
    eeprom_waits
    rpi-eeprom-config >"$B/updates" 2>&1
    lines=$(wc -l <"$B/updates")
    if [ -n "$waits" ]; then newer='restart yes'
    elif grep -q '^FREEZE_VERSION=1' "$B/updates"; then newer=${newer:+kept FREEZE_VERSION is set}
    elif ! has_settings "$B/updates"; then newer=${newer:+kept its settings cannot be read}
    elif [ "$lines" -lt 3 ]; then newer=${newer:+kept an upgrade drops settings of so few lines}; fi
    [ -z "$newer" ] || echo "$newer"
    # vcgencmd ends with one more empty line than there is.
    h=$(tr -d '\000\r' <"$B/updates" | sed '/^[[:blank:]]*$/d' | sha256sum)
    rm -f "$B/updates"
    echo "settings ${h%% *}"
}

upgrade_packages() {
    patient dpkg --configure -a --force-confdef --force-confold
    apt_get --with-new-pkgs upgrade
    rm -f "$B/nothing-to-remove"
}

# It is written at the next boot, with the settings that the old one has.
upgrade_firmware() {
    rpi-eeprom-update -a >"$B/updates" 2>&1 || {
        cat "$B/updates" >&2
        forget_update "$B/updates"
        return 1
    }
    cat "$B/updates"
    rm -f "$B/updates"
}
