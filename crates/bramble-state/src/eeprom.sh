# What waits in the EEPROM of a Raspberry Pi 4 or 5 for the next boot. Takes nothing. Defines: eeprom_waits, which sets waits;
# eeprom_told, which fails if a text is none of its settings; forget_update.

# A file of an update stays where it is when it was written, and the bootloader takes none that was cut off, or is not newer than
# the last one (rpi-eeprom, "rpi-eeprom-update" and the release notes of 2020-09-03): what stands beside it tells.
eeprom_waits() { # boot partition
    waits=
    # Written at once on a Raspberry Pi 5, and used from the next boot on.
    [ ! -e /run/bramble/boot-order ] || waits=yes
    if [ ! -e "$1/pieeprom.upd" ] || [ ! -e "$1/pieeprom.sig" ]; then return; fi
    last=0
    f=/proc/device-tree/chosen/bootloader/update-timestamp
    [ ! -e "$f" ] || last=$(od -An -v -tu4 --endian=big "$f" | tr -d ' ')
    h=$(sha256sum <"$1/pieeprom.upd")
    s=$(head -n 1 "$1/pieeprom.sig")
    t=$(sed -n 's/^ts: *//p' "$1/pieeprom.sig")
    if [ "$s" = "${h%% *}" ] && [ "${t:-$((last + 1))}" -gt "$last" ]; then waits=yes; fi
}

# Where the firmware gives them to nobody, rpi-eeprom-config prints an error, and ends well
# (home-assistant/operating-system#4811).
eeprom_told() { # file
    grep -q '^[A-Z0-9_]*=' "$1" || { head -n 3 "$1" >&2; echo 'the settings of its EEPROM cannot be read' >&2; return 1; }
}

# Half of an update would be written at the next boot. What flashrom may have begun to write is to be written again.
forget_update() { # what rpi-eeprom-update said
    grep -q 'UPDATE FAILED' "$1" || best_effort rpi-eeprom-update -r
}
