#!/bin/sh
# W23 on eight boards: bramble against eight parallel `ssh` of one script, alternating; medians and ratios.
# Usage: tests/w23/measure.sh [runs]. Needs root and a release build.
set -eu
cd "$(dirname "$0")/../.."
runs=${1:-7} bramble=$PWD/target/release/bramble work=$(mktemp -d)
trap 'kill $server 2>/dev/null; "$bramble" lab down w23 >/dev/null 2>&1; "$bramble" lab down w23f >/dev/null 2>&1; rm -rf "$work"' EXIT
mkdir "$work/www"
echo 'the file that every node fetches' >"$work/www/fetched"
digest=$(sha256sum <"$work/www/fetched" | cut -c1-64)
for r in w23:10.78.20 w23f:10.78.21; do
    "$bramble" -q lab up --name "${r%:*}" --bare --control-planes 0 --workers 8 --subnet "${r#*:}.0/24" --dir "$work/${r%:*}" >/dev/null
done
python3 -m http.server 8923 --directory "$work/www" >/dev/null 2>&1 & server=$!
sed "s|@URL@|http://10.78.20.1:8923/fetched|;s|@SHA256@|$digest|" tests/w23/prepare.yaml >>"$work/w23/bramble.yaml"
hosts=$(for i in 1 2 3 4 5 6 7 8; do echo "10.78.21.$((49 + i)) w23f-$i"; done)
key=$(sed -n 's/.*keys: \[\(.*\)\]/\1/p' "$work/w23f/bramble.yaml")
floor() {
    pids=
    for i in 1 2 3 4 5 6 7 8; do
        ssh -i "$key" -o BatchMode=yes -o UserKnownHostsFile="$work/w23f/.bramble/known_hosts" "pi@10.78.21.$((49 + i))" \
            "sudo sh -s w23f-$i '$hosts' http://10.78.21.1:8923/fetched $digest" <tests/w23/floor.sh >/dev/null &
        pids="$pids $!"
    done
    for p in $pids; do wait "$p"; done
}
ours() { "$bramble" -q -f "$work/w23/bramble.yaml" up --yes >/dev/null; }
clock() { a=$(date +%s%N); "$@"; b=$(date +%s%N); echo $(((b - a) / 1000000)); }
cold_floor=$(clock floor)
cold_ours=$(clock ours)
ours
for i in $(seq "$runs"); do
    clock floor >>"$work/floor"
    clock ours >>"$work/ours"
done
median() { sort -n "$1" | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }
f=$(median "$work/floor") o=$(median "$work/ours")
echo "cold: floor $cold_floor ms (no reboot), bramble $cold_ours ms (with the reboot it found necessary)"
echo "warm, median of $runs: floor $f ms, bramble $o ms, ratio $(awk "BEGIN { printf \"%.2f\", $o / $f }")"
