#!/usr/bin/env bash
# Seals and gates releases of three real projects: a published crate with its lock file, a package of npm, and a Debian
# root file system; then changes one byte in each kind of file, and sees each refused with the right code.
#
# usage: scripts/real-projects.sh [path to the debvisor binary]
set -euo pipefail
cd "$(dirname "$0")/.."

debvisor=$(realpath "${1:-target/x86_64-unknown-linux-gnu/debug/debvisor}")
crate=anstream-1.0.0
package=debug@4.4.0
suite=bookworm

place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
export DEBVISOR_KEY_PASSWORD=throwaway
"$debvisor" key generate --out "$place/key" >/dev/null

say() { printf '\n%s\n' "$*"; }

# Seals release $1 made of source $2; the SBOM of artifact $3 must list at least $4 components.
judge() {
    local release=$1 source=$2 artifact=$3 least=$4
    "$debvisor" seal "$release" --key "$place/key.key" --source "$source" --author DebVisor
    local before after
    before=$(find "$release" -type f -exec sha256sum {} + | sort | sha256sum)
    "$debvisor" seal "$release" --key "$place/key.key" --source "$source" --author DebVisor --quiet >/dev/null
    after=$(find "$release" -type f -exec sha256sum {} + | sort | sha256sum)
    [[ $before = "$after" ]] || { echo "sealing again changed $release" >&2; exit 1; }
    "$debvisor" gate "$release" --key "$place/key.pub" --require signature,sbom,provenance,vex
    (cd "$release" && sha256sum --check --strict --quiet SHA256SUMS)
    for format in cdx spdx; do
        "$debvisor" sbom validate "$release/$artifact.$format.json" --describes "$release/$artifact" \
            --min-components "$least" --quiet
    done
    "$debvisor" sbom compare "$release/$artifact.cdx.json" "$release/$artifact.spdx.json" --quiet
    python3 scripts/one-byte.py "$debvisor" "$release" "$place/key.pub"
}

say "A crate: $crate, as crates.io has it"
cargo fetch --locked --quiet
packed=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/cache" -name "$crate.crate" | head -1)
mkdir -p "$place/crate/release"
cp "$packed" "$place/crate/release/"
tar -xzf "$packed" -C "$place/crate"
judge "$place/crate/release" "$place/crate/$crate" "$crate.crate" 50

say "A package of npm: $package"
mkdir -p "$place/npm/release" "$place/npm/source"
file=$(cd "$place/npm/release" && npm pack --silent "$package")
tar -xzf "$place/npm/release/$file" -C "$place/npm/source" --strip-components 1
(cd "$place/npm/source" && npm install --package-lock-only --ignore-scripts --no-audit --no-fund --silent)
judge "$place/npm/release" "$place/npm/source" "$file" 1

say "A Debian root file system: $suite, the essential packages"
mkdir -p "$place/debian/release" "$place/debian/root"
mmdebstrap --quiet --variant=essential --format=directory "$suite" "$place/debian/root"
tar --sort=name --mtime=@1700000000 --numeric-owner -C "$place/debian/root" -cf "$place/debian/release/rootfs.tar" .
judge "$place/debian/release" "$place/debian/root" rootfs.tar 50

say "Three real projects: sealed, allowed, and refused for every changed byte."
