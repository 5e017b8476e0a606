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

say 'Kubernetes for the rack (from Debian; some ten minutes the first time, then cached)'
$sudo "$bramble" lab bundle
bundled=$(date +%s)

say 'A rack of three boards'
$sudo "$bramble" lab up --dir lab
raised=$(date +%s)

say 'bramble up'
$sudo "$bramble" -f lab/bramble.yaml up --yes
ready=$(date +%s)

$sudo "$bramble" -f lab/bramble.yaml kubeconfig --into lab/kubeconfig >/dev/null
bundle=$($sudo sed -n 's/.*bundle: \(.*\) }.*/\1/p' lab/bramble.yaml)
say 'kubectl get nodes, pods'
$sudo "$bundle/bin/kubectl" --kubeconfig lab/kubeconfig get nodes -o wide
$sudo "$bundle/bin/kubectl" --kubeconfig lab/kubeconfig get pods -A -o wide

cat <<NEXT

Done in $((ready - began)) s: cargo build $((built - began)) s, bundle $((bundled - built)) s, rack $((raised - bundled)) s, up $((ready - raised)) s.

Try next${sudo:+ (with $sudo)}:
  target/release/bramble -f lab/bramble.yaml status      how nodes and cluster are
  target/release/bramble -f lab/bramble.yaml plan        what differs from the file (nothing, now)
  target/release/bramble -f lab/bramble.yaml run uptime  a command on all boards
  target/release/bramble lab cut lab-2                   cut a board's power; start gives it back
  $bundle/bin/kubectl --kubeconfig lab/kubeconfig get nodes
  make down                                              undo all of it
On real boards: target/release/bramble init
NEXT
