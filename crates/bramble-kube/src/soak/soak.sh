# A board under full load. Takes the functions of steps.sh and why.sh. Defines: soak_begin, soak_look, core_clock, soak_end.
SOAK=/run/bramble/soak

# Nothing is installed, and nothing is left when it has ended.
soak_begin() { # seconds limit program
    soak_end
    mkdir -p "$SOAK"
    cut -d . -f 1 /proc/uptime >"$SOAK/asked"
    systemd-run -q --unit=bramble-soak --collect -p Nice=19 /bin/sh -c "$3" soak "$1" "$2" "$SOAK"
}

# The fastest core, in kHz.
core_clock() { sort -n /sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq | tail -n 1; }

# Asking keeps the load going.
soak_look() {
    # The load reads it each second, and must never see half of it.
    cut -d . -f 1 /proc/uptime >"$SOAK/asked.new"
    mv "$SOAK/asked.new" "$SOAK/asked"
    tell temperature temperatures
    tell throttled firmware
    tell clock core_clock
    tell state systemctl show -p ActiveState --value bramble-soak
    tell ended cat "$SOAK/ended"
}

soak_end() {
    stop_soak=$(systemctl show -p LoadState --value bramble-soak)
    [ "$stop_soak" = not-found ] || systemctl stop bramble-soak
    rm -rf "$SOAK"
}
