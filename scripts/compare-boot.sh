#!/usr/bin/env bash
# Overwrites the stored image of a virtual machine and asks it to start: once under libvirt, once under DebVisor.
#
# usage: scripts/compare-boot.sh DEBVISOR
#
# The image is one boot sector that writes a word to the serial port. The owner's says "as-sealed", the attacker's
# "REPLACED". libvirt starts whatever lies at the path; DebVisor starts what was signed, or nothing.
# Everything happens below one temporary folder, with a libvirt daemon and a `debvisor up` of its own.
set -euo pipefail

say() { printf '%s\n' "$*"; }
fail() { say "error: $*" >&2; exit 1; }

debvisor=${1:?the binary, as target/x86_64-unknown-linux-gnu/debug/debvisor}
debvisor=$(realpath "$debvisor")
libvirt=$(realpath "$(dirname "$0")/libvirt.sh")

work=$(mktemp -d)
export DEBVISOR_KEY_PASSWORD=demo DEBVISOR_SOCKET=$work/state/api.sock
# A machine's own user passes through to its folder.
chmod 711 "$work"
virsh() { "$libvirt" "$work" virsh "$@"; }
daemon=
node=
finish() {
    [[ -z $node ]] || "$debvisor" --quiet vm delete compare >/dev/null 2>&1 || true
    [[ -z $node ]] || { kill "$node" && wait "$node"; } 2>/dev/null || true
    virsh destroy compare >/dev/null 2>&1 || true
    virsh undefine compare >/dev/null 2>&1 || true
    [[ -z $daemon ]] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null || true
    # What the store froze cannot be removed either.
    chattr -R -i "$work/state" 2>/dev/null || true
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

# Waits until a command says something.
says() {
    local text=$1
    shift
    for _ in $(seq 150); do
        if "$@" 2>/dev/null | grep -qs -- "$text"; then return 0; fi
        sleep 0.2
    done
    return 1
}
libvirt_says() { says "$1" cat "$work/console"; }
debvisor_says() { says "$1" "$debvisor" vm console compare --log; }

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
: >"$work/console"
"$libvirt" "$work" libvirtd >"$work/libvirtd.log" 2>&1 &
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
libvirt_says as-sealed || fail "the sealed image did not boot under libvirt: $(tail -n 3 "$work/libvirtd.log")"
say "  sealed image:       starts, and the console says: as-sealed"

say "== DebVisor $("$debvisor" --version | cut -d ' ' -f 2)"
printf '[[admission.signers]]\nname = "the owner"\nkey = "owner.pub"\n' >"$work/debvisor.toml"
"$debvisor" up --quiet --state-dir "$work/state" --config "$work/debvisor.toml" 2>"$work/up.log" &
node=$!
says NAME "$debvisor" node list || fail "debvisor does not come up: $(cat "$work/up.log")"
(cd "$work" && "$debvisor" --quiet image import disk.img --kind disk >/dev/null)
"$debvisor" --quiet vm create compare --memory 32M --disk disk.img >/dev/null
"$debvisor" --quiet vm start compare >/dev/null
debvisor_says as-sealed || fail "the sealed image did not boot under DebVisor: $(cat "$work/up.log")"
say "  sealed image:       starts, and the console says: as-sealed"
"$debvisor" --quiet vm stop compare --force >/dev/null

say "-- somebody overwrites the stored image"
cp "$work/attack.img" "$work/disk.img"
stored=$(echo "$work"/state/images/sha256/*/*/content)
chattr -i "$stored" 2>/dev/null || true
chmod u+w "$stored"
cp "$work/attack.img" "$stored"

start_under_libvirt
libvirt_says REPLACED || fail "the replaced image did not boot under libvirt"
say "  libvirt:            starts, and the console says: REPLACED"
# A disk is proved as it is read: the machine is set going, and its first block is refused.
"$debvisor" --quiet vm start compare >/dev/null 2>&1 || true
says image-quarantined "$debvisor" vm show compare || fail "DebVisor did not notice: $("$debvisor" vm show compare)"
"$debvisor" event list --kind image.altered >"$work/event"
grep -q image.altered "$work/event" || fail "DebVisor has no event of it"
"$debvisor" --quiet vm stop compare --force >/dev/null 2>&1 || true
outcome=0
"$debvisor" vm start compare >"$work/answer" 2>&1 || outcome=$?
[[ $outcome -eq 1 ]] || fail "DebVisor ended with $outcome, and the image was replaced: $(cat "$work/answer")"
grep -q image-quarantined "$work/answer" || fail "DebVisor gave another reason: $(cat "$work/answer")"
if "$debvisor" vm console compare --log 2>/dev/null | grep -q REPLACED; then fail "the replaced image ran"; fi
say "  DebVisor:           the first block that is read is an I/O error, the image goes into quarantine:"
sed 's/^/    /' "$work/event"
say "                      and the next start is refused, exit code 1:"
sed 's/^/    /' "$work/answer"
