#!/usr/bin/env bash
# Puts sigstore-python and @sigstore/verify into target/tools/interop, with PyNaCl, which opens keys of cosign's form.
# Does nothing where these versions are there. tests/it/signing/interop.rs has them judge our bundles.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=target/tools/interop
sigstore_python=4.5.1
sigstore_verify=4.1.3
pynacl=1.6.2
wanted="sigstore $sigstore_python pynacl $pynacl @sigstore/verify $sigstore_verify"
[[ -f $tools/clients && $(<"$tools/clients") = "$wanted" ]] && exit 0

mkdir -p "$tools/node"
[[ -x $tools/python/bin/python ]] || python3 -m venv "$tools/python"
"$tools/python/bin/pip" install --quiet --disable-pip-version-check "sigstore==$sigstore_python" "pynacl==$pynacl"
npm install --loglevel=error --no-audit --no-fund --ignore-scripts --prefix "$tools/node" "@sigstore/verify@$sigstore_verify"
echo "$wanted" >"$tools/clients"
