#!/usr/bin/env bash
# Installs what the named jobs need on a bare Debian 12 machine; does nothing, quickly, where it is there.
#
# usage: scripts/needs.sh build|test|deny|demo|compare|bench|dist|interop|fuzz...
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

# Debian packages by the program or file that shows that they are there: "package:witness".
declare -a wanted=()
needs() { wanted+=("$@"); }

for job in "$@"; do
    case "$job" in
        # aws-lc and zstd are compiled from C, and the static C library is linked in.
        build) needs gcc:gcc libc6-dev:/usr/lib/x86_64-linux-gnu/libc.a make:make
               needs ca-certificates:/etc/ssl/certs/ca-certificates.crt git:git ;;
        test) needs age:age gnupg:gpg strace:strace python3:/usr/bin/python3
              needs python3-venv:/usr/lib/python3/dist-packages/ensurepip python3-pip:pip3
              needs python3-aiosmtpd:/usr/lib/python3/dist-packages/aiosmtpd
              needs e2fsprogs:/sbin/mke2fs fdisk:/sbin/sfdisk qemu-utils:qemu-img libnbd-bin:nbdcopy
              needs docker-registry:docker-registry openssl:openssl pylint:pylint nodejs:node npm:npm
              needs python3-venv:/usr/lib/python3/dist-packages/ensurepip python3-pip:pip3
              needs systemd:systemd-analyze python3-prometheus-client:/usr/lib/python3/dist-packages/prometheus_client
              needs rpm:rpmbuild db5.3-util:db5.3_load
              # Machines: the guest is built by scripts/guest.sh, QEMU itself comes by scripts/tool-qemu.sh.
              needs busybox-static:busybox cpio:cpio lz4:lz4 xz-utils:xz zstd:zstd xorriso:xorriso ipxe-qemu:/usr/lib/ipxe/qemu/efi-virtio.rom
              needs swtpm:swtpm ovmf:/usr/share/OVMF/OVMF_CODE_4M.secboot.fd iproute2:ip nftables:/usr/sbin/nft
              # The kernel's own proofs of reads, inside such a machine.
              needs fsverity:fsverity cryptsetup-bin:/usr/sbin/veritysetup mount:losetup binutils:objcopy procps:/bin/kill file:file ;;
        deny) needs python3:python3 python3-venv:/usr/lib/python3/dist-packages/ensurepip python3-pip:pip3 ;;
        compare) needs python3:python3 qemu-system-x86:qemu-system-x86_64 e2fsprogs:/usr/bin/chattr
                 needs libvirt-daemon:libvirtd libvirt-clients:virsh
                 needs libvirt-daemon-driver-qemu:/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so ;;
        demo) needs gnupg:gpg python3:python3 e2fsprogs:/usr/bin/chattr qemu-utils:qemu-img
              needs busybox-static:busybox cpio:cpio lz4:lz4 xz-utils:xz zstd:zstd xorriso:xorriso ;;
        dist) needs file:file dpkg:dpkg-deb lintian:lintian systemd:systemd-analyze ;;
        bench) needs gpgv:gpgv gnupg:gpg sqv:sqv openssl:openssl qemu-utils:qemu-nbd libnbd-bin:nbdcopy wrk:wrk
               needs python3:python3 python3-venv:/usr/lib/python3/dist-packages/ensurepip e2fsprogs:/sbin/mke2fs
               # Machines, and libvirt's beside ours.
               needs busybox-static:busybox cpio:cpio lz4:lz4 xz-utils:xz zstd:zstd xorriso:xorriso
               needs libvirt-daemon:libvirtd libvirt-clients:virsh
               needs libvirt-daemon-driver-qemu:/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so ;;
        interop) needs python3:python3 python3-venv:/usr/lib/python3/dist-packages/ensurepip nodejs:node npm:npm
                 needs mmdebstrap:mmdebstrap ;;
        fuzz) needs g++:g++ ;;
        *) say "needs.sh: there is no job named $job"; exit 64 ;;
    esac
done

there() {
    case "$1" in
        # A directory of Python's differs between installs: ask the interpreter instead.
        */ensurepip) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
        /*) [[ -e $1 ]] ;;
        *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

declare -a missing=()
for pair in "${wanted[@]}"; do
    there "${pair#*:}" || missing+=("${pair%%:*}")
done

if ((${#missing[@]})); then
    root=()
    if [[ $(id -u) -ne 0 ]]; then
        command -v sudo >/dev/null 2>&1 || {
            say "error: ${missing[*]} must be installed, and this is neither root nor is there sudo"
            say "hint: as root: apt-get install ${missing[*]}"
            exit 69
        }
        root=(sudo)
    fi
    command -v apt-get >/dev/null 2>&1 || {
        say "error: ${missing[*]} must be installed, and there is no apt-get here"
        exit 69
    }
    say "installing: ${missing[*]}"
    "${root[@]}" apt-get -qq update
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "${missing[@]}" \
        >/dev/null
fi

# Rust is not taken from Debian 12, whose version is years too old for this edition.
least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
if ! command -v cargo >/dev/null 2>&1 && [[ -x $HOME/.cargo/bin/cargo ]]; then
    say "error: cargo is installed but not on the PATH"
    say "hint: run '. \$HOME/.cargo/env' and again"
    exit 69
fi
command -v cargo >/dev/null 2>&1 || {
    say "error: cargo was not found; DebVisor builds with stable Rust $least or newer"
    say "hint: install it with rustup, as the page 'Install Rust' of rust-lang.org says, and run this again"
    exit 69
}
have=$(rustc --version | cut -d' ' -f2)
if [[ $(printf '%s\n' "$least" "$have" | sort -V | head -1) != "$least" ]]; then
    say "error: Rust $have is too old; DebVisor builds with $least or newer"
    say "hint: rustup update stable"
    exit 69
fi

for job in "$@"; do
    case "$job" in
        deny) scripts/tool-cargo-deny.sh ;;
        demo|bench) scripts/tool-qemu.sh && scripts/guest.sh ;;
        test)
            scripts/tool-qemu.sh
            scripts/guest.sh
            scripts/octokit-fixtures.sh
            scripts/oidc-provider.sh
            scripts/sigstore-clients.sh
            scripts/tool-schemathesis.sh
            for component in rustfmt clippy; do
                [[ $component = rustfmt ]] && program=cargo-fmt || program=cargo-clippy
                command -v "$program" >/dev/null 2>&1 || rustup component add "$component"
            done
            ;;
        fuzz)
            [[ -x target/tools/bin/cargo-fuzz ]] || cargo install --quiet --locked --root target/tools cargo-fuzz@0.13.2
            ;;
    esac
done
