#!/usr/bin/env bash
# Runs every fuzz target for a while, one after the other, on all cores. A finding ends the run and is kept
# in fuzz/artifacts/, from where it becomes a fixture.
#
# usage: scripts/fuzz.sh [SECONDS_PER_TARGET] [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
shift || true
export PATH=$PWD/target/tools/bin:$PATH
rustup toolchain list | grep -q '^nightly' || {
    echo "error: fuzzing needs the nightly toolchain" >&2
    echo "hint: rustup toolchain install nightly --profile minimal" >&2
    exit 69
}
targets=("$@")
((${#targets[@]})) || mapfile -t targets < <(cargo +nightly fuzz list)
cargo +nightly fuzz build --release
for target in "${targets[@]}"; do
    echo "fuzz: $target for $seconds s"
    seeds=()
    [[ -d fuzz/seeds/$target ]] && seeds=("fuzz/seeds/$target")
    mkdir -p "fuzz/corpus/$target"
    # A parser that is slow or hungry is a finding too: bounds are part of the promise.
    cargo +nightly fuzz run --release "$target" "fuzz/corpus/$target" "${seeds[@]}" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
        -fork="$(nproc)"
done
