# Looks who is logged in by SSH before a firewall stands. It defines way_in, and takes no variables.

way_in() { # outside inside ports…
    o=$1 n=$2
    shift 2
    s=$(ss -tnHp state established)
    all=$(ip -o addr show)
    printf '%s\n' "$s" | awk '/"sshd/ { print $3 }' | sort -u | while read -r to; do
        a=${to%:*} p=${to##*:}
        a=${a#[}; a=${a%]}; a=${a#::ffff:}; a=${a%%%*}
        i=$(printf '%s\n' "$all" | awk -v a="$a" '{ split($4, b, "/") } b[1] == a && !f { print $2; f = 1 }')
        case $i in '' | lo | "$n") continue ;; esac
        if [ "$i" = "$o" ]; then case " $* " in *" $p "*) continue ;; esac; fi
        if [ "$i" = "$o" ]; then
            echo "somebody is logged in from outside ($i, $a), and the firewall would not let them in again: say \`reach: $a\` beside \`interface: $o\` in \`uplink\`, or log in from within the rack"
        else
            echo "somebody is logged in at $i ($a), which is neither the inside ($n) nor the outside ($o), and the firewall would not let them in again: correct \`uplink\`, or log in from within the rack"
        fi
        exit 1
    done
}
