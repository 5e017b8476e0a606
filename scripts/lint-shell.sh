#!/bin/sh
# Checks the shell text that runs on nodes and in the lab with shellcheck, for `make lint`.
#
# Text for nodes is checked as a node gets it: the parts of a script together, with `set -eu` in force. Functions may not
# stand in conditions, where that is off, nor may a program's failure be lost in an argument. Questions are functions that
# are one program; their definitions end with `# question`, and are hidden here, so that they pass for programs.
set -eu
cd "$(dirname "$0")/.."
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
bad=0

# What is found in text made of several files is said of the line in its own file.
told() {
    awk -F: -v OFS=: 'NR == FNR { split($0, m, " "); file[FNR] = m[1]; line[FNR] = m[2]; next } { $1 = file[$2]; $2 = line[$2]; print }' "$T/map" "$T/found" |
        sed "s,^$T/\([a-z0-9]*\)-[12]\.sh,crates/bramble-bundle/src/standins/\1.sh,"
}

strictly() { # name variables files…
    name=$1 variables=$2
    shift 2
    {
        echo "export $variables; set -eu"
        sed 's/^\([a-z0-9_]*\)\(() {.*# question\)$/\1_\2/' "$@"
    } >"$T/text"
    { echo "$name 0"; awk '{ print FILENAME, FNR }' "$@"; } >"$T/map"
    # A library's functions are not all called in each script.
    shellcheck -s dash -e SC2317 -o check-set-e-suppressed -o check-extra-masked-returns -f gcc "$T/text" >"$T/found" || bad=1
    told
}

# What is written into the ledger, to undo a change.
undoing() { # files…
    for f in "$@"; do
        awk 'BEGIN { print "export E; set -eu" } FNR > 1 { print text ? $0 : "" } /^UNDO$/ { text = 0 } /<<.UNDO.$/ { text = 1 }' "$f" | sed '/^UNDO$/s/.*//' >"$T/text"
        { awk -v f="$f" '{ print f, FNR }' "$f"; } >"$T/map"
        # shellcheck disable=SC2016
        shellcheck -s dash -e SC2086 -o check-set-e-suppressed -o check-extra-masked-returns -f gcc "$T/text" >"$T/found" || bad=1
        told
    done
}

K=crates/bramble-kube/src D=crates/bramble-kube/src/distribution S=crates/bramble-state/src C=crates/bramble/src/commands
STRICT=crates/bramble-shell/src/strict.sh
ON="$K/readiness.sh $K/health.sh $K/rolling.sh $K/power.sh $K/backup/backup.sh $K/smoke.sh $K/addon/lib.sh"
{
    strictly plan '' "$STRICT" "$S/steps.sh" "$S/places.sh" "$S/lock.sh" "$S/ledger.sh" "$S/undo.sh" "$S/eeprom.sh" "$S/updates.sh" "$S/resource/disk_identity.sh"
    strictly turn 'B RUN WHO SEEN' "$STRICT" "$S/lock.sh" "$S/turn.sh"
    undoing "$S/ledger.sh"
    strictly probe '' "$STRICT" "$S/probe.sh"
    for d in k3s k0s microk8s; do
        # shellcheck disable=SC2086
        strictly "$d" 'service again snaps' "$STRICT" "$S/steps.sh" "$D/cluster.sh" "$D/own_runtime.sh" "$D/$d/lib.sh" $ON
    done
    # shellcheck disable=SC2086
    strictly kubeadm 'service again minor' "$STRICT" "$S/steps.sh" "$D/cluster.sh" "$D/kubeadm/lib.sh" $ON
    strictly down '' "$STRICT" "$S/go_down.sh"
    # shellcheck disable=SC2086
    strictly backup 'service again minor cluster distribution api every wait keep recipient' "$STRICT" "$S/steps.sh" "$D/cluster.sh" "$D/kubeadm/lib.sh" $ON "$K/backup/places.sh" "$K/backup/automatic.sh"
    strictly volumes 'service again minor cluster node every keep claims first shared' "$STRICT" "$S/steps.sh" "$D/cluster.sh" "$D/kubeadm/lib.sh" "$K/backup/places.sh" "$K/backup/volumes.sh"
    strictly watch 'units service again' "$STRICT" "$S/steps.sh" "$D/cluster.sh" "$D/kubeadm/lib.sh" "$K/why/why.sh" "$K/watch/watch.sh"
    strictly receive '' "$STRICT" "$K/backup/receive.sh"
    strictly wear 'seconds' "$STRICT" "$K/wear.sh"
    strictly why 'units service again' "$STRICT" "$S/steps.sh" "$D/cluster.sh" "$D/kubeadm/lib.sh" "$K/why/why.sh"
    strictly soak 'units service again' "$STRICT" "$S/steps.sh" "$K/why/why.sh" "$K/soak/soak.sh"
    strictly soak-load '' "$STRICT" "$K/soak/load.sh"
    strictly gluster '' "$STRICT" "$K/storage/gluster.sh"
    strictly mount '' "$STRICT" "$S/steps.sh" "$K/storage/mount.sh"
    strictly images '' "$STRICT" "$K/images.sh"
    strictly boot-config '' "$STRICT" "$S/probe.sh" "$S/resource/boot_config.sh"
    # These begin inside of what bramble-state writes around them.
    # shellcheck disable=SC2016
    echo 'for f in "$@"; do' >"$T/each"
    strictly certificates B "$STRICT" "$T/each" "$S/resource/certificates.sh"
    # shellcheck disable=SC2016
    echo 'expected() { e=$1 w=show; }' >"$T/expected"
    strictly file '' "$STRICT" "$T/expected" "$S/resource/file.sh"
    strictly autoremove B "$STRICT" "$S/resource/autoremove.sh"
    strictly cleanup 'B h' "$STRICT" "$S/resource/cleanup.sh"
    strictly blob 'B f h' "$STRICT" "$S/resource/blob.sh"
    strictly disk f "$STRICT" "$S/resource/disk_identity.sh" "$S/resource/disk.sh"
    strictly module '' "$STRICT" "$S/resource/module.sh"
    strictly swap '' "$STRICT" "$S/steps.sh" "$S/places.sh" "$S/lock.sh" "$S/ledger.sh" "$S/resource/swap.sh"
    strictly way-in '' "$STRICT" "$K/gateway/way_in.sh"
    strictly boot-order wanted "$STRICT" "$S/eeprom.sh" "$C/boot_order.sh"
    strictly move-root 'to go is' "$STRICT" "$S/resource/disk_identity.sh" "$C/move_root.sh"
} >"$T/all"
sort -u "$T/all"

# Programs of their own, and what is put into them.
together() { # name variables codes files…
    name=$1 variables=$2 codes=$3
    shift 3
    { echo "export ${variables:-HOME}"; cat "$@"; } >"$T/text"
    { echo "$name 0"; awk '{ print FILENAME, FNR }' "$@"; } >"$T/map"
    shellcheck -s dash -e "$codes" -f gcc "$T/text" >"$T/found" || bad=1
    told
}
L=crates/bramble-bundle/src/standins I=crates/bramble-image/src
{
    together firstrun 'name script user keys private public psk gateway dns inside_address' SC1091 "$I/firstrun.sh" "$I/firstrun_end.sh"
    # Each uses what it likes of the part that all of them have, which comes in the place of @INNER@. Their `fatal` never returns.
    for d in k3s k0s microk8s; do
        sed "/^@INNER@\$/q" "$L/$d.sh" >"$T/$d-1.sh"
        sed "1,/^@INNER@\$/s/.*//" "$L/$d.sh" >"$T/$d-2.sh"
        together "$d" '' SC1007,SC2015,SC2034,SC2317 "$T/$d-1.sh" "$L/inner.sh" "$T/$d-2.sh"
    done
    G=crates/bramble-bundle/src
    together builder '' SC1091,SC2317 "$G/library.sh" "$G/builder.sh"
    together addons '' SC1091,SC2016,SC2317 "$G/library.sh" "$G/addons.sh"
} >"$T/all"
sort -u "$T/all"
git ls-files 'crates/*.sh' 'scripts/*.sh' 'bench/*.sh' |
    grep -v "^$K/[a-z0-9_]*\.sh\$\|^$K/\(addon\|backup\|distribution\|storage\|gateway\|watch\)/[a-z0-9_/]*\.sh\$\|^$S/\|^$C/\|^$STRICT\$\|^$I/\|^$L/\(k3s\|k0s\|microk8s\|inner\)\|^crates/bramble-bundle/src/[a-z]*\.sh\$" >"$T/programs"
# It is a program of its own, in a folder of libraries.
echo "$K/addon/monitoring/metrics.sh" >>"$T/programs"
xargs shellcheck -s dash -f gcc <"$T/programs" || bad=1
exit "$bad"
