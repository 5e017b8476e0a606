#!/bin/sh
# Makes the ledger that the bramble of one commit writes, with its own script, for the test that restores it:
#
#     crates/bramble-state/tests/ledgers/make.sh COMMIT
#
# It writes into a folder that is named after the commit, beside this script. The node is a scratch folder: the script's paths
# lead there, and programs that would change this machine are stand-ins. What it finds before the changes is what `before`
# below makes; the test knows the same node.
set -eu
cd "$(dirname "$0")"
S=$PWD/../../src
COMMIT=$1
R=$(mktemp -d)
trap 'rm -rf "$R"' EXIT
mkdir -p "$R/bin" "$R/etc" "$R/proc/sys/kernel" "$R/proc/sys/net" "$R/proc/self" "$R/run" "$R/usr" "$R/var/lib/apt" "$R/var/lib/dpkg" "$R/var/pi" "$R/var/x"

before() {
    echo before >"$R/etc/file"
    ln -s ../usr/zone "$R/etc/link"
    echo zone >"$R/usr/zone"
    printf 'one two\n' >"$R/etc/line"
    printf 'one two\n' >"$R/etc/line.edited"
    echo old-name >"$R/proc/sys/kernel/hostname"
    echo 0 >"$R/proc/sys/net/forward"
    : >"$R/proc/self/mounts"
    printf 'Filename Type\n/swapfile file\n' >"$R/proc/swaps"
    printf 'Package: old\nAuto-Installed: 1\n' >"$R/var/lib/apt/extended_states"
    : >"$R/var/lib/dpkg/status"
}

stand_in() { # program text
    printf '#!/bin/sh\n%s\n' "$2" >"$R/bin/$1"
    chmod 755 "$R/bin/$1"
}

# A link is synced as what it points to, which is not to be found from the ledger: the versions before this test failed there.
stand_in sync ':'
stand_in hostname ':'
stand_in dpkg ':'
stand_in swapoff ':'
# shellcheck disable=SC2016 # It is for the stand-in.
stand_in apt-mark 'case $1 in showmanual | showhold) echo old ;; esac'
# shellcheck disable=SC2016 # It is for the stand-in.
stand_in apt-get 'case $* in *-s*install*) echo "Inst new (1.0)" ;; esac'
# shellcheck disable=SC2016 # It is for the stand-in.
stand_in dpkg-query 'case $* in *Want*) echo "hold kept" ;; *) echo old ;; esac'
# shellcheck disable=SC2016 # It is for the stand-in.
stand_in systemctl 'case $1 in is-enabled) echo disabled ;; is-active) echo inactive ;; esac'

old() { # file…
    for f in "$@"; do git cat-file -e "$COMMIT:./../../src/$f" 2>/dev/null && git show "$COMMIT:./../../src/$f"; done
    return 0
}

before
{
    cat ../../../bramble-shell/src/strict.sh
    old ends.sh steps.sh places.sh lock.sh prelude.sh ledger.sh
    # What came with which digest is shell text of the changes themselves.
    cat <<'CHANGES'
digest() { sha256sum <"$1" | cut -d' ' -f1; }
put_file 0f 1/etc/file 644 none YWZ0ZXIK
put_file 1f 1/var/pi/new/folder/file 600 none YWZ0ZXIK
put_file 2f 1/etc/link 644 none YWZ0ZXIK
put_edit 3e 1/etc/line "$(digest 1/etc/line)" b25lIHR3byB0aHJlZQo= three
put_edit 4e 1/etc/line.edited "$(digest 1/etc/line.edited)" b25lIHR3byB0aHJlZQo= three
own_folder 5d 1/var/x/ours
own_folder 6d 1/var/x
set_hostname 7h new-name
set_sysctl 8s net.forward 1 1/proc/sys/net/forward
apt_do 9p --no-install-recommends install new
hold ah new
remember_unit bu new.service
step_begins cs a-step 'undo a step' c3lzdGVtY3RsIHN0b3AgYS1zdGVwLnNlcnZpY2UK
CHANGES
    if [ -e "$S/resource/swap.sh" ]; then cat "$S/resource/swap.sh"; fi
} | sed -e 's, PATH=[^ ]*,,' -e "s, 1/, $R/,g" -e "s,\([\"< =]\)1/,\1$R/,g" \
    -e "s,\([\"<>= ]\)/\(var/lib\|run\|proc\)/,\1$R/\2/,g" | PATH=$R/bin:$PATH dash -s >"$R/said" 2>&1 || { cat "$R/said" >&2; exit 1; }

rm -rf "./$COMMIT"
mkdir "$COMMIT"
cp -a "$R"/var/lib/bramble/ledger/* "$COMMIT/"
find "$COMMIT" -type f -exec sed -i "s,$R,,g" {} +
