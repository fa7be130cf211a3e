//! Many clients at once: what one of them was told is done is done, whenever the process dies.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::server::Server;
use super::tls::Remote;

const CLIENTS: usize = 24;

#[test]
fn a_kill_amid_many_clients_loses_nothing_that_was_acknowledged() {
    let mut server = Server::simulated();
    server.import(&[("disk.raw", "disk")]);
    server.ok(&["vm", "create", "template", "--disk", "disk.raw"]);
    let spec = server.vm("template")["spec"].clone();
    let mut promised = BTreeSet::from(["template".to_owned()]);
    for round in 0..3 {
        let killed = AtomicBool::new(false);
        let told: Vec<Vec<String>> = std::thread::scope(|scope| {
            let (server_now, killed, spec) = (&server, &killed, &spec);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| scope.spawn(move || describes(server_now, killed, spec, &format!("m{round}-{client}"))))
                .collect();
            std::thread::sleep(Duration::from_millis(1_500));
            server_now.signal(rustix::process::Signal::KILL);
            killed.store(true, Ordering::SeqCst);
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let before = promised.len();
        promised.extend(told.into_iter().flatten());
        assert!(promised.len() > before + CLIENTS, "the kill met a busy server");
        server.kill();
        server.up(None);
        let names = listed(&server);
        let lost: Vec<&String> = promised.difference(&names).collect();
        assert!(lost.is_empty(), "acknowledged, and lost: {lost:?}");
        // Each machine has its record and its event: also one whose answer the kill had cut off.
        server.ok(&["audit", "verify"]);
        let created = server.events("vm.created").len();
        assert_eq!(created, names.len(), "as many events as machines");
        assert!(server.events("vm.changed").is_empty(), "that a machine never ran is no news after a restart");
    }
}

/// Describes one machine after the other until the process dies; returns the names that it acknowledged.
fn describes(server: &Server, killed: &AtomicBool, spec: &Value, prefix: &str) -> Vec<String> {
    let client = Remote::at_socket(server);
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let name = format!("{prefix}-{number}");
        let mut spec = spec.clone();
        spec["name"] = json!(name);
        match client.try_post("/v1/vms", &spec) {
            Ok(answer) if answer.status == 201 => acknowledged.push(name),
            Ok(answer) if answer.status == 429 => std::thread::sleep(Duration::from_millis(20)),
            Ok(answer) => panic!("{}: {}", answer.status, answer.body),
            Err(error) => {
                // The answer may be cut off before whoever killed the process has said so.
                std::thread::sleep(Duration::from_millis(200));
                assert!(killed.load(Ordering::SeqCst), "{error}");
                break;
            }
        }
    }
    acknowledged
}

/// The names of all machines, page by page.
fn listed(server: &Server) -> BTreeSet<String> {
    let client = Remote::at_socket(server);
    let (mut names, mut after) = (BTreeSet::new(), String::new());
    loop {
        let page = client.get(&format!("/v1/vms?limit=200&after={after}")).unwrap().json();
        names.extend(page["items"].as_array().unwrap().iter().map(|vm| vm["name"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => return names,
        }
    }
}
