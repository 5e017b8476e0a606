#!/bin/sh
# Gives the parsers bytes that no file, server or node should have: each target for SECONDS seconds, JOBS of them at a time.
# It takes the compiler that builds the rest: nothing here is unsafe, so that no sanitizer, and no nightly compiler, is needed
# to find what panics, hangs or eats memory. `cargo fuzz run TARGET` in fuzz/ does the same with sanitizers.
set -eu
cd "$(dirname "$0")/../fuzz"

CARGO=${CARGO:-cargo}
# Taken at once: a shell may count in it.
# shellcheck disable=SC3028
seconds=${SECONDS:-60}
JOBS=${JOBS:-$(nproc)}
# The most seconds for one input, by the clock: more where other work has the processors.
TIMEOUT=${TIMEOUT:-20}
TARGETS=${TARGETS:-$(find fuzz_targets -name "*.rs" -exec basename {} .rs \; | sort)}
built=target/release
found=target/found

RUSTC_WRAPPER=$PWD/../scripts/fuzz-rustc.sh "$CARGO" build --release

# One target: its own corpus, the one that was found before, and seeds that are elsewhere in the tree.
cat >target/one.sh <<'END'
set -eu
mkdir -p "$found/$1" "$found/crashes"
set -- "$1" "$found/$1" "corpus/$1"
case $1 in
cluster_file) set -- "$@" ../examples ;;
signature) set -- "$@" ../crates/bramble-fetch/src/signatures/samples ;;
esac
target=$1
shift
if "$built/$target" "$@" -max_total_time="$seconds" -timeout="$TIMEOUT" -rss_limit_mb=1500 -verbosity=1 \
    -artifact_prefix="$found/crashes/$target-" >"$found/$target.log" 2>&1; then
    sed -n '$s/^Done \([0-9]*\) runs.*/'"$target"': \1 inputs, nothing found/p' "$found/$target.log"
else
    tail -n 25 "$found/$target.log"
    echo "$target: found something, see fuzz/$found/crashes and fuzz/$found/$target.log" >&2
    exit 1
fi
END
export built found seconds TIMEOUT
# shellcheck disable=SC2086
printf '%s\n' $TARGETS | xargs -P "$JOBS" -I '{}' sh target/one.sh '{}'
