#!/usr/bin/env bash
# A libvirt of its own below one folder, for whoever stands beside it: its daemon in the foreground, or its client.
#
# usage: scripts/libvirt.sh FOLDER libvirtd | virsh ARGUMENT...
#
# A session of libvirt belongs to somebody who is not root: where this is root, the folder is given to nobody.
# A machine without systemd has no virtlogd, no control groups and no namespaces to give, so none are asked for.
set -euo pipefail

folder=$(realpath "${1:?a folder}")
program=${2:?libvirtd or virsh}
shift 2
export HOME=$folder XDG_RUNTIME_DIR=$folder/run XDG_CONFIG_HOME=$folder/config
export XDG_CACHE_HOME=$folder/cache XDG_DATA_HOME=$folder/data
as_user=()
[[ $(id -u) -ne 0 ]] || as_user=(setpriv --reuid=65534 --regid=65534 --clear-groups)

case "$program" in
    libvirtd)
        mkdir -p -m 700 "$XDG_RUNTIME_DIR" "$XDG_CONFIG_HOME/libvirt" "$XDG_CACHE_HOME" "$XDG_DATA_HOME"
        printf '%s\n' 'stdio_handler = "file"' 'cgroup_controllers = []' 'namespaces = []' 'security_driver = "none"' \
            >"$XDG_CONFIG_HOME/libvirt/qemu.conf"
        [[ ${#as_user[@]} -eq 0 ]] || chown -R 65534:65534 "$folder"
        exec "${as_user[@]}" libvirtd --timeout 120 ;;
    virsh) exec "${as_user[@]}" virsh --quiet --connect qemu:///session "$@" ;;
    *) echo "error: there is no $program here" >&2; exit 64 ;;
esac
