#!/bin/sh
# Stands in for the Python in MicroK8s' snap, which runs one program there: the one that joins a cluster. The connection comes
# from standard input, as bramble gives it.
set -eu
case "$#,$1,${3:-}" in
3,-c,"$SNAP/scripts/wrappers/join.py" | 4,-c,"$SNAP/scripts/wrappers/join.py") ;;
*)
    echo 'this stand-in for Python can only join a cluster' >&2
    exit 2
    ;;
esac
shift 3
exec "$SNAP/microk8s" join-py "$@"
