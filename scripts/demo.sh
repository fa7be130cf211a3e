#!/usr/bin/env bash
# Makes a small release, seals it with a throwaway key, gates it, changes one byte, gates it again.
# Usage: scripts/demo.sh [path to the debvisor binary]. Ends with 0 only if every step behaved as told.
set -euo pipefail

debvisor=$(realpath "${1:-target/x86_64-unknown-linux-gnu/debug/debvisor}")
for tool in "$debvisor" gpg gpgconf tar; do
    command -v "$tool" >/dev/null || { echo "demo: $tool is missing" >&2; exit 1; }
done

# A home of its own: the keys and agents of whoever runs this are left alone.
place=$(mktemp -d)
export GNUPGHOME=$place/gnupg DEBVISOR_KEY_PASSWORD=throwaway
cleanup() {
    gpgconf --kill all 2>/dev/null || true
    rm -rf "$place"
}
trap cleanup EXIT
mkdir -m 700 "$GNUPGHOME"
cd "$place"

bold='' dim='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; fi

say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

# Shows a command and runs it; its exit code must be the one that is told.
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

say "1. A publisher has built something: a program, and a package with its sources and their lock file."
mkdir -p release source
printf '#!/bin/sh\necho "hello from version 1.0"\n' >source/hello.sh
printf '{"name": "hello", "version": "1.0.0"}\n' >source/package.json
cat >source/package-lock.json <<'LOCK'
{"name": "hello", "version": "1.0.0", "lockfileVersion": 3, "packages": {
  "": {"name": "hello", "version": "1.0.0", "dependencies": {"left-pad": "1.3.0"}},
  "node_modules/left-pad": {"version": "1.3.0", "license": "WTFPL",
    "resolved": "https://registry.npmjs.org/left-pad/-/left-pad-1.3.0.tgz",
    "integrity": "sha512-XI5MPzVNApjAyhQzphX8BkmKsKUxD4LdyK24iZeQGinBN9yTQT3bFlCBy/aVx2HrNcqQGsdot8ghrjyrvMCoEA=="}}}
LOCK
cp source/hello.sh release/
tar -czf release/hello-1.0.tar.gz source
run 0 "$debvisor" key generate --out publisher

say "2. One command makes a release of it: SBOMs, VEX, provenance, attestations, signatures, a manifest and a list."
run 0 "$debvisor" seal release --key publisher.key --source source --name hello --version 1.0.0
run 0 ls release

gate=("$debvisor" gate release --key publisher.pub --require signature,sbom,provenance,vex)

say "3. You gate it: every file is listed, the publisher's key signed it all, nothing is missing. Yes."
run 0 "${gate[@]}"

say "4. Somebody changes one byte on the way to you."
printf '#!/bin/sh\necho "hello from version 1.1"\n' >release/hello.sh
run 1 "${gate[@]}"

say "5. What does that code mean, and what is usually done about it?"
run 0 "$debvisor" explain checksum-mismatch

say "6. The byte is put back, and a component disappears from an SBOM."
cp source/hello.sh release/hello.sh
cp release/hello-1.0.tar.gz.cdx.json kept.json
sed -i 's/left-pad/right-pad/' release/hello-1.0.tar.gz.cdx.json
run 1 "${gate[@]}" --quiet
cp kept.json release/hello-1.0.tar.gz.cdx.json

say "7. The program is built again. Sealing makes anew what has changed, and nothing else."
printf '#!/bin/sh\necho "hello from version 1.0.1"\n' >release/hello.sh
run 0 "$debvisor" seal release --key publisher.key --source source --name hello --version 1.0.0 --quiet
run 0 "${gate[@]}" --quiet

say "8. The same with an OpenPGP key of your own gpg, beside the first."
gpg --batch --quiet --no-tty --pinentry-mode loopback --passphrase '' \
    --quick-generate-key 'Throwaway <demo@example.org>' ed25519 sign never 2>/dev/null
fingerprint=$(gpg --batch --quiet --with-colons --list-keys 2>/dev/null | awk -F: '$1 == "fpr" { print $10; exit }')
gpg --batch --quiet --export --armor >publisher.asc
run 0 "$debvisor" seal release --key publisher.key --openpgp demo@example.org --source source --name hello \
    --version 1.0.0 --quiet
run 0 "${gate[@]}" --openpgp-keyring publisher.asc --openpgp-fingerprint "$fingerprint" --quiet

say "That is all: what is not proved is a no, with its reason. README.md says where to go next."
