#!/usr/bin/env bash
# Looks for secrets in every file that git keeps, by detect-secrets. Keys that tests make are made when they run, so
# that whatever is found is either real or a digest in a file that the list below names.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=target/tools/detect-secrets
if [[ ! -x $tools/bin/detect-secrets ]]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check detect-secrets==1.5.0
fi
# Digests and certificates are long and look random; entropy alone says nothing here.
found=$("$tools/bin/detect-secrets" scan --disable-plugin HexHighEntropyString --disable-plugin Base64HighEntropyString \
    --disable-plugin KeywordDetector --exclude-files '^(Cargo.lock|fixtures/|fuzz/)' \
    --exclude-lines '(pragma: allowlist secret|user:password@|user:pass@|https?://[a-z]+:[a-z]+@)')
count=$(python3 -c 'import json, sys; print(sum(map(len, json.load(sys.stdin)["results"].values())))' <<<"$found")
if [[ $count -ne 0 ]]; then
    printf '%s\n' "$found" | python3 -c '
import json, sys
for name, hits in json.load(sys.stdin)["results"].items():
    for hit in hits:
        print(f"::error file={name},line={hit[\"line_number\"]}::{hit[\"type\"]}")'
    exit 1
fi
echo "secrets: none in $(git ls-files | wc -l) files"
