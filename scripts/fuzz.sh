#!/usr/bin/env bash
# Runs every fuzz target for a while, one after the other. A finding ends the run and is kept in fuzz/artifacts/,
# from where it becomes a fixture and a fix.
#
# usage: scripts/fuzz.sh [SECONDS_PER_TARGET [TARGET...]]
#
# Seeds come from our own generators (tests/it/fuzz_seeds.rs). There is no sanitizer: our own code has no unsafe
# block, and what is looked for are panics, overflows, endless loops, memory without bound, and the invariants that
# each target asserts (docs/fuzzing.md).
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
fuzz() { rustup run nightly cargo-fuzz fuzz "$@"; }

# The same versions as everything else is built with; cargo adds the fuzzer's own.
cp Cargo.lock fuzz/Cargo.lock

targets=("$@")
((${#targets[@]})) || mapfile -t targets < <(fuzz list)

DEBVISOR_FUZZ_SEEDS=$PWD/fuzz/corpus cargo test --locked --quiet --test it fuzz_seeds >/dev/null
logs=target/fuzz-logs
mkdir -p "$logs"
for target in "${targets[@]}"; do
    fuzz build --sanitizer none "$target" 2>"$logs/build.log" || { cat "$logs/build.log" >&2; exit 1; }
    # A parser that is slow or hungry is a finding too: bounds are part of the promise.
    if ! fuzz run --sanitizer none "$target" -- -max_total_time="$seconds" -timeout=30 -rss_limit_mb=4096 \
        -max_len=65536 -print_final_stats=1 >"$logs/$target.log" 2>&1; then
        tail -40 "$logs/$target.log" >&2
        echo "error: $target has a finding; its input is in fuzz/artifacts/$target/" >&2
        exit 1
    fi
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$logs/$target.log")
    edges=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$logs/$target.log" | tail -1)
    printf '%-18s %6s s %13s executions %7s edges\n' "$target" "$seconds" "$executions" "$edges"
done
