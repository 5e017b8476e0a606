# What every script that changes a node begins with: it waits for its turn on the node, and opens the ledger. Takes B, the
# functions of steps.sh, places.sh and lock.sh, and, if RUN is set, those of turn.sh. Defines: run, entry, keep, remember_file,
# undo_file, put_file, copy_here, put_edit, undo_edit, own_folder, undo_folder, set_hostname, set_sysctl, apt_do, undo_one,
# give_back, read_again, drop_packages, hold, remember_unit, restart_later, reboot_later, unit_do, verified, place_blob,
# digest_is, install_blob, fetch_blob, hold, step_begins, which sets again, and format_disk.
#
# What undoes a change is kept as text in the ledger. It runs to its first failure, with E, its entry, and with the functions
# of strict.sh, steps.sh, places.sh and this file.
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l
umask 022
lock_node
[ -z "${RUN-}" ] || take_turn
[ -d "$B/ledger" ] || { mkdir -p "$B"; chmod 700 "$B"; mkdir -p "$B/ledger" "$B/pending" "$B/done"; }

# Runs change number $1 and says how it ended. Its lines go out as they come.
run() {
    echo "@start $1"
    attempt "c$1" </dev/null 9>&- 2>&1
    if [ "$rc" != 0 ]; then echo "@fail $1 $rc"; exit 1; fi
    echo "@ok $1"
}

# Opens a ledger entry $1 with title $2 for something that is touched for the first time; the answer is no if it is recorded
# already. Nothing is changed that cannot be recorded.
entry() { # question
    set -- "$1" "$2" "$B"/ledger/[0-9]*."$1"
    [ ! -e "$3" ] || return 1
    E=$B/ledger/new.$1
    { rm -rf "$E" && mkdir "$E" && printf '%s\n' "$2" >"$E/title"; } || { echo "$E cannot be written"; exit 1; }
}

# Puts the open entry $1 into the ledger. Only then may the change begin.
keep() {
    n=0
    for e in "$B"/ledger/[0-9]*; do [ ! -e "$e" ] || n=${e##*/}; done
    n=${n%%.*}
    n=${n#"${n%%[1-9]*}"}
    set -- "$1"
    # A link is in the ledger as it was found: what it points to is elsewhere, or nowhere.
    for e in "$E"/*; do if [ ! -L "$e" ] && [ -f "$e" ]; then set -- "$@" "$e"; fi; done
    h=$1
    shift
    sync "$@"
    n=$(printf %06d $((${n:-0} + 1)))
    mv -T "$E" "$B/ledger/$n.$h"
    sync "$B/ledger"
}

# Remembers a file as it is, or that there is none; a link is remembered as a link.
remember_file() { # hash path
    entry "$1" "restore $2" || return 0
    printf '%s\n' "$2" >"$E/path"
    d=${2%/*}
    while [ ! -d "${d:-/}" ]; do
        printf '%s\n' "$d" >>"$E/folders"
        d=${d%/*}
    done
    if [ ! -e "$E/folders" ]; then
        enter "$d"
        if [ -e "./${2##*/}" ] || [ -L "./${2##*/}" ]; then cp -a -- "./${2##*/}" "$E/saved"; fi
        cd /
    fi
    echo undo_file >"$E/undo"
    keep "$1"
}

undo_file() {
    p=$(cat "$E/path")
    if [ -e "$E/saved" ] || [ -L "$E/saved" ]; then
        beside "$p" make
        cp -a -- "$E/saved" ./new
        settle "$p"
    fi
    [ -d "${p%/*}/" ] || return 0
    enter "${p%/*}"
    # What an older version has left beside it goes, too.
    n=${p##*/}
    rm -f -- "./$n.bramble-new" "./$n.bramble-old"
    if [ ! -e "$E/saved" ] && [ ! -L "$E/saved" ]; then rm -rf --one-file-system -- "./.$n.bramble-new"; rm -f -- "./$n"; fi
    cd /
    [ -e "$E/folders" ] || return 0
    while read -r d; do
        [ -d "$d" ] || continue
        enter "${d%/*}"
        # Folders in which others have put something stay.
        rmdir -- "./${d##*/}" 2>/dev/null || :
        cd /
    done <"$E/folders"
}

put_file() { # hash path mode check base64
    remember_file "$1" "$2"
    beside "$2" make
    (umask 077; printf %s "$5" | base64 -d >./new)
    chmod "$3" ./new
    case $4 in
    sshd) sshd -t -f ./new || { abandon "$2"; return 1; } ;;
    sudoers) visudo -cqf ./new || { abandon "$2"; return 1; } ;;
    esac
    [ "$4" = sshd ] || { settle "$2"; return 0; }
    old=no
    if [ -e "../${2##*/}" ]; then old=yes; cp -a -- "../${2##*/}" ./old; fi
    sync ./new
    mv -fT -- ./new "../${2##*/}"
    if ! sshd -t; then
        # Each file is fine by itself and the whole is not: back, before sshd reads it.
        if [ "$old" = yes ]; then mv -fT -- ./old "../${2##*/}"; else rm -f -- "../${2##*/}"; fi
        abandon "$2"
        return 1
    fi
    sync ..
    abandon "$2"
}

# Copies a file to `./new`, with its owner and its mode. A boot partition knows no owners.
copy_here() { # path
    cp -p -- "$1" ./new 2>/dev/null || cp -- "$1" ./new
}

# Writes a new text into a file that is not ours, provided that it still is the one that was looked at. A file takes the place
# of a link; what it points to stays as it is.
put_edit() { # hash path digest-before base64 [token…]
    hash=$1 path=$2 before=$3 text=$4
    shift 4
    now=$(sha256sum <"$path")
    if [ "${now%% *}" != "$before" ]; then echo "$path has changed since it was looked at; run bramble again"; return 1; fi
    if entry "$hash" "restore $path"; then
        printf '%s\n' "$path" >"$E/path"
        cat -- "$path" >"$E/saved"
        if [ -L "$path" ]; then cp -a -- "$path" "$E/link"; fi
        printf '%s\n' "$@" >"$E/tokens"
        echo undo_edit >"$E/undo"
        keep "$hash"
    fi
    beside "$path"
    copy_here "../${path##*/}"
    printf %s "$text" | base64 -d >./new
    settle "$path"
    for e in "$B"/ledger/[0-9]*."$hash"; do sha256sum <"$path" >"$e/wrote"; done
}

undo_edit() {
    p=$(cat "$E/path")
    beside "$p"
    q=../${p##*/}
    now=$(sha256sum <"$q")
    wrote=
    [ ! -e "$E/wrote" ] || wrote=$(cat "$E/wrote")
    if [ "$now" = "$wrote" ] && [ -L "$E/link" ]; then
        cp -a -- "$E/link" ./new
    else
        copy_here "$q"
        if [ "$now" = "$wrote" ]; then
            cat "$E/saved" >./new
        else
            # Somebody edited the file meanwhile: only what bramble added goes.
            sed -e '/^# BEGIN bramble\r*$/,/^# END bramble\r*$/d' -e 's/^# bramble: //' "$q" >./new
            while read -r w; do
                [ -n "$w" ] || continue
                t=$(printf '%s' "$w" | sed 's/[][\.*^$/]/\\&/g')
                # Whole words only, with one blank of those around them.
                sed -i -e '1{' -e ":a" -e "s/^$t\\( \\|\\r*\$\\)//;ta" -e "s/ $t\\( \\|\\r*\$\\)/\\1/;ta" -e '}' ./new
            done <"$E/tokens"
        fi
    fi
    settle "$p"
    enter "${p%/*}"
    rm -f -- "./${p##*/}.bramble-new" "./${p##*/}.bramble-new.2"
    cd /
}

own_folder() { # hash path
    entry "$1" "remove $2" || return 0
    printf '%s\n' "$2" >"$E/path"
    if [ -e "$2" ]; then echo : >"$E/undo"; else echo undo_folder >"$E/undo"; fi
    keep "$1"
}

# Nothing is removed that is mounted there, or that a link in it points to.
undo_folder() {
    p=$(cat "$E/path")
    unmount_below "$p/."
    [ -d "${p%/*}/" ] || return 0
    enter "${p%/*}"
    rm -rf --one-file-system -- "./${p##*/}"
    cd /
}

set_hostname() { # hash name
    if entry "$1" 'restore the running hostname'; then
        cat /proc/sys/kernel/hostname >"$E/name"
        cat >"$E/undo" <<'UNDO'
n=$(cat "$E/name")
hostname "$n"
UNDO
        keep "$1"
    fi
    hostname "$2"
}

set_sysctl() { # hash key value file
    [ -e "$4" ] || { echo "this kernel has no setting $2"; return 1; }
    if entry "$1" "restore $2"; then
        cat "$4" >"$E/value"
        printf '%s\n' "$4" >"$E/path"
        cat >"$E/undo" <<'UNDO'
p=$(cat "$E/path")
# The next boot brings the old value in any case.
[ ! -w "$p" ] || best_effort cp "$E/value" "$p"
UNDO
        keep "$1"
    fi
    printf '%s\n' "$3" >"$4"
}

# Runs a command of apt or dpkg, again while another program holds a lock of theirs (the first boot's packages, apt-daily, a
# person): the option for that is for one lock of four. A configuration file that is there stays.
patient() { # command…
    _until=$(($(date +%s) + 900))
    while :; do
        _code=0
        LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@" 2>"$B/patient" || _code=$?
        cat "$B/patient" >&2
        if [ "$_code" = 0 ]; then break; fi
        _lock=$(grep -m 1 'get lock\|Unable to lock\|the dpkg frontend lock\|locked by' "$B/patient" || [ "$?" = 1 ])
        _now=$(date +%s)
        if [ -z "$_lock" ] || [ "$_now" -gt "$_until" ]; then break; fi
        printf '@waiting another program that installs packages: %s\n' "$_lock"
        sleep 3
    done
    rm -f "$B/patient"
    return "$_code"
}

# apt, which asks nobody: of a configuration file that is there already, the one that is there stays.
apt_get() { # arguments…
    patient apt-get -q -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
}

# Remembers which packages an apt command is about to add or remove, so that undoing touches no others.
apt_do() { # hash arguments…
    h=$1
    shift
    if entry "$h" 'remove the packages that bramble installed'; then
        dpkg-query -W -f='${Package}\n' >"$E/before"
        # What apt-mark showmanual would take half a second of a board to say: who is not in here was asked for by name.
        : >"$E/extended"
        [ ! -e /var/lib/apt/extended_states ] || cat /var/lib/apt/extended_states >"$E/extended"
        : >"$E/ours"
        : >"$E/gone"
        cat >"$E/undo" <<'UNDO'
ours=$(sort -u "$E/ours" | while read -r p; do
    if ! grep -qxF "$p" "$E/before" && dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -qv '^unknown\|^purge ok not-installed'; then echo "$p"; fi
done)
if [ -n "$ours" ]; then
    patient apt-mark unhold $ours >/dev/null
    # Debian's scripts start and stop units; what they leave to systemd is forgotten below.
    apt_get purge $ours
fi
gone=$(sort -u "$E/gone" | while read -r p; do if ! dpkg-query -W -f='${db:Status-Abbrev}' "$p" 2>/dev/null | grep -q '^.i'; then echo "$p"; fi; done)
[ -z "$gone" ] || apt_get --no-install-recommends install $gone
# Packages that were there before keep the mark they had.
dpkg-query -W -f='${db:Status-Abbrev} ${Package}\n' >"$E/all"
awk '/^.i/ { print $2 }' "$E/all" | sort >"$E/now"
awk '$1 == "Package:" { p = $2 } $1 == "Auto-Installed:" && $2 == 1 { print p }' "$E/extended" | sort -u >"$E/auto"
sort "$E/before" | comm -23 - "$E/auto" >"$E/manual.sorted"
apt-mark showmanual >"$E/manual"
l=$(sort "$E/manual" | comm -23 - "$E/manual.sorted")
[ -z "$l" ] || patient apt-mark auto $l >/dev/null
l=$(comm -12 "$E/now" "$E/manual.sorted")
[ -z "$l" ] || patient apt-mark manual $l >/dev/null
UNDO
        keep "$h"
    fi
    # A run that was cut off may have left dpkg half way.
    patient dpkg --configure -a --force-confdef --force-confold
    for e in "$B"/ledger/[0-9]*."$h"; do
        rm -f "$B/removable"
        apt-get -s -o Debug::NoLocking=1 "$@" >"$B/simulated"
        awk -v ours="$e/ours" -v gone="$e/gone" -v more="$B/removable" \
            '$1 == "Inst" { print $2 >>ours } $1 == "Remv" { print $2 >>gone } / no longer required/ { print >>more }' "$B/simulated"
        rm -f "$B/simulated"
        sync "$e/ours" "$e/gone"
    done
    apt_get "$@"
    # What apt would have said of packages that nothing needs any more, the next look need not work out again.
    if [ -e "$B/removable" ]; then rm -f "$B/removable" "$B/nothing-to-remove"; else : >"$B/nothing-to-remove"; fi
}

# Entries of older versions were written for a shell that lets unset variables pass. Only for shells of their own.
undo_one() { # entry
    set +u
    E=$1
    how=$(cat "$E/undo")
    # shellcheck disable=SC1091,SC2016 # It is on the node, and its text is compared as it is.
    case $how in
    # What these versions wrote for files and folders follows links that other users may have made meanwhile. They have the
    # same data.
    'p=$(cat "$E/path")'*'mv -fT -- "$p.bramble-new" "$p"'*) undo_file ;;
    'p=$(cat "$E/path")'*'mv -fT -- "$t" "$p"'*) undo_edit ;;
    'p=$(cat "$E/path")'*'rm -rf -- "$p"'*) undo_folder ;;
    *) . "$E/undo" ;;
    esac
}

# Undoes what these entries of the ledger remember, and forgets it.
give_back() { # hashes…
    for h in "$@"; do
        for e in "$B"/ledger/[0-9]*."$h"; do
            [ -e "$e/undo" ] || continue
            (undo_one "$e")
            rm -rf "$e"
        done
    done
}

# What ran before bramble reads what it read then.
read_again() { # units…
    for u in "$@"; do ! systemctl -q is-active "$u" || systemctl restart "$u"; done
}

# Removes packages that bramble installed, and with them what they alone needed, if that came with bramble too.
drop_packages() { # hash packages…
    h=$1
    shift
    for e in "$B"/ledger/[0-9]*."$h"; do
        apt-get -s -o Debug::NoLocking=1 --auto-remove purge "$@" >"$B/simulated"
        awk '$1 == "Purg" || $1 == "Remv" { print $2 }' "$B/simulated" | sort -u >"$B/drop"
        # There may be none.
        l=$(sort -u "$e/ours" | comm -12 - "$B/drop" | grep -vxFf "$e/before" || [ "$?" = 1 ])
        rm -f "$B/drop" "$B/simulated"
        # shellcheck disable=SC2086
        [ -z "$l" ] || apt_get purge $l
    done
}

hold() { # hash packages…
    if entry "$1" 'restore held packages'; then
        dpkg-query -W -f='${db:Status-Want} ${Package}\n' >"$E/all"
        awk '$1 == "hold" { print $2 }' "$E/all" >"$E/before"
        rm -f "$E/all"
        cat >"$E/undo" <<'UNDO'
apt-mark showhold >"$E/held"
sort "$E/held" >"$E/now"
l=$(sort "$E/before" | comm -23 "$E/now" -)
[ -z "$l" ] || patient apt-mark unhold $l >/dev/null
UNDO
        keep "$1"
    fi
    shift
    s=$B/nothing-to-remove
    if [ ! -e "$s" ] || [ /var/lib/dpkg/status -nt "$s" ]; then s=/dev/null; fi
    # As apt-mark hold does it, without reading all of apt's lists before.
    printf '%s hold\n' "$@" >"$B/selections"
    # shellcheck disable=SC2016 # It is for the shell below.
    patient sh -c 'dpkg --set-selections <"$1"' sh "$B/selections"
    rm -f "$B/selections"
    : >"$s"
}

remember_unit() { # hash unit
    entry "$1" "restore the state of $2" || return 0
    printf '%s\n' "$2" >"$E/unit"
    # They fail also when the answer is no. Of a unit that is not there only the second one says anything.
    systemctl is-enabled "$2" >"$E/enabled" 2>/dev/null || :
    systemctl is-active "$2" >"$E/active" 2>/dev/null || :
    [ -s "$E/active" ] || { echo "systemd does not say what $2 does"; return 1; }
    cat >"$E/undo" <<'UNDO'
u=$(cat "$E/unit")
enabled=$(cat "$E/enabled")
active=$(cat "$E/active")
there=$(systemctl show -p LoadState --value "$u")
# One that never came, or went with its package, is as it was.
if [ "$there" != not-found ]; then
    [ "$active" = active ] || systemctl stop "$u"
    # What a timer of ours has begun ends with it.
    case $active,$u in
    active,*) ;;
    *.timer)
        best_effort systemctl stop "${u%.timer}.service"
        systemctl reset-failed "${u%.timer}.service" 2>/dev/null || :
        ;;
    esac
    case $enabled in
    enabled) systemctl enable "$u" ;;
    masked) systemctl mask "$u" ;;
    disabled | '' | not-found) systemctl disable "$u" ;;
    esac
    [ "$active" != active ] || best_effort systemctl start "$u"
    # One that systemd has not loaded has no failures to forget.
    systemctl reset-failed "$u" 2>/dev/null || :
fi
UNDO
    keep "$1"
}

# A unit that must read its files again, even if this run is cut off before it does.
restart_later() { : >"$B/pending/restart.$1"; sync "$B/pending/restart.$1"; }

reboot_later() {
    cat /proc/sys/kernel/random/boot_id >"$B/pending/reboot"
    sync "$B/pending/reboot"
}

unit_do() { systemctl "$1" "$2" || unit_failed "$2"; } # verb unit

# What was verified while it was written need not be read again by the next look.
verified() { # open-file digest note
    mkdir -p "$B/blobs.seen"
    s=$(stat -L -c '%s %Y %Z %i' -- "$1")
    printf '%s %s\n' "$2" "$s" >"$B/blobs.seen/$3"
}

# Puts `./new`, which is known to be right, in its place.
place_blob() { # path mode digest note
    chmod "$2" ./new
    # Whoever may write to its folder can put another one there: it is this one that was verified.
    exec 7<./new
    settle "$1"
    verified /dev/fd/7 "$3" "$4"
    exec 7<&-
}

# Fails if it is another one, which it says.
digest_is() { # path digest # question
    s=$(sha256sum <"$1") || return 1
    [ "${s%% *}" = "$2" ] || { echo "${s%% *}"; return 1; }
}

install_blob() { # hash path mode digest note staged
    remember_file "$1" "$2"
    beside "$2" make
    o=$(stat -c %d .)
    s=$(stat -c %d -- "$6")
    if [ "$o" = "$s" ]; then mv -fT -- "$6" ./new
    else
        cp -- "$6" ./new
        rm -f -- "$6"
        o=$(digest_is ./new "$4") || { abandon "$2"; echo "what was uploaded for $2 has the digest $o"; return 1; }
    fi
    place_blob "$2" "$3" "$4" "$5"
}

fetch_blob() { # hash path mode digest note url
    remember_file "$1" "$2"
    beside "$2" make
    if command -v curl >/dev/null; then curl -fsSL --retry 3 --connect-timeout 15 -o ./new -- "$6"
    else wget -q -T 15 -t 3 -O ./new -- "$6"; fi || { abandon "$2"; echo "$6 cannot be fetched"; return 1; }
    o=$(digest_is ./new "$4") || { abandon "$2"; echo "$6 has the digest $o, expected was $4"; return 1; }
    place_blob "$2" "$3" "$4" "$5"
}

# Begins a step that is done once; $4, if given, is how to undo it, base64.
step_begins() { # hash id title undo
    if [ -n "$4" ] && entry "$1" "$3"; then
        printf %s "$4" | base64 -d >"$E/undo"
        keep "$1"
    fi
    rm -f "$B/done/$2"
    # shellcheck disable=SC2034 # For what follows.
    if [ -e "$B/pending/step.$2" ]; then again=yes; else again=no; fi
    : >"$B/pending/step.$2"
    sync "$B/pending/step.$2"
}

# A disk that is in use, is not blank any more, or is not the one that was planned is left alone. Takes disk_identity.
format_disk() { # device label blank|wipe identity
    # While it is open its number goes to no other device; while it is locked udev does not look at it.
    exec 8<"$1"
    flock -w 10 8 || { echo "$1 is locked by another program"; return 1; }
    d=$(readlink -f -- "$1")
    o=$(disk_identity "$d")
    if [ -z "$4" ] || [ "$o" != "$4" ]; then
        echo "$1 is not the disk that was planned (${4:-unknown}) but another ($o): nothing on it was changed; run it again"
        return 1
    fi
    # A kernel without swap has no list of it.
    if [ -e /proc/swaps ]; then u=/proc/swaps; else u=/dev/null; fi
    u=$(awk -v d="$d" '$1 == d || index($1, d) == 1 && substr($1, length(d) + 1) ~ /^p?[0-9]+$/' /proc/self/mounts "$u")
    [ -z "$u" ] || { echo "$1 is in use"; return 1; }
    if [ "$3" = blank ]; then
        u=$(wipefs -n -p -- "$d")
        u=$(echo "$u" | sed '/^#/d; /^$/d')
        [ -z "$u" ] || { echo "$1 is not blank any more"; return 1; }
    fi
    # 2 says that there is none (blkid(8)).
    o=$(blkid -L "$2" || [ "$?" = 2 ])
    u=$d
    [ -z "$o" ] || u=$(readlink -f -- "$o")
    if [ "$u" != "$d" ]; then
        echo "$o has a file system for this already ($2): name that disk in the cluster file, or take it out"
        return 1
    fi
    wipefs -aq -- "$d"
    mkfs.ext4 -q -F -L "$2" "$d"
    exec 8<&-
    best_effort udevadm settle
}
