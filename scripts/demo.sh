#!/usr/bin/env bash
# Makes a small release with a throwaway key, gates it, changes one byte, gates it again.
# Usage: scripts/demo.sh [path to the debvisor binary]. Ends with 0 only if every step behaved as told.
set -euo pipefail

debvisor=$(realpath "${1:-target/x86_64-unknown-linux-gnu/debug/debvisor}")
for tool in "$debvisor" gpg gpgconf tar; do
    command -v "$tool" >/dev/null || { echo "demo: $tool is missing" >&2; exit 1; }
done

# A home of its own: the keys and agents of whoever runs this are left alone.
place=$(mktemp -d)
export GNUPGHOME=$place/gnupg
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

say "1. A publisher makes a release: a program, its sources, a list of them, and a signature over the list."
mkdir -p release source
printf '#!/bin/sh\necho "hello from version 1.0"\n' >source/hello.sh
printf 'Version 1.0 says hello.\n' >source/NOTES.txt
cp source/hello.sh source/NOTES.txt release/
tar -czf release/hello-1.0.tar.gz source
gpg --batch --quiet --no-tty --pinentry-mode loopback --passphrase '' \
    --quick-generate-key 'Throwaway <demo@example.org>' ed25519 sign never 2>/dev/null
fingerprint=$(gpg --batch --quiet --with-colons --list-keys 2>/dev/null | awk -F: '$1 == "fpr" { print $10; exit }')
gpg --batch --quiet --export --armor >publisher.asc
run 0 "$debvisor" checksum create --output release/SHA256SUMS release
run 0 gpg --batch --quiet --armor --detach-sign release/SHA256SUMS
run 0 ls release

gate=("$debvisor" gate release --openpgp-keyring publisher.asc --openpgp-fingerprint "$fingerprint")

say "2. You gate it, with the publisher's key pinned by its fingerprint. Every file is listed, the list is signed: yes."
run 0 "${gate[@]}"

say "3. Somebody changes one byte on the way to you."
printf '#!/bin/sh\necho "hello from version 1.1"\n' >release/hello.sh
run 1 "${gate[@]}"

say "4. What does that code mean, and what is usually done about it?"
run 0 "$debvisor" explain checksum-mismatch

say "5. The byte is put back, and a file that nobody listed is slipped in."
cp source/hello.sh release/hello.sh
echo 'run me' >release/install.sh
run 1 "${gate[@]}"

say "6. It is taken out again: yes."
rm release/install.sh
run 0 "${gate[@]}" --quiet

say "That is all: what is not proved is a no, with its reason. README.md says where to go next."
