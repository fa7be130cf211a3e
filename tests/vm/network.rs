//! A bridge, and a guest that pretends to be another: in a network namespace of its own, so that the host keeps its own.

use std::os::unix::fs::MetadataExt as _;

use super::*;

/// A namespace with a bridge in it, until it is dropped.
struct Namespace {
    name: String,
}

impl Namespace {
    fn new() -> Self {
        let name = format!("dv{}", std::process::id());
        run("ip", &["netns", "add", &name]);
        let made = Self { name };
        made.inside(&["ip", "link", "set", "lo", "up"]);
        made.inside(&["ip", "link", "add", "br0", "type", "bridge"]);
        made.inside(&["ip", "address", "add", "10.9.0.1/24", "dev", "br0"]);
        made.inside(&["ip", "link", "set", "br0", "up"]);
        made
    }

    fn inside(&self, words: &[&str]) -> String {
        run("ip", &[&["netns", "exec", &self.name], words].concat())
    }

    fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_on_a_bridge_speaks_under_its_own_address_alone() {
    if !is_root("a bridge, a tap device and their filter") {
        return;
    }
    // As udev sets it; in a container or on a bare machine it may be root's alone.
    if fs::metadata("/dev/net/tun").unwrap().mode() & 0o006 != 0o006 {
        fs::set_permissions("/dev/net/tun", PermissionsExt::from_mode(0o666)).unwrap();
    }
    let namespace = Namespace::new();
    let host = Host::new().await;
    let settings = Settings { netns: Some(namespace.path()), ..host.settings() };
    let driver = Qemu::open(settings.clone()).await.unwrap();
    let vm = new_vm();
    let mut launch = launch(vm);
    launch.spec.nics.push(Nic { network: Network::Bridge { bridge: "br0".to_owned() }, ..user_nic() });
    let mut console = boot(&driver, launch).await;
    let tap = super::super::network::tap_name(vm, 0);
    assert!(namespace.inside(&["ip", "link", "show", "master", "br0"]).contains(&tap));

    console.ask("up eth0 10.9.0.2/24", "up").await;
    assert_eq!(console.ask("ping 10.9.0.1", "ping").await, "yes");
    // Another address, and nothing of it gets out; its own again, and everything does.
    console.ask("mac eth0 52:54:00:00:00:66", "mac").await;
    assert_eq!(console.ask("ping 10.9.0.1", "ping").await, "no");
    let counted = namespace.inside(&["nft", "list", "table", "bridge", &tap]);
    let dropped = counted.lines().any(|line| line.contains("drop") && !line.contains("packets 0"));
    assert!(dropped, "{counted}");
    assert!(!namespace.inside(&["bridge", "fdb", "show", "br", "br0"]).contains("52:54:00:00:00:66"));
    let own = crate::node::hypervisor::qemu::args::mac_of(vm, 0);
    console.ask(&format!("mac eth0 {own}"), "mac").await;
    assert_eq!(console.ask("ping 10.9.0.1", "ping").await, "yes");

    // After a crash of both, agent and machine, nothing of it stays.
    let pid = seen(&driver, vm).await.pid.unwrap();
    drop(console);
    drop(driver);
    super::super::process::Process::of(pid).unwrap().kill().unwrap();
    let gone = async {
        while Path::new(&format!("/proc/{pid}/fd/0")).exists() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(10), gone).await.unwrap();
    let driver = Qemu::open(settings).await.unwrap();
    seen(&driver, vm).await;
    assert!(!namespace.inside(&["ip", "link", "show"]).contains(&tap));
    assert!(!namespace.inside(&["nft", "list", "tables"]).contains(&tap));
}
