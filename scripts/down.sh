#!/bin/sh
# The end of `make up`: the cluster is undone on its nodes, then the rack goes.
set -eu
cd "$(dirname "$0")/.."
sudo=${SUDO:-} bramble=$PWD/target/release/bramble
[ -x "$bramble" ] || ${CARGO:-cargo} build --release --locked
if [ -e lab/bramble.yaml ]; then
    $sudo env BRAMBLE_SUDO_PASSWORD_FILE=lab/password "$bramble" -f lab/bramble.yaml down --yes || echo 'The cluster could not be undone; the rack goes anyway.'
fi
$sudo "$bramble" lab down lab
$sudo rm -rf lab
