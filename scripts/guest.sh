#!/usr/bin/env bash
# Builds what the tests' machines boot, in target/guest/: a kernel of Debian's, a small root file system, disks, an ISO
# image. What is there already stays.
#
#   vmlinuz      the kernel as Debian ships it        vmlinux     the same uncompressed: it boots in half the time
#   initrd       busybox, virtio modules and tests/vm/init, which prints a marker and obeys commands on the serial console
#   disk.raw     16 MiB, each sector with its number  disk.qcow2  the same
#   cd.iso       one file, hello.txt
#   modules/     what the kernel's own proofs of reads need, for tests/it/images/kernel.rs
set -euo pipefail
cd "$(dirname "$0")/.."
out=target/guest
init=tests/vm/init

mkdir -p target
exec 9>"target/guest.lock"
flock 9
stamp=$(cat "$0" "$init" | sha256sum | cut -c1-64)
[[ -e $out/stamp && $(<"$out/stamp") = "$stamp" ]] && exit 0

say() { printf '%s\n' "$*" >&2; }
work=$(mktemp -d target/guest.XXXXXX)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[^ ]*\)$/\1/p' | head -1)
[[ -n $package ]] || { say "error: apt knows no linux-image-cloud-amd64"; say "hint: apt-get update"; exit 69; }
mkdir -p target/guest-packages
if ! compgen -G "target/guest-packages/${package}_*.deb" >/dev/null; then
    say "fetching: $package"
    (cd target/guest-packages && apt-get -qq download "$package" 2>/dev/null) || { say "error: $package cannot be fetched"; exit 69; }
fi
dpkg-deb -x target/guest-packages/"$package"_*.deb "$work/kernel"
version=${package#linux-image-}
cp "$work/kernel/boot/vmlinuz-$version" "$work/vmlinuz"

# The compressed kernel lies in the boot image after the loader's code; its first bytes say how it was compressed. What
# stands behind it is no part of it, so the program's complaint about that does not count.
unpack() { # MAGIC PROGRAM...
    local at
    at=$(grep -aboP -m1 "$1" "$work/vmlinuz" | head -1 | cut -d: -f1) || true
    [[ -n $at ]] || return 1
    tail -c +$((at + 1)) "$work/vmlinuz" | "${@:2}" >"$work/vmlinux" 2>/dev/null || true
    [[ $(head -c 4 "$work/vmlinux" | tail -c 3) = ELF ]]
}
unpack '\x02\x21\x4c\x18' lz4 -dc || unpack '\xfd7zXZ\x00' xz -dc || unpack '\x28\xb5\x2f\xfd' zstd -dc ||
    { say "error: $version is compressed by neither lz4, xz nor zstd"; exit 69; }

root=$work/root
modules=$root/lib/modules/$version
mkdir -p "$root"/{bin,dev,proc,sys,mnt,tmp} "$modules"
cp /bin/busybox "$root/bin/busybox" 2>/dev/null || cp /usr/bin/busybox "$root/bin/busybox"
for name in virtio_pci virtio_pci_modern_dev virtio_pci_legacy_dev virtio virtio_ring virtio_blk virtio_net \
    net_failover failover virtio_scsi scsi_mod scsi_common sr_mod cdrom isofs virtio_console virtio_balloon \
    virtio-rng evdev button pvpanic pvpanic-pci; do
    find "$work/kernel/lib/modules/$version" -name "$name.ko" -exec cp {} "$modules/" \;
done
mkdir "$work/modules"
for name in loop dm-mod dm-bufio reed_solomon dm-verity; do
    find "$work/kernel/lib/modules/$version" -name "$name.ko" -exec cp {} "$work/modules/" \;
done
busybox depmod -b "$root" "$version" 2>/dev/null
install -m 755 "$init" "$root/init"
(cd "$root" && find . -print0 | sort -z | cpio --quiet --null --create --format=newc --reproducible --owner=0:0) |
    gzip -n -1 >"$work/initrd"

# Each sector begins with its own number, so that a test sees which one it was given.
python3 - "$work/disk.raw" <<'PYTHON'
import sys
with open(sys.argv[1], 'wb') as disk:
    for number in range(16 * 1024 * 1024 // 512):
        disk.write((b'sector %08d ' % number).ljust(512, b'.'))
PYTHON
qemu-img convert -q -f raw -O qcow2 "$work/disk.raw" "$work/disk.qcow2"
mkdir "$work/cd"
echo "hello from the iso" >"$work/cd/hello.txt"
xorriso -as mkisofs -quiet -V DEBVISOR -o "$work/cd.iso" "$work/cd" 2>/dev/null

rm -rf "$work/kernel" "$root" "$work/cd" "$out"
mkdir -p "$out"
mv "$work"/* "$out/"
echo "$stamp" >"$out/stamp"
