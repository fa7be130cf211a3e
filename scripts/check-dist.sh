#!/usr/bin/env bash
# Checks a release as a stranger would: static, stripped, without our paths in it, at work in an empty chroot;
# and, where asked, built a second time in another folder with the same bytes.
#
# usage: scripts/check-dist.sh [--reproducible] [DIRECTORY]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$root"

reproducible=
if [[ ${1:-} = --reproducible ]]; then
    reproducible=yes
    shift
fi
dist=${1:-dist}
binary=$dist/debvisor
die() { echo "check-dist: $*" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

(cd "$dist" && sha256sum --check --quiet --strict SHA256SUMS) || die "SHA256SUMS does not hold"

linked=$(ldd "$binary" 2>&1 || true)
[[ $linked = *"statically linked"* || $linked = *"not a dynamic executable"* ]] || die "not static: $linked"
file -b "$binary" | grep -q ', stripped' || die "not stripped"
for path in "$root" "${CARGO_HOME:-$HOME/.cargo}"; do
    # Short paths such as /root may stand in a binary for reasons of their own.
    ! LC_ALL=C grep -aqF "$path/" "$binary" || die "the binary names $path"
done

# An empty chroot: no /dev, no /proc, no libc, no shell; the binary and one release.
jail=$work/jail
mkdir -p "$jail/release"
cp "$binary" "$jail/debvisor"
head -c 300000 /dev/urandom >"$jail/release/app.bin"
printf 'hello\n' >"$jail/release/read me.txt"
(cd "$jail/release" && sha256sum app.bin 'read me.txt') >"$jail/SHA256SUMS"
if [[ $(id -u) -eq 0 ]]; then
    inside() { chroot "$jail" /debvisor "$@"; }
else
    inside() { unshare --user --map-root-user chroot "$jail" /debvisor "$@"; }
fi
[[ $(inside --version) = "debvisor "* ]] || die "--version fails in an empty chroot"
inside checksum verify /SHA256SUMS --dir /release --no-unlisted >/dev/null || die "a good release is refused in a chroot"
printf 'x' | dd of="$jail/release/app.bin" bs=1 seek=1000 conv=notrunc status=none
printf 'y' | dd of="$jail/release/app.bin" bs=1 seek=1001 conv=notrunc status=none
code=0
inside checksum verify /SHA256SUMS --dir /release --no-unlisted --format json >"$work/report" || code=$?
[[ $code -eq 1 ]] || die "a changed release ends with $code in a chroot, not 1"
grep -q '"code": *"checksum-mismatch"' "$work/report" || die "a changed release is refused without checksum-mismatch"
echo "check-dist: static, stripped, and at work in an empty chroot"

scripts/check-deb.sh "$dist"/debvisor_*_amd64.deb

if [[ $reproducible ]]; then
    # Another name, another length, another parent: what could leak a path will.
    second=$work/a-second-and-rather-longer-name/of-a-folder
    mkdir -p "$second"
    git ls-files -z | xargs -0 cp --parents --target-directory "$second"
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)} "$second/scripts/dist.sh" "$second/dist"
    if ! cmp --quiet "$dist/SHA256SUMS" "$second/dist/SHA256SUMS"; then
        diff "$dist/SHA256SUMS" "$second/dist/SHA256SUMS" >&2 || true
        rm -rf target/second-dist
        cp -r "$second/dist" target/second-dist
        die "two builds in two folders differ: $dist and target/second-dist"
    fi
    echo "check-dist: two builds in two folders are the same: $(sha256sum "$binary" | cut -d' ' -f1)"
fi
