# Takes the functions of strict.sh; defines: go_down.

# Lets the board boot or go off. Debian 13's apt holds the system while it works, and systemd refuses even root as long as somebody
# does (systemd 257, NEWS): that is waited for, since packages that are cut off in the middle are worse.
go_down() { # reboot|poweroff
    sync
    n=0
    mkdir -p /run/bramble
    until systemctl --no-block "$1" 2>/run/bramble/down; do
        w=$(systemd-inhibit --list --no-legend --no-pager 2>/dev/null | awk '/shutdown/ && $NF == "block" { $1 = $1; print }' | paste -sd, -)
        if [ -z "$w" ] || [ "$n" -ge 900 ]; then
            cat /run/bramble/down >&2
            [ -z "$w" ] || echo "for 15 minutes it has been held by $w: see what that does" >&2
            return 1
        fi
        sleep 1; n=$((n + 1))
    done
}
