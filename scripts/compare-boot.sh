#!/usr/bin/env bash
# Overwrites the stored image of a virtual machine and asks it to start: once under libvirt, once under DebVisor.
#
# usage: scripts/compare-boot.sh DEBVISOR
#
# The image is one boot sector that writes a word to the serial port. The owner's says "as-sealed", the attacker's
# "REPLACED". libvirt starts whatever lies at the path; DebVisor is asked what a node asks before it starts anything.
# Everything happens below one temporary folder, with a libvirt daemon of its own.
set -euo pipefail

say() { printf '%s\n' "$*"; }
fail() { say "error: $*" >&2; exit 1; }

debvisor=${1:?the binary, as target/x86_64-unknown-linux-gnu/debug/debvisor}
debvisor=$(realpath "$debvisor")

work=$(mktemp -d)
export XDG_RUNTIME_DIR=$work/run XDG_CONFIG_HOME=$work/config XDG_CACHE_HOME=$work/cache XDG_DATA_HOME=$work/data
export DEBVISOR_KEY_PASSWORD=demo
mkdir -p -m 700 "$XDG_RUNTIME_DIR" "$XDG_CONFIG_HOME/libvirt" "$XDG_CACHE_HOME" "$XDG_DATA_HOME"
# A session of libvirt belongs to somebody who is not root.
as_user=()
if [[ $(id -u) -eq 0 ]]; then
    as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups env HOME="$work")
fi
virsh() { "${as_user[@]}" virsh --quiet --connect qemu:///session "$@"; }
daemon=
finish() {
    virsh destroy compare >/dev/null 2>&1 || true
    virsh undefine compare >/dev/null 2>&1 || true
    [[ -z $daemon ]] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

# A boot sector: xor ax,ax; mov ds,ax; mov si,text; mov dx,COM1; then byte by byte to the port, and halt.
boot_sector() {
    python3 - "$1" "$2" <<'PYTHON'
import sys
code = bytes.fromhex("31c0 8ed8 be207c baf803 fc ac 84c0 7403 ee ebf8 f4 ebfd".replace(" ", ""))
sector = code.ljust(0x20, b"\0") + sys.argv[1].encode() + b"\r\n\0"
with open(sys.argv[2], "wb") as image:
    image.write(sector.ljust(510, b"\0") + b"\x55\xaa" + bytes(1024 * 1024 - 512))
PYTHON
}

# Waits for a word on the serial console.
console_says() {
    for _ in $(seq 100); do
        if grep -qs "$1" "$work/console"; then return 0; fi
        sleep 0.2
    done
    return 1
}

start_under_libvirt() {
    virsh destroy compare >/dev/null 2>&1 || true
    : >"$work/console"
    virsh start compare
}

boot_sector as-sealed "$work/disk.img"
boot_sector REPLACED "$work/attack.img"
(cd "$work" && "$debvisor" --quiet key generate --out owner >/dev/null \
    && "$debvisor" --quiet sign disk.img --key owner.key --bundle disk.img.sigstore.json >/dev/null)

say "== libvirt $(virsh --version)"
echo 'stdio_handler = "file"' >"$XDG_CONFIG_HOME/libvirt/qemu.conf"
: >"$work/console"
[[ ${#as_user[@]} -eq 0 ]] || chown -R 65534:65534 "$work"
"${as_user[@]}" libvirtd --timeout 120 >"$work/libvirtd.log" 2>&1 &
daemon=$!
for _ in $(seq 50); do virsh list >/dev/null 2>&1 && break; sleep 0.2; done
cat >"$work/compare.xml" <<XML
<domain type='qemu'>
  <name>compare</name>
  <memory unit='MiB'>32</memory>
  <os><type arch='x86_64'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='$work/disk.img'/><target dev='hda' bus='ide'/>
    </disk>
    <serial type='file'><source path='$work/console'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
XML
virsh define "$work/compare.xml"
start_under_libvirt
console_says as-sealed || fail "the sealed image did not boot under libvirt: $(tail -n 3 "$work/libvirtd.log")"
say "  sealed image:       starts, and the console says: as-sealed"

say "== DebVisor $("$debvisor" --version | cut -d ' ' -f 2)"
(cd "$work" && "$debvisor" --quiet admit disk.img --key owner.pub >/dev/null) || fail "the sealed image was not admitted"
say "  sealed image:       admitted"

say "-- somebody overwrites the stored image"
cp "$work/attack.img" "$work/disk.img"

start_under_libvirt
console_says REPLACED || fail "the replaced image did not boot under libvirt"
say "  libvirt:            starts, and the console says: REPLACED"
outcome=0
(cd "$work" && "$debvisor" --quiet admit disk.img --key owner.pub) >"$work/answer" || outcome=$?
[[ $outcome -eq 1 ]] || fail "DebVisor ended with $outcome, and the image was replaced"
grep -q digest-mismatch "$work/answer" || fail "DebVisor gave another reason: $(cat "$work/answer")"
say "  DebVisor:           refuses, exit code 1:"
sed 's/^/    /' "$work/answer"
