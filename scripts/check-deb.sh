#!/usr/bin/env bash
# Checks a Debian package: lintian finds no error, it installs into an empty root, everything is where its units look
# for it, systemd can read the units, the default configuration has no fault, and removing it leaves the state.
#
# usage: scripts/check-deb.sh PACKAGE
set -euo pipefail
package=$(realpath "$1")
die() { echo "check-deb: $*" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
target=$work/root

if command -v lintian >/dev/null; then
    found=$(lintian --no-cfg --allow-root --fail-on none --tag-display-limit 0 "$package" 2>/dev/null || true)
    ! grep -E '^E:' <<<"$found" || die "lintian finds errors"
    ! grep -E '^W:' <<<"$found" | grep -v 'debvisor: no-manual-page' || die "lintian warns"
fi

[[ $(dpkg-deb --field "$package" Package) = debvisor ]] || die "not the package debvisor"
dpkg-deb --contents "$package" | awk '$2 != "root/root" { exit 1 }' || die "files of others than root"
dpkg-deb --contents "$package" | awk '$1 ~ /^-.....w|^-...s|^-......s|^-........w/ { exit 1 }' || die "a file that others may write, or that is setuid"

install -d "$target/var/lib/dpkg/updates" "$target/var/lib/dpkg/info" "$target/var/lib/dpkg/triggers" "$target/usr/bin"
touch "$target/var/lib/dpkg/status" "$target/var/lib/dpkg/available"
# Its scripts need a shell and a group file, which an empty root has not: they run against this host's tools only
# where dpkg can chroot, so here the files alone are unpacked, and the scripts are read.
dpkg --root="$target" --force-not-root --force-script-chrootless --unpack "$package" >/dev/null || die "it does not unpack"
for script in postinst prerm postrm; do
    sh -n "$target/var/lib/dpkg/info/debvisor.$script" || die "$script is no script"
done
[[ $(awk '/^Package: debvisor$/,/^$/' "$target/var/lib/dpkg/status") = *"Status: install ok unpacked"* ]] || die "dpkg does not know it"

binary=$target/usr/bin/debvisor
[[ $("$binary" --version) = "debvisor "* ]] || die "the binary does not run"
for file in usr/share/man/man1/debvisor.1.gz usr/share/man/man1/debvisor-up.1.gz \
    usr/share/bash-completion/completions/debvisor usr/share/zsh/vendor-completions/_debvisor \
    usr/share/fish/vendor_completions.d/debvisor.fish usr/share/doc/debvisor/copyright \
    usr/lib/sysusers.d/debvisor.conf usr/lib/tmpfiles.d/debvisor.conf; do
    [[ -s $target/$file ]] || die "$file is missing"
done
conf=$(find "$target/etc/debvisor" -name 'debvisor.toml*' | head -1)
"$binary" config check "$conf" >/dev/null || die "the default configuration has a fault"

if command -v systemd-analyze >/dev/null; then
    install -D -m 755 /bin/sh "$target/bin/sh"
    install -D -m 755 /bin/kill "$target/bin/kill"
    cp -r /lib/systemd/system/. "$target/lib/systemd/system/" 2>/dev/null || true
    told=$(systemd-analyze verify --man=no --recursive-errors=no --root="$target" \
        debvisor.service debvisor-reverify.service debvisor-reverify.timer 2>&1 || true)
    ! grep -i debvisor <<<"$told" || die "systemd finds faults in the units"
    score=$(systemd-analyze security --offline=yes --root="$target" --no-pager debvisor.service 2>/dev/null |
        sed -n 's/.*exposure level for debvisor.service: \([0-9.]*\).*/\1/p' || true)
    echo "check-deb: systemd reads the units${score:+; exposure $score of 10}"
fi

mkdir -p "$target/var/lib/debvisor"
echo kept >"$target/var/lib/debvisor/state.db"
rm "$target/var/lib/dpkg/info/debvisor".{prerm,postrm}
dpkg --root="$target" --force-not-root --force-script-chrootless --purge debvisor >/dev/null || die "it is not removed"
[[ ! -e $binary && ! -e $target/etc/debvisor/debvisor.toml ]] || die "something is left of it"
[[ $(cat "$target/var/lib/debvisor/state.db") = kept ]] || die "removing it took the state"
echo "check-deb: installs, runs, and leaves the state when it is removed"
