#!/usr/bin/env bash
# Runs every fuzz target for a while, several beside each other. A finding ends the run and is kept in fuzz/artifacts/,
# from where it becomes a fixture and a fix.
#
# usage: scripts/fuzz.sh [SECONDS_PER_TARGET [JOBS [TARGET...]]]
#
# Seeds come from our own generators (tests/it/fuzz_seeds.rs). There is no sanitizer: our own code has no unsafe
# block, and what is looked for are panics, overflows, endless loops, memory without bound, and the invariants that
# each target asserts (docs/fuzzing.md).
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-60}
jobs=${2:-$(nproc)}
shift $(($# < 2 ? $# : 2))
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
done

# One target. A parser that is slow or hungry is a finding too: bounds are part of the promise.
run() {
    local target=$1 log=$logs/$1.log
    local TIMEFORMAT='%U %S'
    if ! { time fuzz run --sanitizer none "$target" -- -max_total_time="$seconds" -timeout=30 -rss_limit_mb=4096 \
        -max_len=65536 -print_final_stats=1 >"$log" 2>&1; } 2>"$log.time"; then
        tail -40 "$log" >&2
        echo "error: $target has a finding; its input is in fuzz/artifacts/$target/" >&2
        exit 255
    fi
    local executions edges processor
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -1)
    processor=$(awk '{ printf "%.0f", $1 + $2 }' "$log.time")
    printf '%-18s %6s s, %6s s of a processor %13s executions %7s edges\n' "$target" "$seconds" "$processor" "$executions" "$edges"
}
export -f run fuzz
export logs seconds
printf '%s\n' "${targets[@]}" | xargs -P "$jobs" -I{} bash -euo pipefail -c 'run {}'
