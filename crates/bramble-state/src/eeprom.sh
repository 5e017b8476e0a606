# What waits in the EEPROM of a Raspberry Pi 4 or 5 for the next boot. Takes nothing. Defines: eeprom_waits, which sets
# waits and b, the boot partition; has_settings, forget_update.

# A file of an update stays where it is when it was written, and the bootloader takes none that was cut off, or is not newer than
# the last one (rpi-eeprom, "rpi-eeprom-update" and the release notes of 2020-09-03): what stands beside it tells.
eeprom_waits() {
    waits=
    b=$(rpi-eeprom-update -b)
    # Written at once on a Raspberry Pi 5, and used from the next boot on.
    [ ! -e /run/bramble/boot-order ] || waits=yes
    if [ ! -e "$b/pieeprom.upd" ] || [ ! -e "$b/pieeprom.sig" ]; then return; fi
    last=0
    f=/proc/device-tree/chosen/bootloader/update-timestamp
    [ ! -e "$f" ] || last=$(od -An -v -tu4 --endian=big "$f" | tr -d ' ')
    h=$(sha256sum <"$b/pieeprom.upd")
    s=$(head -n 1 "$b/pieeprom.sig")
    t=$(sed -n 's/^ts: *//p' "$b/pieeprom.sig")
    if [ "$s" = "${h%% *}" ] && [ "${t:-$((last + 1))}" -gt "$last" ]; then waits=yes; fi
}

# Where the firmware gives them to nobody, rpi-eeprom-config prints an error, and ends well
# (home-assistant/operating-system#4811).
has_settings() { grep -q '^[A-Z0-9_]*=' "$1"; } # question

# Half of an update would be written at the next boot. What flashrom may have begun to write is to be written again.
forget_update() { # what rpi-eeprom-update said
    grep -q 'UPDATE FAILED' "$1" || best_effort rpi-eeprom-update -r
}
