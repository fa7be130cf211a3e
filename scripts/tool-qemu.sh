#!/usr/bin/env bash
# Installs QEMU for the tests with machines in them, of the version of the qemu-utils that are there; does nothing where it is.
#
# A machine may carry qemu-utils of bookworm-backports while its sources name bookworm alone. Then apt refuses
# qemu-system-x86, whose versions would not fit, so apt is given sources of its own: the machine's bookworm line, and the
# same line with the suite bookworm-backports. The machine's own sources are not changed.
set -euo pipefail

command -v qemu-system-x86_64 >/dev/null 2>&1 && exit 0

say() { printf '%s\n' "$*" >&2; }
root=()
if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null 2>&1 || {
        say "error: qemu-system-x86 must be installed, and this is neither root nor is there sudo"
        exit 69
    }
    root=(sudo)
fi
install=(env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends)

utils=$(dpkg-query --show --showformat='${Version}' qemu-utils 2>/dev/null || true)
if [[ $utils != *bpo12* ]]; then
    say "installing: qemu-system-x86 qemu-utils"
    "${root[@]}" apt-get -qq update
    "${root[@]}" "${install[@]}" qemu-system-x86 qemu-utils >/dev/null
    exit 0
fi

# The address and the key of the machine's own bookworm line, in either of apt's two forms.
line() {
    { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null || true; } |
        awk '$1 == "deb" && / bookworm / { signed = match($0, /signed-by=[^] ]+/) ? substr($0, RSTART + 10, RLENGTH - 10) : "-"
             sub(/\[[^]]*\] */, ""); print $2, signed; exit }'
    { cat /etc/apt/sources.list.d/*.sources 2>/dev/null || true; } |
        awk -v RS= '/(^|\n)Suites:[^\n]* ?bookworm( |\n)/ { uri = "-"; signed = "-"
             for (i = 1; i < NF; i++) { if ($i == "URIs:") uri = $(i + 1); if ($i == "Signed-By:") signed = $(i + 1) }
             print uri, signed; exit }'
}
read -r address signed < <(line) || { say "error: no line of apt's sources names bookworm"; exit 69; }

own=$(mktemp --directory)
trap '"${root[@]}" rm -rf "$own"' EXIT
chmod 755 "$own"
mkdir -p "$own/lists/partial" "$own/cache/archives/partial"
options=""
[[ $signed != - ]] && options="[signed-by=$signed] "
printf 'deb %s%s %s main\n' "$options" "$address" bookworm "$options" "$address" bookworm-backports >"$own/sources.list"
ours=(-o Dir::Etc::sourcelist="$own/sources.list" -o Dir::Etc::sourceparts=/dev/null
      -o Dir::State::lists="$own/lists" -o Dir::Cache="$own/cache")
say "installing: qemu-system-x86 of bookworm-backports"
"${root[@]}" apt-get -qq "${ours[@]}" update
"${root[@]}" "${install[@]}" "${ours[@]}" -t bookworm-backports qemu-system-x86 qemu-block-extra >/dev/null
