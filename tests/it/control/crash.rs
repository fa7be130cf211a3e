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

/// Points that this sequence cannot pass, each with the reason.
fn is_elsewhere(point: KillPoint) -> bool {
    // Those of a real machine are walked with a real QEMU, below src/node/hypervisor/qemu; those of backups and of
    // migrations beside what is tested of these.
    ["machine-", "backup-", "restore-", "migration-"].iter().any(|act| point.name().starts_with(act))
}

#[test]
fn whatever_point_the_process_dies_at_the_next_one_converges() {
    let mut passed = BTreeSet::new();
    let mut deaths = 0;
    for point in KillPoint::ALL.iter().copied().filter(|point| !is_elsewhere(*point)) {
        for count in 1.. {
            if !dies_and_converges(point, count) {
                break;
            }
            passed.insert(point.name());
            deaths += 1;
        }
    }
    let missed: Vec<&str> = KillPoint::ALL
        .iter()
        .filter(|point| !is_elsewhere(**point) && !passed.contains(point.name()))
        .map(|point| point.name())
        .collect();
    assert!(missed.is_empty(), "points that no act comes by: {missed:?}");
    println!("{deaths} deaths at {} points", passed.len());
}

/// Arms the point to kill at its `count`th pass; whether the process died of it.
fn dies_and_converges(point: KillPoint, count: u32) -> bool {
    let at = format!("{}:{count}", point.name());
    let mut server = Server::simulated();
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
