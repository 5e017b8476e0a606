#!/bin/sh
# Stands in for snap and snapd on the lab's racks, where no snap can be mounted and no signature of a store be had: what
# bramble asks of snapd 2.79, with its words. A snap of the lab is a compressed archive; digests are checked as the real one
# does, signatures are not. It refuses everything else.
set -eu
umask 022
A=/var/lib/snapd/standin
mkdir -p "$A" /var/lib/snapd/snaps /snap/bin

fatal() { # message
    echo "error: $*" >&2
    exit 1
}
revision() { readlink "/snap/$1/current" 2>/dev/null || :; }
services() { cat "/snap/$1/current/meta/services" 2>/dev/null || :; }
there() { [ -n "$(revision "$1")" ] || fatal "snap \"$1\" is not installed"; }
hook() { # snap hook
    h=/snap/$1/current/meta/hooks/$2
    [ ! -e "$h" ] || SNAP=/snap/$1/current SNAP_DATA=/var/snap/$1/current SNAP_COMMON=/var/snap/$1/common sh -eu "$h" >&2
}
each_service() { # snap systemctl's words
    s=$1
    shift
    for u in $(services "$s" | cut -d' ' -f1); do systemctl "$@" "snap.$s.$u.service" >/dev/null 2>&1 || :; done
}

install() { # file classic
    d=$(openssl dgst -sha3-384 -binary "$1" | base64 -w0 | tr '+/' '-_')
    [ -e "$A/$d" ] || fatal "cannot find signatures with metadata for snap/component \"$1\""
    n=$(tar -xzOf "$1" meta/snap.yaml | sed -n 's/^name: //p')
    r=$(sed -n 's/^snap-revision: //p' "$A/$d")
    old=$(revision "$n")
    if [ "$old" = "$r" ]; then
        echo "snap \"$n\" is already installed, see 'snap help refresh'" >&2
        exit 0
    fi
    if [ "$n" = microk8s ]; then
        [ -n "$2" ] || fatal "This revision of snap \"$1\" was published using classic confinement and thus may perform arbitrary system changes outside of the security sandbox that snaps are usually confined to, which may put your system at risk."
        for b in snapd core22; do
            [ -n "$(revision "$b")" ] || fatal "cannot perform the following tasks: - Ensure prerequisites for \"$n\" are available (cannot install snap base \"$b\": the store cannot be reached)"
        done
    fi
    mkdir -p "/snap/$n/$r" "/var/snap/$n/common"
    tar -xzf "$1" -C "/snap/$n/$r"
    cp "$1" "/var/lib/snapd/snaps/${n}_$r.snap"
    if [ -n "$old" ]; then
        each_service "$n" stop
        cp -a "/var/snap/$n/$old" "/var/snap/$n/$r"
    else
        mkdir -p "/var/snap/$n/$r"
    fi
    # snapd/overlord/snapstate/backend/link.go: it removes no folder.
    [ ! -d "/var/snap/$n/current" ] || [ -L "/var/snap/$n/current" ] || fatal "cannot perform the following tasks: - Make snap \"$n\" available to the system"
    ln -sfn "$r" "/snap/$n/current"
    ln -sfn "$r" "/var/snap/$n/current"
    if [ -z "$old" ] && ! hook "$n" install; then
        rm -rf "/snap/$n" "/var/snap/$n" "/var/lib/snapd/snaps/${n}_$r.snap"
        fatal "cannot perform the following tasks: - Run install hook of \"$n\" snap if present"
    fi
    services "$n" | while read -r u command; do
        printf '[Unit]\nDescription=Service for snap application %s.%s\nAfter=network-online.target\nWants=network-online.target\n\n[Service]\nExecStart=/snap/%s/current/%s\nRestart=always\nKillMode=process\nDelegate=yes\nLimitNOFILE=1048576\nTimeoutStopSec=30\n\n[Install]\nWantedBy=multi-user.target\n' \
            "$n" "$u" "$n" "$command" >"/etc/systemd/system/snap.$n.$u.service"
    done
    if [ -n "$(services "$n")" ]; then
        systemctl daemon-reload
        each_service "$n" enable --now
    fi
    [ ! -x "/snap/$n/current/$n" ] || ln -sf "/snap/$n/current/$n" "/snap/bin/$n"
    echo "$n installed"
}

remove() { # snap
    there "$1"
    case $1 in
    snapd) [ "$(find /snap -mindepth 1 -maxdepth 1 ! -name bin | wc -l)" = 1 ] || fatal 'cannot remove "snapd": snap "snapd" is not removable: remove all other snaps first' ;;
    core22) [ -z "$(revision microk8s)" ] || fatal 'cannot remove "core22": snap "core22" is not removable: snap is being used by snap microk8s.' ;;
    esac
    each_service "$1" disable --now
    hook "$1" remove
    rm -f "/snap/bin/$1" /etc/systemd/system/"snap.$1."*.service
    systemctl daemon-reload
    rm -rf "/snap/$1" "/var/snap/$1" /var/lib/snapd/snaps/"$1"_*.snap
}

[ "$(id -u)" = 0 ] || fatal 'access denied (try with sudo)'
case "$*" in
'wait system seed.loaded') ;;
'ack '*)
    [ -s "$2" ] || fatal "open $2: no such file or directory"
    for t in account-key snap-declaration snap-revision; do
        grep -qx "type: $t" "$2" || fatal "cannot assert: cannot resolve prerequisite assertion: $t"
    done
    cp "$2" "$A/$(sed -n 's/^snap-sha3-384: //p' "$2")"
    ;;
'install --ignore-running --classic /'*) install "$4" yes ;;
'install --ignore-running /'*) install "$3" '' ;;
'refresh --hold '*)
    there "$3"
    echo "General refreshes of \"$3\" held indefinitely"
    ;;
'remove --purge '*) remove "$3" ;;
'run --shell microk8s -c '*)
    there "$3"
    shift 3
    SNAP=/snap/microk8s/current SNAP_DATA=/var/snap/microk8s/current SNAP_COMMON=/var/snap/microk8s/common exec /bin/bash "$@"
    ;;
'stop '*)
    there "$2"
    each_service "$2" stop
    ;;
*) fatal "this stand-in for snap cannot do: $*" ;;
esac
