#!/usr/bin/env bash
# `cargo build --release` as releases are built: static, and with both compilers told to forget where they are,
# so that the same commit, toolchain and C compiler give the same bytes in whatever folder.
#
# usage: scripts/release-build.sh CARGO_BUILD_ARGUMENT...
# The result lies below target/dist/, apart from what developers build.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$root"

target=x86_64-unknown-linux-gnu
build=$root/target/dist
cargo_home=$(cd "${CARGO_HOME:-$HOME/.cargo}" && pwd -P)
sysroot=$(rustc --print sysroot)

# The longer path last: of several that fit, the compilers take the last one given.
remap="'--remap-path-prefix=$cargo_home=/cargo', '--remap-path-prefix=$sysroot=/rust'"
remap+=", '--remap-path-prefix=$root=/debvisor', '--remap-path-prefix=$build=/target'"
map="-ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$root=/debvisor -ffile-prefix-map=$build=/target"
export CFLAGS_x86_64_unknown_linux_gnu="$map -gno-record-gcc-switches"
export CXXFLAGS_x86_64_unknown_linux_gnu="$CFLAGS_x86_64_unknown_linux_gnu"

# The environment's flags would replace those of .cargo/config.toml; flags of --config are added to them.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_TARGET_DIR CARGO_BUILD_TARGET_DIR
# One time for all that is compiled, not the commit's: mimalloc tells __DATE__, and age's texts carry it (rust-embed),
# which cargo does not compile again where it changes. Built after another commit, the program would be another one.
export CARGO_INCREMENTAL=0 LC_ALL=C TZ=UTC SOURCE_DATE_EPOCH=0
exec cargo build --locked --release --target-dir "$build" --config "target.$target.rustflags = [$remap]" "$@"
