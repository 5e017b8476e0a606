#!/bin/sh
# From nothing to a real Kubernetes cluster on a virtual rack: `make up`.
set -eu
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo} sudo=${SUDO:-}
began=$(date +%s)
say() { printf '\n== %s\n' "$*"; }

say 'Building bramble'
$cargo build --release --locked
built=$(date +%s)
bramble=$PWD/target/release/bramble

say 'Kubernetes for the rack: what its project releases, or built out of its Go modules (some ten minutes the first time)'
said=$($sudo "$bramble" lab bundle --upstream)
echo "$said"
bundle=${said##* is in }
bundled=$(date +%s)

say 'A rack of three boards'
$sudo "$bramble" lab up --dir lab --from "$bundle"
raised=$(date +%s)

# sudo on the boards asks for a password, as that of Raspberry Pi OS does.
echo raspberry | $sudo tee lab/password >/dev/null
on_rack() { $sudo env BRAMBLE_SUDO_PASSWORD_FILE=lab/password "$bramble" -f lab/bramble.yaml "$@"; }

say 'bramble up'
on_rack up --yes
ready=$(date +%s)

on_rack kubeconfig --into lab/kubeconfig >/dev/null
say 'kubectl get nodes, pods'
kubectl=$bundle/$(dpkg --print-architecture)/bin/kubectl
$sudo "$kubectl" --kubeconfig lab/kubeconfig get nodes -o wide
$sudo "$kubectl" --kubeconfig lab/kubeconfig get pods -A -o wide

cat <<NEXT

Done in $((ready - began)) s: cargo build $((built - began)) s, bundle $((bundled - built)) s, rack $((raised - bundled)) s, up $((ready - raised)) s.

Try next${sudo:+ (with $sudo)}; sudo on the boards asks for a password, raspberry, or export BRAMBLE_SUDO_PASSWORD_FILE=lab/password:
  target/release/bramble -f lab/bramble.yaml status      how nodes and cluster are
  target/release/bramble -f lab/bramble.yaml plan        what differs from the file (nothing, now)
  target/release/bramble -f lab/bramble.yaml run uptime  a command on all boards
  target/release/bramble lab cut lab-2                   cut a board's power; start gives it back
  target/release/bramble lab save; … lab restore         keep the disks of all boards; have them back after what you dared
  $kubectl --kubeconfig lab/kubeconfig get nodes
  make down                                              undo all of it
On real boards: target/release/bramble init
NEXT
