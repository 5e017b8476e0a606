#!/bin/sh
# Builds the program that a board without a system boots from the network, linked statically, for boards of one kind:
#     scripts/installer.sh arm64
# It goes to target/installer. For another processor than this machine's it needs that one's C compiler and Rust's standard library.
set -eu
cd "$(dirname "$0")/.."
here=$(dpkg --print-architecture)
arch=${1:-$here}
case $arch in
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
*)
    echo "there is no installer for $arch: say amd64 or arm64" >&2
    exit 2
    ;;
esac
target=$machine-unknown-linux-gnu
cargo=${CARGO:-cargo}
if [ "$arch" != "$here" ]; then
    compiler=$machine-linux-gnu-gcc
    if ! command -v "$compiler" >/dev/null; then
        echo "there is no $compiler: apt install gcc-$(echo $machine | tr _ -)-linux-gnu libc6-dev-$arch-cross" >&2
        exit 1
    fi
    upper=$(echo "$target" | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${upper}_LINKER=$compiler" "CC_$(echo "$target" | tr - _)=$compiler"
fi
library=$(rustc --print target-libdir --target "$target")
if [ ! -d "$library" ]; then
    if ! command -v rustup >/dev/null; then
        echo "Rust's standard library for $target is missing: install libstd-rust-dev:$arch, or use rustup" >&2
        exit 1
    fi
    rustup target add "$target"
fi
RUSTFLAGS="-C target-feature=+crt-static" "$cargo" build --quiet --release --locked -p bramble-installer --target "$target"
mkdir -p target/installer
cp "target/$target/release/bramble-installer" "target/installer/bramble-installer-$arch"
echo "target/installer/bramble-installer-$arch is built."
