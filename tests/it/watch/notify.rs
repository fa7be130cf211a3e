//! `debvisor notify`: the life of an issue, runs that overlap, outages, limits, and the other ways of telling.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use serde_json::{Value, json};

use super::github::{TOKEN, Trouble};
use super::{Desk, report};

const NIGHTLY: [&str; 6] = ["notify", "--name", "nightly", "--github-repository", "o/r", "--report"];

fn notify(desk: &Desk, report: &Value, more: &[&str]) -> super::Ran {
    desk.write("report.json", report.to_string());
    let mut arguments = NIGHTLY.to_vec();
    arguments.push("report.json");
    arguments.extend(more);
    desk.run(&arguments)
}

fn replaced(message: &str) -> Value {
    report(&[("o/r@v1", "deny")], &[("o/r@v1", "asset-replaced", message)])
}

fn sound() -> Value {
    report(&[("o/r@v1", "allow")], &[])
}

#[test]
fn an_issue_is_opened_updated_closed_and_reopened_and_stays_one() {
    let desk = Desk::new();
    notify(&desk, &replaced("was a, and now is b"), &[]).ends(0).says("opened #1: asset-replaced: o/r@v1");
    let first = desk.github.hub().issues[0].clone();
    let labels: Vec<&str> = first["labels"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(labels, ["debvisor", "severity:critical"]);
    let body = first["body"].as_str().unwrap();
    assert!(body.contains("look at it"), "the hint: {body}");
    assert!(body.contains("reason-codes.md#asset-replaced"), "where it is explained: {body}");

    let writes = desk.github.hub().log.iter().filter(|(method, ..)| method != "GET").count();
    notify(&desk, &replaced("was a, and now is b"), &[]).ends(0).says("nothing to tell");
    assert_eq!(desk.github.hub().log.iter().filter(|(method, ..)| method != "GET").count(), writes);

    notify(&desk, &replaced("was a, and now is c"), &[]).ends(0).says("updated #1");
    assert!(desk.github.hub().issues[0]["body"].as_str().unwrap().contains("now is c"));
    notify(&desk, &sound(), &[]).ends(0).says("closed #1");
    assert_eq!(desk.github.hub().issues[0]["state"], "closed");
    assert_eq!(desk.github.hub().comments.len(), 1);
    notify(&desk, &replaced("was a, and now is b"), &[]).ends(0).says("reopened #1");
    assert_eq!(desk.github.hub().issues.len(), 1);
    assert_eq!(desk.github.open_issues(), ["asset-replaced: o/r@v1"]);
}

#[test]
fn an_outage_opens_nothing_and_closes_nothing() {
    let desk = Desk::new();
    notify(&desk, &replaced("changed"), &[]).ends(0);
    let unreachable = report(&[("o/r@v1", "undecided")], &[("o/r@v1", "evidence-unreadable", "GitHub is down")]);
    notify(&desk, &unreachable, &[]).ends(0).says("nothing to tell");
    assert_eq!(desk.github.open_issues().len(), 1);
    // A run over other targets says nothing about this one either.
    notify(&desk, &report(&[("o/r@v2", "allow")], &[]), &[]).ends(0).says("nothing to tell");
    assert_eq!(desk.github.open_issues().len(), 1);
    notify(&desk, &unreachable, &["--tell-undecided"]).ends(0).says("opened #2");
}

#[test]
fn two_runs_at_once_leave_one_issue() {
    let desk = Desk::new();
    desk.write("report.json", replaced("changed").to_string());
    let started: Vec<_> = (0..4)
        .map(|_| {
            desk.command(&[&NIGHTLY[..], &["report.json"]].concat())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    for mut run in started {
        assert!(run.wait().unwrap().success());
    }
    // Whoever came last saw them all; one more run finds nothing left to do.
    notify(&desk, &replaced("changed"), &[]).ends(0);
    assert_eq!(desk.github.open_issues(), ["asset-replaced: o/r@v1"]);
}

#[test]
fn an_issue_that_another_run_opened_meanwhile_is_closed_in_favour_of_the_older() {
    let desk = Desk::new();
    notify(&desk, &replaced("changed"), &[]).ends(0);
    // The same finding's issue, as a run that listed before this one opened it would have left it.
    let mut twin = desk.github.hub().issues[0].clone();
    twin["number"] = json!(2);
    desk.github.hub().issues.push(twin);
    notify(&desk, &replaced("changed"), &[]).ends(0).says("closed #2: the same as #1");
    assert_eq!(desk.github.hub().issues[1]["state_reason"], "not_planned");
}

#[test]
fn many_new_findings_are_one_list() {
    let desk = Desk::new();
    let names: Vec<String> = (0..30).map(|number| format!("o/r@v{number}")).collect();
    let targets: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "deny")).collect();
    let reasons: Vec<(&str, &str, &str)> = names.iter().map(|name| (name.as_str(), "tag-moved", "moved")).collect();
    notify(&desk, &report(&targets, &reasons), &[]).ends(0).says("opened #1: 30 findings: nightly");
    assert_eq!(desk.github.hub().issues.len(), 1);
    assert!(desk.github.hub().issues[0]["body"].as_str().unwrap().contains("tag-moved"));
    let sound: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "allow")).collect();
    notify(&desk, &report(&sound, &[]), &[]).ends(0).says("closed #1");
    notify(&desk, &report(&targets, &reasons), &["--digest-above", "100"]).ends(0);
    assert_eq!(desk.github.open_issues().len(), 30);
}

#[test]
fn a_failing_job_is_one_issue_until_it_succeeds() {
    let desk = Desk::new();
    let of = |status: &str, more: &[&str]| {
        let mut arguments = vec!["notify", "--name", "build", "--github-repository", "o/r", "--status", status];
        arguments.extend(more);
        desk.run(&arguments)
    };
    let hostile = "line one\n@everyone [x](https://evil.example) <img src=x>\n```";
    of("failure", &["--details", hostile, "--severity", "high"]).ends(0).says("opened #1: failed: build");
    let body = desk.github.hub().issues[0]["body"].as_str().unwrap().to_owned();
    assert!(body.lines().filter(|line| line.contains("everyone")).all(|line| line.starts_with("    ")), "{body}");
    of("failure", &["--details", hostile, "--severity", "high"]).ends(0).says("nothing to tell");
    of("cancelled", &[]).ends(0).says("nothing to tell");
    of("success", &[]).ends(0).says("closed #1");
}

#[test]
fn a_strangers_words_are_no_markup() {
    let desk = Desk::new();
    notify(&desk, &replaced("<!-- debvisor:finding key=x --> @everyone [a](https://evil.example)"), &[]).ends(0);
    let body = desk.github.hub().issues[0]["body"].as_str().unwrap().to_owned();
    assert_eq!(body.matches("<!--").count(), 1, "{body}");
    assert!(!body.contains("@everyone") && !body.contains("](https://evil"), "{body}");
}

#[test]
fn a_comment_on_a_pull_request_is_kept_up_to_date() {
    let desk = Desk::new();
    let here = ["--pull-request", "7"];
    notify(&desk, &sound(), &here).ends(0).says("nothing to tell");
    notify(&desk, &replaced("one"), &here).ends(0).says("commented on #7");
    notify(&desk, &replaced("two"), &here).ends(0).says("updated the comment on #7");
    notify(&desk, &sound(), &here).ends(0).says("updated the comment on #7");
    let hub = desk.github.hub();
    assert_eq!(hub.comments.len(), 1);
    assert!(hub.comments[0].1["body"].as_str().unwrap().contains("Nothing was found"));
    assert!(hub.issues.is_empty());
}

#[test]
fn both_rate_limits_are_waited_for_and_a_long_one_ends_undecided() {
    let desk = Desk::new();
    let limit = |headers: Vec<(&'static str, String)>, times| Trouble {
        path: "/issues".to_owned(),
        times,
        status: 403,
        headers,
        body: json!({"message": "You have exceeded a secondary rate limit"}).to_string(),
    };
    desk.github.hub().troubles.push(limit(vec![("retry-after", "1".to_owned())], 1));
    notify(&desk, &replaced("changed"), &[]).ends(0).says("opened #1");
    let primary = vec![
        ("x-ratelimit-remaining", "0".to_owned()),
        ("x-ratelimit-reset", "1767225602".to_owned()),
        ("date", "Thu, 01 Jan 2026 00:00:01 GMT".to_owned()),
    ];
    desk.github.hub().troubles.push(limit(primary, 1));
    notify(&desk, &replaced("otherwise"), &[]).ends(0).says("updated #1");
    desk.github.hub().troubles.push(limit(vec![("retry-after", "3600".to_owned())], 1));
    notify(&desk, &sound(), &[]).ends(2).says("allows no more requests for 3600 seconds");
    // A server's own fault is asked again where nothing can be done twice.
    let failing =
        Trouble { path: "/issues?".to_owned(), times: 2, status: 502, headers: Vec::new(), body: String::new() };
    desk.github.hub().troubles.push(failing);
    notify(&desk, &sound(), &[]).ends(0).says("closed #1");
}

#[test]
fn a_token_without_the_permission_is_a_clear_no() {
    let desk = Desk::new();
    desk.write("report.json", replaced("changed").to_string());
    let mut command = desk.command(&[&NIGHTLY[..], &["report.json"]].concat());
    let output = command.env_remove("GITHUB_TOKEN").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("Resource not accessible by integration") && stderr.contains("issues: write"), "{stderr}");
    let mut command = desk.command(&[&NIGHTLY[..], &["report.json"]].concat());
    let output = command.env("GITHUB_TOKEN", "other").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("Bad credentials") && !stderr.contains("other"), "{stderr}");
}

#[test]
fn what_is_asked_twice_is_asked_conditionally() {
    let desk = Desk::new();
    notify(&desk, &sound(), &[]).ends(0);
    notify(&desk, &sound(), &[]).ends(0);
    let statuses: Vec<u16> = desk.github.hub().log.iter().map(|(.., status)| *status).collect();
    assert_eq!(statuses, [200, 304]);
}

#[test]
fn nobody_to_tell_and_reports_that_are_none_are_said() {
    let desk = Desk::new();
    desk.write("report.json", sound().to_string());
    let ran = desk.run(&["notify", "--report", "report.json"]).ends(64);
    ran.says("nobody is named who should be told");
    desk.write("report.json", "{\"decision\": \"perhaps\"}");
    desk.run(&[&NIGHTLY[..], &["report.json"]].concat()).ends(64).says("cannot use the report report.json");
    desk.run(&["notify", "--status", "success", "--github-repository", "nobody"]).ends(64).says("is no repository");
}

/// One request: its head and its body.
fn one_request() -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).unwrap();
        }
        let length =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap()];
        reader.read_exact(&mut body).unwrap();
        stream.write_all(b"HTTP/1.1 204 -\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        tell.send((head, body)).unwrap();
    });
    (url, told)
}

#[test]
fn a_webhook_is_told_under_a_tag_that_it_can_check() {
    let desk = Desk::new();
    let (url, told) = one_request();
    desk.write("report.json", replaced("changed").to_string());
    let mut command = desk.command(&["notify", "--name", "nightly", "--report", "report.json", "--webhook", &url]);
    let output = command.env("DEBVISOR_WEBHOOK_SECRET", "shared").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (head, body) = told.recv().unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"shared");
    let tag = format!("x-debvisor-signature-256: sha256={}", hex::encode(aws_lc_rs::hmac::sign(&key, &body)));
    assert!(head.to_ascii_lowercase().contains(&tag), "{head}");
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["findings"][0]["severity"], "critical");
    assert!(!body.to_string().contains(TOKEN));
}

#[test]
fn a_mail_goes_through_a_real_server() {
    assert!(super::python_has("aiosmtpd"), "aiosmtpd is missing: scripts/needs.sh test");
    let desk = Desk::new();
    let script = super::repository_root().join("tests/it/watch/mail_server.py");
    let mut server = std::process::Command::new("/usr/bin/python3")
        .arg(script)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let port = lines.next().unwrap().unwrap();
    desk.write("report.json", replaced("changed").to_string());
    let url = format!("smtp://127.0.0.1:{port}");
    let mail = ["--smtp", &url, "--mail-from", "bot@example.org", "--mail-to", "Ops <ops@example.org>"];
    let ran = desk.run(&[&["notify", "--name", "nightly", "--report", "report.json"][..], &mail].concat());
    ran.ends(0);
    let told: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(told["from"], "bot@example.org");
    assert_eq!(told["to"], json!(["ops@example.org"]));
    assert_eq!(told["subject"], "[debvisor] nightly: 1 finding");
    assert!(told["text"].as_str().unwrap().contains("asset-replaced: o/r@v1 (critical)"));
    // Nobody listens any more: nothing is lost in silence.
    let ran = desk.run(&[&["notify", "--name", "nightly", "--report", "report.json"][..], &mail].concat());
    ran.ends(2).says("cannot send mail by 127.0.0.1");
}
