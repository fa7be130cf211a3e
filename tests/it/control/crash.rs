//! Kill -9 at every point that the code names, while images come in and machines are described, started, kept and
//! stopped: the next process converges, nothing runs twice, nothing is half, and nothing that was acknowledged is lost.

use std::collections::BTreeSet;

use debvisor::kill::KillPoint;

use super::server::Server;

/// What somebody does, one verb after the other.
const ACTS: &[(&str, &[&str])] = &[
    ("import kernel", &["image", "import", "kernel", "--kind", "kernel"]),
    ("import disk", &["image", "import", "disk.raw", "--kind", "disk"]),
    ("create", &["vm", "create", "web", "--kernel", "kernel", "--disk", "disk.raw"]),
    ("start", &["vm", "start", "web"]),
    ("snapshot", &["vm", "snapshot", "create", "web", "s1"]),
    ("stop", &["vm", "stop", "web"]),
    ("delete image", &["image", "delete", "other.raw"]),
];

/// Points of a real machine: they are passed with a real QEMU alone. (The driver's own tests, tests/vm/crash.rs, walk
/// them without the process around it.)
fn is_real(point: KillPoint) -> bool {
    point.name().starts_with("machine-")
}

/// Points of backups and of migrations: they are walked beside what is tested of these.
fn is_elsewhere(point: KillPoint) -> bool {
    ["backup-", "restore-", "migration-"].iter().any(|act| point.name().starts_with(act))
}

const SIMULATED: &str = "kind = \"simulated\"\nboot-id = \"first\"";
const REAL: &str = "kind = \"qemu\"\naccelerator = \"tcg\"\nboot-id = \"first\"";

#[test]
fn whatever_point_the_process_dies_at_the_next_one_converges() {
    walk(SIMULATED, |point| !is_real(point) && !is_elsewhere(point), u32::MAX);
}

#[test]
fn whatever_point_of_a_real_machine_the_process_dies_at_the_next_one_converges() {
    if rustix::process::geteuid().is_root() {
        // A real machine comes by each of them once.
        walk(REAL, is_real, 1);
    } else {
        println!("passed over: machines have users of their own, and only root can give them one");
    }
}

/// Dies at each of these points, as often as the acts come by it, and so often at most.
fn walk(hypervisor: &str, is_walked: impl Fn(KillPoint) -> bool, most: u32) {
    let mut passed = BTreeSet::new();
    let mut deaths = 0;
    let points: Vec<KillPoint> = KillPoint::ALL.iter().copied().filter(|point| is_walked(*point)).collect();
    for point in &points {
        for count in 1..=most {
            if !dies_and_converges(hypervisor, *point, count) {
                break;
            }
            passed.insert(point.name());
            deaths += 1;
        }
    }
    let missed: Vec<&str> = points.iter().map(|point| point.name()).filter(|name| !passed.contains(name)).collect();
    assert!(missed.is_empty(), "points that no act comes by: {missed:?}");
    println!("{deaths} deaths at {} points", passed.len());
}

/// Arms the point to kill at its `count`th pass; whether the process died of it.
fn dies_and_converges(hypervisor: &str, point: KillPoint, count: u32) -> bool {
    let at = format!("{}:{count}", point.name());
    let mut server = Server::new(hypervisor, "");
    server.ok(&["image", "import", "other.raw", "--kind", "disk"]);
    assert_eq!(server.terminate(), Some(0));
    let mut died = !server.up(Some(&at));
    if died {
        server.up(None);
    }
    for (act, args) in ACTS {
        let output = server.cli(args);
        if output.status.success() {
            assert_done(&mut server, act, &at);
            continue;
        }
        // A process that has just killed itself may still be on its way out.
        for _ in 0..100 {
            if server.has_died() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!died && server.has_died(), "{at}: {act} failed, and nobody died: {told}");
        died = true;
        server.up(None);
        // Who saw no answer asks again; that it is there by now is an answer too.
        let again = server.cli(args);
        let told = String::from_utf8_lossy(&again.stderr).into_owned();
        let there = told.contains("exists already") || told.contains("there is no image");
        assert!(again.status.success() || there, "{at}: {act} again: {told}\n{}", server.log());
        assert_done(&mut server, act, &at);
    }
    // It may have died after the last answer was given.
    if !died && server.has_died() {
        died = true;
        server.up(None);
        for (act, _) in ACTS {
            assert_done(&mut server, act, &at);
        }
    }
    assert!(processes(&server).is_empty(), "{at}: it was stopped, and runs");
    if died {
        assert_nothing_half(&server, &at);
    }
    died
}

/// What was acknowledged is so.
fn assert_done(server: &mut Server, act: &str, at: &str) {
    if server.has_died() {
        server.up(None);
    }
    let has_image = |name: &str| {
        let images = server.json(&["image", "list"]);
        images.as_array().unwrap().iter().any(|image| image["name"] == name)
    };
    assert!(processes(server).len() <= 1, "{at}: it runs twice after {act}");
    match act {
        "import kernel" => assert!(has_image("kernel"), "{at}: the kernel is lost"),
        "import disk" => assert!(has_image("disk.raw"), "{at}: the disk is lost"),
        "create" => assert_eq!(server.vm("web")["name"], "web", "{at}"),
        "snapshot" => assert_eq!(server.vm("web")["observed"]["snapshots"][0], "s1", "{at}"),
        "stop" => assert_eq!(server.power("web"), "stopped", "{at}"),
        "delete image" => assert!(!has_image("other.raw"), "{at}: the image is back"),
        _ => {}
    }
}

/// The processes that run machines of this server; the simulated ones have none.
fn processes(server: &Server) -> Vec<u32> {
    let machines = std::fs::read_dir(server.state().join("machines")).into_iter().flatten().flatten();
    let ids: Vec<String> = machines.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let is_ours = |pair: &[&[u8]]| pair[0] == b"-uuid" && ids.iter().any(|id| id.as_bytes() == pair[1]);
        if words.windows(2).any(is_ours) {
            found.extend(entry.file_name().to_string_lossy().parse::<u32>());
        }
    }
    found
}

fn assert_nothing_half(server: &Server, at: &str) {
    let machines = std::fs::read_dir(server.state().join("machines")).unwrap();
    let names: Vec<String> = machines.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().all(|name| !name.ends_with(".twice")), "{at}: a machine would have run twice: {names:?}");
    for image in ["kernel", "disk.raw"] {
        assert_eq!(server.json(&["image", "show", image])["decision"], "allow", "{at}: {image}");
        server.ok(&["image", "verify", image]);
    }
    let operations = server.json(&["vm", "operations", "web"]);
    for operation in operations.as_array().unwrap() {
        assert!(operation["ended_at"].is_string(), "{at}: an operation without an end: {operation}");
    }
    server.ok(&["audit", "verify"]);
}
