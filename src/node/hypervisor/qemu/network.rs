//! A card that is to be on a bridge in, a tap device with a filter out: what the guest sends under another address than
//! its own is dropped before the bridge learns it.
//!
//! Names are made from the machine's identity, so that a device that a crash left is found and taken away by name.

use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::process::host_program;
use crate::types::vm::VmId;

/// The device of a machine's card: at most 15 bytes, as the kernel wants.
pub(super) fn tap_name(vm: VmId, index: usize) -> String {
    let hash = hex::encode(Sha256::digest(vm.uuid().as_bytes()));
    format!("dv{}n{index}", hash.get(..10).unwrap_or_default())
}

/// Makes the device, filters it, and puts it on the bridge. What is left of an earlier run goes first.
pub(super) async fn tap_make(
    tap: &str,
    bridge: &str,
    mac: &str,
    owner: Option<(u32, u32)>,
    netns: Option<&Path>,
) -> io::Result<()> {
    tap_remove(tap, netns).await?;
    let user = owner.map_or(0, |(user, _)| user).to_string();
    host_program("ip", &["tuntap", "add", "dev", tap, "mode", "tap", "user", &user], netns).await?;
    let made = async {
        // The filter is there before the device is up: no frame passes unseen.
        host_program("nft", &[&filter(tap, mac)], netns).await?;
        host_program("ip", &["link", "set", "dev", tap, "master", bridge], netns).await?;
        host_program("ip", &["link", "set", "dev", tap, "up"], netns).await
    };
    if let Err(error) = made.await {
        tap_remove(tap, netns).await?;
        return Err(error);
    }
    Ok(())
}

/// Takes device and filter away; what is not there is no failure.
pub(super) async fn tap_remove(tap: &str, netns: Option<&Path>) -> io::Result<()> {
    if host_program("ip", &["link", "show", "dev", tap], netns).await.is_ok() {
        host_program("ip", &["link", "delete", "dev", tap], netns).await?;
    }
    if host_program("nft", &["list", "table", "bridge", tap], netns).await.is_ok() {
        host_program("nft", &["delete", "table", "bridge", tap], netns).await?;
    }
    Ok(())
}

/// A table of its own for each device. ARP is looked into as well: a neighbour may not be claimed by what it says.
fn filter(tap: &str, mac: &str) -> String {
    format!(
        "add table bridge {tap}; \
         add chain bridge {tap} from-guest {{ type filter hook prerouting priority -300; policy accept; }}; \
         add rule bridge {tap} from-guest iifname \"{tap}\" ether saddr != {mac} counter drop; \
         add rule bridge {tap} from-guest iifname \"{tap}\" arp saddr ether != {mac} counter drop"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_differ_by_machine_and_card() {
        let one: VmId = "0198c0de-0000-7000-8000-000000000001".parse().unwrap();
        let other: VmId = "0198c0de-0000-7000-8000-000000000002".parse().unwrap();
        assert!(tap_name(one, 7).len() <= 15);
        assert_ne!(tap_name(one, 0), tap_name(one, 1));
        assert_ne!(tap_name(one, 0), tap_name(other, 0));
        assert_eq!(tap_name(one, 0), tap_name(one, 0));
    }
}
