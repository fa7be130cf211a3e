#!/usr/bin/env bash
# Puts schemathesis into target/tools/schemathesis: every package pinned and checked by its hash.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=target/tools/schemathesis
wanted=$(sha256sum scripts/schemathesis.txt | cut -d' ' -f1)
[[ -x $tools/bin/schemathesis && -f $tools/wanted && $(<"$tools/wanted") = "$wanted" ]] && exit 0

# By the python3 of the system: the hashes are those of its version.
python=/usr/bin/python3
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || python=python3
rm -rf "$tools"
"$python" -m venv "$tools"
"$tools/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: --require-hashes \
    --requirement scripts/schemathesis.txt
echo "$wanted" >"$tools/wanted"
