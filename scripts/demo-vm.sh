#!/usr/bin/env bash
# Boots a machine from images that a throwaway key signed, flips one byte in the store and shows the refusal, flips one
# byte under the running machine and shows the I/O error, the event and the quarantine.
# Usage: scripts/demo-vm.sh [path to the debvisor binary]. Ends with 0 only if every step behaved as told.
set -euo pipefail

debvisor=$(realpath "${1:-target/x86_64-unknown-linux-gnu/debug/debvisor}")
if ((EUID != 0)); then
    echo "demo: the part about machines needs root, who alone can alter what the image store froze: sudo make demo" >&2
    exit 1
fi
guest=$(realpath "${GUEST:-target/guest}")
for file in vmlinux initrd disk.raw; do
    [[ -e $guest/$file ]] || { echo "demo: $guest/$file is missing: scripts/guest.sh builds it" >&2; exit 1; }
done

place=$(mktemp -d)
# A machine's own user passes through to its folder.
chmod 711 "$place"
cleanup() {
    "$debvisor" vm delete web --socket "$place/state/api.sock" >/dev/null 2>&1 || true
    [[ -z ${server:-} ]] || kill "$server" 2>/dev/null || true
    [[ -z ${server:-} ]] || wait "$server" 2>/dev/null || true
    chattr -R -i "$place" 2>/dev/null || true
    rm -rf "$place"
}
trap cleanup EXIT
cp "$guest"/{vmlinux,initrd,disk.raw} "$place"
cd "$place"
export DEBVISOR_KEY_PASSWORD=demo DEBVISOR_SOCKET=$place/state/api.sock

bold='' dim='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
run() {
    local expected=$1 code=0
    shift
    printf '%s$ %s%s\n' "$dim" "${*/#"$debvisor"/debvisor}" "$plain"
    "$@" || code=$?
    if ((code != expected)); then
        echo "demo: exit code $code, where $expected was expected" >&2
        exit 1
    fi
    if ((code != 0)); then printf '%sexit code %d%s\n' "$dim" "$code" "$plain"; fi
}
# Waits until a command says something.
until_said() {
    local text=$1 tries=0
    shift
    until "$@" 2>/dev/null | grep -q -- "$text"; do
        ((++tries < 300)) || { echo "demo: nobody says \`$text\`" >&2; exit 1; }
        sleep 0.2
    done
}
# Types a line into the guest's console and shows what it answers.
type_line() { { sleep 0.5; echo "$1"; sleep 1; } | timeout 30 "$debvisor" vm console web; }
# Flips a bit of an image in the store, as somebody with the host's root would.
flip() {
    local file
    file=$(echo state/images/sha256/*/"$1"/content)
    chattr -i "$file" 2>/dev/null || true
    chmod u+w "$file"
    python3 - "$file" "$2" <<'PYTHON'
import sys
with open(sys.argv[1], 'r+b') as image:
    image.seek(int(sys.argv[2]))
    byte = image.read(1)[0]
    image.seek(int(sys.argv[2]))
    image.write(bytes([byte ^ 1]))
PYTHON
}
hex_of() { sha256sum "$1" | cut -d' ' -f1; }

say "1. Somebody builds images and signs them; the node believes that key and nobody else."
run 0 "$debvisor" key generate --out builds --quiet
for image in vmlinux initrd disk.raw; do
    run 0 "$debvisor" sign "$image" --key builds.key --bundle "$image.sigstore.json" --offline
done
cat >debvisor.toml <<'TOML'
[[admission.signers]]
name = "our own builds"
key = "builds.pub"
TOML

say "2. The node comes up, and the images are brought into its store."
"$debvisor" up --quiet --state-dir state --config debvisor.toml &
server=$!
until_said NAME "$debvisor" node list
run 0 "$debvisor" node show
run 0 "$debvisor" image import vmlinux --kind kernel
run 0 "$debvisor" image import initrd --kind initrd
run 0 "$debvisor" image import disk.raw --kind disk

say "3. A machine is described, admitted, and started."
run 0 "$debvisor" vm create web --memory 256M --kernel vmlinux --initrd initrd --cmdline "console=ttyS0 quiet" --disk disk.raw
run 0 "$debvisor" vm start web
until_said debvisor-guest-ready "$debvisor" vm console web --log
run 0 "$debvisor" vm console web --log
run 0 "$debvisor" vm show web
type_line "read vda 100"

say "4. One bit of the disk is flipped under the running machine: an I/O error, an event, a quarantine."
flip "$(hex_of disk.raw)" $((20000 * 512))
{ sleep 0.5; echo "read vda 20000"; sleep 6; } | timeout 60 "$debvisor" vm console web >console &
reading=$!
until_said image-quarantined "$debvisor" vm show web
until_said paused "$debvisor" vm list
run 0 "$debvisor" event list --kind image.altered
run 0 "$debvisor" event list --kind vm.paused
run 0 "$debvisor" vm list
run 1 "$debvisor" vm resume web

say "   It was stilled before the guest could say what it saw. Two people let it go on for an hour; one alone may not."
quarantine=$("$debvisor" quarantine list --format json | python3 -c 'import json, sys; print(json.load(sys.stdin)["quarantines"][0]["id"])')
request=$("$debvisor" quarantine release "$quarantine" --reason "to look at it" --hours 1 --format json |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["id"])')
run 1 "$debvisor" quarantine approve "$request"
cp "$debvisor" another-person
run 0 setpriv --reuid 4711 --regid 0 --clear-groups ./another-person quarantine approve "$request"
wait "$reading" || true
cat console
grep -q 'read-error.*Input/output error' console

say "5. One bit of the kernel is flipped in the store: the machine does not start."
run 0 "$debvisor" vm delete web
run 0 "$debvisor" vm create again --memory 256M --kernel vmlinux --initrd initrd --cmdline "console=ttyS0 quiet"
flip "$(hex_of vmlinux)" 1000000
run 1 "$debvisor" vm start again
run 0 "$debvisor" vm delete again

say "6. Who did what is in the audit log, and the log is whole."
run 0 "$debvisor" audit verify
