#!/usr/bin/env bash
# Builds a release: one static, stripped, reproducible binary, its man pages and completions, an archive
# that unpacks into /usr, a Debian package, the sources that the LGPL asks for, and SHA256SUMS over all of it.
#
# usage: scripts/dist.sh [OUTPUT_DIRECTORY]
#
# The same commit, toolchain and C compiler give the same bytes in whatever folder (scripts/release-build.sh);
# archives are sorted and owned by nobody, and every time is SOURCE_DATE_EPOCH.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$root"

out=${1:-dist}
target=x86_64-unknown-linux-gnu
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
name=debvisor-$version

# The time of the commit; a tree without a repository has the fixed time of the Debian policy's examples.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1577836800)}
export LC_ALL=C TZ=UTC
umask 022

scripts/release-build.sh --bin debvisor

rm -rf "$out"
mkdir -p "$out"
install -m 755 "target/dist/$target/release/debvisor" "$out/debvisor"

# The man pages and completions are printed by the binary itself, from the one tree of commands.
mkdir -p "$out/man" "$out/completions"
"$out/debvisor" man "$out/man"
"$out/debvisor" completions bash >"$out/completions/debvisor.bash"
"$out/debvisor" completions zsh >"$out/completions/_debvisor"
"$out/debvisor" completions fish >"$out/completions/debvisor.fish"

# An archive laid out as Debian lays out /usr: tar -C /usr --strip-components=1 -xzf FILE
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
share=$stage/$name/share
install -D -m 755 "$out/debvisor" "$stage/$name/bin/debvisor"
for page in "$out"/man/*.1; do
    install -D -m 644 "$page" "$share/man/man1/$(basename "$page")"
done
gzip -9n "$share"/man/man1/*.1
install -D -m 644 "$out/completions/debvisor.bash" "$share/bash-completion/completions/debvisor"
install -D -m 644 "$out/completions/_debvisor" "$share/zsh/vendor-completions/_debvisor"
install -D -m 644 "$out/completions/debvisor.fish" "$share/fish/vendor_completions.d/debvisor.fish"
install -D -m 644 LICENSE "$share/doc/debvisor/copyright"
install -D -m 644 CHANGELOG.md "$share/doc/debvisor/changelog"
gzip -9n "$share/doc/debvisor/changelog"
pack() { # DIRECTORY NAME FILE
    tar --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        --mode='u+rwX,go+rX,go-w' -C "$1" -cf - "$2" | gzip -9n >"$3"
}
pack "$stage" "$name" "$out/$name-x86_64-linux.tar.gz"

scripts/deb.sh "$out"

# LGPL: the sources of the two libraries as they were linked, which Cargo.lock names by digest.
sources=$name-lgpl-sources
mkdir "$stage/$sources"
for crate in sequoia-openpgp buffered-reader; do
    read -r crate_version checksum < <(awk -v name="\"$crate\"" '
        $1 == "name" { mine = ($3 == name) }
        mine && $1 == "version" { gsub(/"/, "", $3); printf "%s ", $3 }
        mine && $1 == "checksum" { gsub(/"/, "", $3); print $3 }' Cargo.lock)
    file=$crate-$crate_version.crate
    cp "${CARGO_HOME:-$HOME/.cargo}"/registry/cache/*/"$file" "$stage/$sources/"
    echo "$checksum  $stage/$sources/$file" | sha256sum --check --quiet --strict
done
pack "$stage" "$sources" "$out/$sources.tar.gz"

(cd "$out" && find . -type f ! -name SHA256SUMS -printf '%P\0' | sort -z | xargs -0 sha256sum >SHA256SUMS)
echo "$out: $(stat -c %s "$out/debvisor") bytes, $(sha256sum "$out/debvisor" | cut -d' ' -f1)"
