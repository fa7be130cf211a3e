//! The figures: that others can read them, that no word from outside becomes a label, and who may see them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::server::Server;
use super::tls::{Remote, listening};

/// Reads OpenMetrics by the reference client, which is strict; one line a sample.
const PARSE: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
for family in parse(sys.stdin.read()):
    for sample in family.samples:
        print(sample.name, sorted(sample.labels.items()), sample.value)
";

fn parsed(text: &str) -> Vec<String> {
    let mut python = Command::new("/usr/bin/python3");
    let mut child =
        python.args(["-c", PARSE]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn figures_are_openmetrics_and_count_what_was_done() {
    let server = Server::simulated();
    server.import(&[("kernel", "kernel"), ("disk.raw", "disk")]);
    server.ok(&["vm", "create", "web", "--kernel", "kernel", "--disk", "disk.raw", "--start"]);
    let client = Remote::at_socket(&server);
    let answer = client.get("/metrics").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let samples = parsed(&answer.body);
    let value = |begins: &str| -> f64 {
        let found: Vec<&String> = samples.iter().filter(|sample| sample.starts_with(begins)).collect();
        assert!(!found.is_empty(), "there is no {begins} in {samples:#?}");
        found.iter().map(|sample| sample.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    assert_eq!(value("debvisor_vms [('held', 'false'), ('power', 'running')]"), 1.0);
    assert_eq!(value("debvisor_steps_total [('outcome', 'done'), ('step', 'start')]"), 1.0);
    assert_eq!(value("debvisor_admission_decisions_total [('code', 'none'), ('outcome', 'allowed')]"), 1.0);
    assert_eq!(value("debvisor_images ["), 2.0);
    assert_eq!(value("debvisor_images_size_bytes"), 270_000.0);
    assert!(
        value("debvisor_http_request_seconds_count [('method', 'POST'), ('route', '/v1/vms'), ('status', '2xx')]")
            >= 1.0
    );
    assert_eq!(value("debvisor_http_requests_in_flight"), 1.0, "this one");
    for more in [
        "debvisor_reconcile_pass_seconds_count",
        "debvisor_store_commit_seconds_count",
        "debvisor_store_commit_writes_sum",
        "debvisor_events",
        "debvisor_audit_records",
        "debvisor_process_resident_memory_bytes",
        "debvisor_process_open_fds",
        "debvisor_process_cpu_seconds_total",
    ] {
        assert!(value(more) > 0.0, "{more}");
    }
    assert_eq!(value("debvisor_quarantines"), 0.0);
    assert!(value("debvisor_store_writes_waiting") <= 1.0, "each of those that were made was answered");
}

#[test]
fn no_word_of_a_client_becomes_a_label() {
    let server = Server::simulated();
    let client = Remote::at_socket(&server);
    for number in 0..40 {
        client.get(&format!("/v1/vms/stranger-{number}")).unwrap();
        client.get(&format!("/nowhere-{number}/at-all")).unwrap();
        client.send(&format!("BREW{number}"), "/v1/vms", &[("x-request-id", &format!("label-{number}"))]).unwrap();
    }
    let text = client.get("/metrics").unwrap().body;
    for word in ["stranger", "nowhere", "BREW", "label-"] {
        assert!(!text.contains(word), "{word} is in {text}");
    }
    let series: BTreeSet<&str> =
        text.lines().filter(|line| line.starts_with("debvisor_http_request_seconds_count")).collect();
    assert!(series.len() <= 6, "{series:#?}");
    assert!(series.iter().any(|line| line.contains("route=\"/v1/vms/{vm}\"")), "{series:#?}");
    assert!(series.iter().any(|line| line.contains("route=\"unmatched\"")), "{series:#?}");
}

#[test]
fn figures_are_for_who_may_see_them_and_for_the_addresses_of_the_configuration() {
    let (server, address) = listening("", &[]);
    assert_eq!(Remote::new(&server, address).get("/metrics").unwrap().status, 401);
    drop(server);
    let (server, address) = listening("[metrics]\nallow = [\"127.0.0.0/8\"]", &[]);
    let client = Remote::new(&server, address);
    assert_eq!(client.get("/metrics").unwrap().status, 200);
    // That, and nothing else.
    assert_eq!(client.get("/v1/vms").unwrap().status, 401);
    assert_eq!(client.get("/metrics/../v1/vms").unwrap().status, 401);
    drop(server);
    let (server, address) = listening("[metrics]\nallow = [\"192.0.2.1\"]", &[]);
    assert_eq!(Remote::new(&server, address).get("/metrics").unwrap().status, 401);
}
