#!/bin/sh
# Compiles as cargo says. The crates whose branches a fuzzer should see get what libFuzzer needs for that, as cargo-fuzz does
# for all (cargo-fuzz, src/project.rs): to look at the others would double the time of a build and show nothing.
name=
last=
for word in "$@"; do
    if [ "$last" = --crate-name ]; then
        name=$word
    fi
    last=$word
done
case $name in
build_script_*) ;;
bramble_* | archive | catalogue | cluster_file | disk | fatfs | known_hosts | leases | lists | lock_file | manifest | observation | packed | \
    pgp | relay | saphyr_parser* | serde_json | serde_saphyr | signature | ssh_config | ssh_encoding | ssh_key | tar)
    set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$@"
