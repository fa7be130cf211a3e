#!/usr/bin/env bash
# Makes the Debian package of a release out of what scripts/dist.sh has put together: the binary, man pages,
# completions, units, the default configuration and the documents that these name.
#
# usage: scripts/deb.sh DIST_DIRECTORY
#
# The same DIST_DIRECTORY and SOURCE_DATE_EPOCH give the same bytes. The package is made whole by dpkg-deb, without
# debhelper: there is nothing to compile, and every file of it can be read below.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$root"

out=$1
: "${SOURCE_DATE_EPOCH:?}"
export LC_ALL=C TZ=UTC
umask 022

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
doc=$stage/usr/share/doc/debvisor

install -D -m 755 "$out/debvisor" "$stage/usr/bin/debvisor"
for page in "$out"/man/*.1; do
    install -D -m 644 "$page" "$stage/usr/share/man/man1/$(basename "$page")"
done
gzip -9n "$stage"/usr/share/man/man1/*.1
install -D -m 644 "$out/completions/debvisor.bash" "$stage/usr/share/bash-completion/completions/debvisor"
install -D -m 644 "$out/completions/_debvisor" "$stage/usr/share/zsh/vendor-completions/_debvisor"
install -D -m 644 "$out/completions/debvisor.fish" "$stage/usr/share/fish/vendor_completions.d/debvisor.fish"

for unit in debvisor.service debvisor-reverify.service debvisor-reverify.timer; do
    install -D -m 644 "packaging/systemd/$unit" "$stage/lib/systemd/system/$unit"
done
install -D -m 644 packaging/systemd/debvisor.sysusers "$stage/usr/lib/sysusers.d/debvisor.conf"
install -D -m 644 packaging/systemd/debvisor.tmpfiles "$stage/usr/lib/tmpfiles.d/debvisor.conf"

install -D -m 644 packaging/debian/debvisor.toml "$stage/etc/debvisor/debvisor.toml"
install -D -m 644 packaging/debian/default "$stage/etc/default/debvisor"

install -d "$doc"
for page in docs/how-to/service.md docs/reference/configuration.md docs/reference/admission.md; do
    install -m 644 "$page" "$doc/"
done
{
    cat <<COPYRIGHT
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: debvisor
Source: https://github.com/debvisor/debvisor
Comment: The binary contains sequoia-openpgp and buffered-reader under
 LGPL-2.0-or-later; their sources are published beside each release.

Files: *
Copyright: 2026 The DebVisor authors
License: Apache-2.0
 On Debian systems the full text of the Apache License 2.0 is in
 /usr/share/common-licenses/Apache-2.0.
COPYRIGHT
} >"$doc/copyright"
install -m 644 CHANGELOG.md "$doc/changelog"
cat >"$doc/changelog.Debian" <<CHANGELOG
debvisor ($version-1) unstable; urgency=medium

  * Release $version; see changelog.gz.

 -- The DebVisor authors <packages@debvisor.dev>  $(date --utc --date="@$SOURCE_DATE_EPOCH" --rfc-email)
CHANGELOG
gzip -9n "$doc/changelog" "$doc/changelog.Debian"
install -D -m 644 packaging/debian/lintian-overrides "$stage/usr/share/lintian/overrides/debvisor"

install -d "$stage/DEBIAN"
for script in postinst prerm postrm; do
    install -m 755 "packaging/debian/$script" "$stage/DEBIAN/$script"
done
printf '%s\n' /etc/debvisor/debvisor.toml /etc/default/debvisor >"$stage/DEBIAN/conffiles"
(cd "$stage" && find usr lib etc -type f ! -path 'etc/*' -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
cat >"$stage/DEBIAN/control" <<CONTROL
Package: debvisor
Version: $version-1
Architecture: amd64
Maintainer: The DebVisor authors <packages@debvisor.dev>
Installed-Size: $(du -sk --apparent-size --exclude=DEBIAN "$stage" | cut -f1)
Recommends: qemu-system-x86, iproute2, nftables
Suggests: gnupg, swtpm, ovmf
Section: admin
Priority: optional
Homepage: https://github.com/debvisor/debvisor
Description: release integrity and verified virtual machines
 DebVisor boots only what it can prove. One static binary verifies what
 publishers signed (Sigstore, OpenPGP, checksums, provenance, bills of
 materials), gates whole releases, and runs virtual machines whose images,
 kernels and firmware have passed the same gate.
 .
 The service debvisor.service is installed and not started: nothing may boot
 until /etc/debvisor/debvisor.toml names somebody who may vouch for it.
CONTROL

# Every time is SOURCE_DATE_EPOCH, every file is root's, and dpkg-deb sorts them.
find "$stage" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group -Zxz --build "$stage" "$out/debvisor_$version-1_amd64.deb" >/dev/null
