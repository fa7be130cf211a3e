//! Answers that GitHub really gave, recorded in the npm package @octokit/fixtures: our client must read them, and the
//! stand-in beside this file must not give what GitHub does not.
//!
//! Recorded are releases and their assets, references, issues, pages, entity tags, errors and a moved repository. Not
//! recorded, so that nothing here says anything of them: attestations, comments, annotated tags, the download of an
//! asset, an answer 304, and rate limits that are used up.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use debvisor::clients::github::{Github, GithubError, Repository, Settings};
use serde_json::{Value, json};

use super::{github, repository_root};

/// One exchange of a scenario.
#[derive(Debug, Clone)]
struct Recorded {
    method: String,
    path: String,
    status: u64,
    response: Value,
    headers: Vec<(String, String)>,
}

/// The exchanges of a scenario, in order.
fn scenario(name: &str) -> Vec<Recorded> {
    let folder = "target/tools/octokit-fixtures/node_modules/@octokit/fixtures/scenarios/api.github.com";
    let path = repository_root().join(folder).join(name).join("raw-fixture.json");
    let text = std::fs::read(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; scripts/octokit-fixtures.sh installs it", path.display()));
    let exchanges: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let headers = |exchange: &Value| {
        let flat: Vec<String> = exchange["rawHeaders"].as_array().unwrap().iter().map(text).collect();
        flat.chunks(2).map(|pair| (pair[0].to_ascii_lowercase(), pair[1].clone())).collect()
    };
    let read = |exchange: &Value| Recorded {
        method: text(&exchange["method"]).to_ascii_uppercase(),
        path: text(&exchange["path"]),
        status: exchange["status"].as_u64().unwrap(),
        response: exchange["response"].clone(),
        headers: headers(exchange),
    };
    exchanges.iter().map(read).collect()
}

/// The first exchange of a scenario with this method and a path that ends so.
fn exchange(name: &str, method: &str, ends: &str) -> Recorded {
    let found = scenario(name).into_iter().find(|one| one.method == method && one.path.ends_with(ends));
    found.unwrap_or_else(|| panic!("{name} has no {method} …{ends}"))
}

/// Where the recordings were made; a redirect to it leads to the server that plays them.
const GITHUB: &str = "https://api.github.com";

/// What a request said: method, path, `If-None-Match`.
type Asked = (String, String, Option<String>);

/// A server that gives these answers in turn, byte for byte as to body and the headers that matter; a request that is
/// conditional on an answer's own entity tag is told 304.
fn replay(answers: Vec<Recorded>) -> (Settings, Arc<Mutex<Vec<Asked>>>, tempfile::TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let own = base.clone();
    let asked = Arc::<Mutex<Vec<Asked>>>::default();
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for (stream, answer) in listener.incoming().zip(answers) {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let head: Vec<String> =
                reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let header = |name: &str| {
                head.iter().find_map(|line| {
                    let (found, value) = line.split_once(": ")?;
                    found.eq_ignore_ascii_case(name).then(|| value.to_owned())
                })
            };
            let length = header("content-length").map_or(0, |length| length.parse().unwrap());
            reader.read_exact(&mut vec![0; length]).unwrap();
            let mut words = head[0].split(' ').map(str::to_owned);
            let condition = header("if-none-match");
            log.lock().unwrap().push((words.next().unwrap(), words.next().unwrap(), condition.clone()));
            let kept = |(name, _): &&(String, String)| ["etag", "link", "date", "location"].contains(&name.as_str());
            let headers: String = answer
                .headers
                .iter()
                .filter(kept)
                .map(|(name, value)| format!("{name}: {}\r\n", value.replace(GITHUB, &own)))
                .collect();
            let tag = answer.headers.iter().find(|(name, _)| name == "etag").map(|(_, tag)| tag);
            let (status, body) = if condition.is_some() && condition.as_ref() == tag {
                (304, String::new())
            } else {
                (answer.status, answer.response.to_string())
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status} x\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        }
    });
    let cache = tempfile::tempdir().unwrap();
    let settings = Settings {
        base: base.parse().unwrap(),
        token: None,
        patience: Duration::from_secs(1),
        pause: Duration::from_millis(1),
        cache: Some(cache.path().to_owned()),
    };
    (settings, asked, cache)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn repository() -> Repository {
    Repository::parse("o/r").unwrap()
}

#[test]
fn our_client_reads_a_release_and_its_assets_as_github_gave_them() {
    let release = exchange("release-assets", "GET", "/releases/tags/v1.0.0");
    let mut with_assets = release.clone();
    with_assets.response["assets"] = exchange("release-assets", "GET", "/assets").response;
    let mut list = with_assets.clone();
    list.response = json!([with_assets.response]);
    let (settings, _, _cache) = replay(vec![release.clone(), with_assets.clone(), list]);
    runtime().block_on(async {
        let client = Github::new(settings).unwrap();
        let read = client.release_by_tag(&repository(), "v1.0.0").await.unwrap();
        assert_eq!(read.id, release.response["id"].as_u64().unwrap());
        assert_eq!((read.tag_name.as_str(), read.draft, read.assets.len()), ("v1.0.0", false, 0));
        assert_eq!(read.html_url, release.response["html_url"].as_str().unwrap());
        // Another tag, so that what was kept of the first is not asked for.
        let read = client.release_by_tag(&repository(), "v1").await.unwrap();
        let (asset, recorded) = (&read.assets[0], &with_assets.response["assets"][0]);
        assert_eq!(asset.id, recorded["id"].as_u64().unwrap());
        assert_eq!(asset.size, recorded["size"].as_u64().unwrap());
        assert_eq!((asset.name.as_str(), asset.state.as_str()), ("test-upload.txt", "uploaded"));
        assert_eq!(asset.updated_at, recorded["updated_at"].as_str().unwrap());
        assert_eq!(client.release_list(&repository(), 10).await.unwrap(), [read]);
    });
}

#[test]
fn our_client_walks_the_pages_that_github_linked() {
    let pages: Vec<Recorded> = scenario("paginate-issues").into_iter().filter(|one| one.method == "GET").collect();
    let told: Vec<u64> = pages
        .iter()
        .flat_map(|page| page.response.as_array().unwrap())
        .map(|issue| issue["number"].as_u64().unwrap())
        .collect();
    assert!(pages.len() > 2 && told.len() > 10, "the recording has pages");
    let count = pages.len();
    let (settings, asked, _cache) = replay(pages);
    let issues = runtime().block_on(async {
        let client = Github::new(settings).unwrap();
        client.issue_list(&repository(), "debvisor").await.unwrap()
    });
    assert_eq!(issues.iter().map(|issue| issue.number).collect::<Vec<_>>(), told);
    assert!(issues.iter().all(|issue| issue.state == "open" && issue.body.is_none()));
    // It stops at the last page because GitHub links no next one.
    assert_eq!(asked.lock().unwrap().len(), count);
}

#[test]
fn our_client_sends_githubs_entity_tag_back_and_uses_what_it_kept() {
    let answer = exchange("release-assets", "GET", "/releases/tags/v1.0.0");
    let tag = answer.headers.iter().find(|(name, _)| name == "etag").unwrap().1.clone();
    let (settings, asked, _cache) = replay(vec![answer.clone(), answer]);
    runtime().block_on(async {
        let client = Github::new(settings).unwrap();
        let first = client.release_by_tag(&repository(), "v1.0.0").await.unwrap();
        assert_eq!(client.release_by_tag(&repository(), "v1.0.0").await.unwrap(), first);
    });
    let conditions: Vec<Option<String>> = asked.lock().unwrap().iter().map(|asked| asked.2.clone()).collect();
    assert_eq!(conditions, [None, Some(tag)]);
}

#[test]
fn our_client_reads_references_and_issues_that_github_made() {
    // The answer to a reference that was made is the one to a reference that is asked for.
    let reference = exchange("git-refs", "POST", "/git/refs");
    let issue = exchange("add-labels-to-issue", "POST", "/issues");
    let mut labelled = issue.clone();
    labelled.response["labels"] = exchange("add-labels-to-issue", "POST", "/labels").response;
    let (settings, asked, _cache) = replay(vec![reference.clone(), issue.clone(), labelled.clone()]);
    runtime().block_on(async {
        let client = Github::new(settings).unwrap();
        let commit = client.tag_commit(&repository(), "v1").await.unwrap();
        assert_eq!(commit, reference.response["object"]["sha"].as_str().unwrap());
        let made = client.issue_create(&repository(), &json!({"title": "x"})).await.unwrap();
        assert_eq!(made.number, issue.response["number"].as_u64().unwrap());
        assert_eq!(made.html_url, issue.response["html_url"].as_str().unwrap());
        let changed = client.issue_update(&repository(), 1, &json!({"state": "open"})).await.unwrap();
        let names: Vec<&str> = changed.labels.iter().map(|label| label.name.as_str()).collect();
        let recorded = labelled.response["labels"].as_array().unwrap();
        assert_eq!(names, recorded.iter().map(|label| label["name"].as_str().unwrap()).collect::<Vec<_>>());
    });
    let methods: Vec<String> = asked.lock().unwrap().iter().map(|asked| asked.0.clone()).collect();
    assert_eq!(methods, ["GET", "POST", "PATCH"]);
}

#[test]
fn githubs_refusals_are_told_apart_and_in_its_own_words() {
    let invalid = exchange("errors", "POST", "/labels");
    let missing = exchange("branch-protection", "GET", "/protection");
    let moved = scenario("rename-repository").into_iter().find(|one| one.status == 301).unwrap();
    let release = exchange("release-assets", "GET", "/releases/tags/v1.0.0");
    let (settings, asked, _cache) = replay(vec![invalid, missing, moved, release]);
    runtime().block_on(async {
        let client = Github::new(settings).unwrap();
        match client.issue_create(&repository(), &json!({})).await {
            Err(GithubError::Refused { status, message, .. }) => {
                assert_eq!((status.as_u16(), message.as_str()), (422, "Validation Failed"));
            }
            other => panic!("{other:?}"),
        }
        let missing = client.release_by_tag(&repository(), "v1").await;
        assert!(matches!(missing, Err(GithubError::NotFound { .. })), "{missing:?}");
        // A repository that was renamed is followed to where GitHub says that it is.
        assert_eq!(client.release_by_tag(&repository(), "v1.0.0").await.unwrap().tag_name, "v1.0.0");
    });
    let paths: Vec<String> = asked.lock().unwrap().iter().map(|asked| asked.1.clone()).collect();
    assert!(paths.len() == 4 && paths[3].starts_with("/repositories/"), "{paths:?}");
}

/// What the stand-in answers, by what it stands for.
fn stand_in() -> BTreeMap<&'static str, Value> {
    let standing = github::Github::start();
    standing.publish("o/r", "v1", &[("app".to_owned(), b"bytes".to_vec())]);
    runtime().block_on(async {
        let client = reqwest::Client::new();
        let send = |method: reqwest::Method, path: &str, body: Option<Value>| {
            let request = client.request(method, format!("{}{path}", standing.url())).bearer_auth(github::TOKEN);
            let request = match &body {
                Some(body) => request.json(body),
                None => request,
            };
            async move { request.send().await.unwrap().json::<Value>().await.unwrap() }
        };
        let issue = json!({"title": "x", "body": "y", "labels": ["a"]});
        let close = json!({"state": "closed", "state_reason": "completed"});
        BTreeMap::from([
            ("release", send(reqwest::Method::GET, "/repos/o/r/releases/tags/v1", None).await),
            ("releases", send(reqwest::Method::GET, "/repos/o/r/releases", None).await[0].clone()),
            ("assets", send(reqwest::Method::GET, "/repos/o/r/releases/2/assets", None).await[0].clone()),
            ("reference", send(reqwest::Method::GET, "/repos/o/r/git/ref/tags/v1", None).await),
            ("issue made", send(reqwest::Method::POST, "/repos/o/r/issues", Some(issue)).await),
            ("issue changed", send(reqwest::Method::PATCH, "/repos/o/r/issues/1", Some(close)).await),
            ("issues", send(reqwest::Method::GET, "/repos/o/r/issues", None).await[0].clone()),
            ("missing", send(reqwest::Method::GET, "/repos/o/none/releases", None).await),
        ])
    })
}

/// Members that GitHub has given only since the recordings were made, by its documentation.
const NEWER: [&str; 2] = ["digest", "status"];
/// Members that may be null, and are in the recordings: an issue without a text or a reason why it is closed.
const NULLABLE: [&str; 2] = ["body", "state_reason"];

/// The members of a stand-in's answer that a recorded one lacks, or has with another type.
fn differences(ours: &Value, recorded: &Value, place: &str, found: &mut Vec<String>) {
    match (ours, recorded) {
        (Value::Object(ours), Value::Object(recorded)) => {
            for (name, value) in ours {
                match recorded.get(name) {
                    Some(Value::Null) if NULLABLE.contains(&name.as_str()) && value.is_string() => {}
                    Some(recorded) => differences(value, recorded, &format!("{place}.{name}"), found),
                    None if NEWER.contains(&name.as_str()) => {}
                    None => found.push(format!("{place}.{name} is not recorded")),
                }
            }
        }
        (Value::Array(ours), Value::Array(recorded)) => {
            for (one, recorded) in ours.iter().zip(recorded) {
                differences(one, recorded, &format!("{place}[]"), found);
            }
        }
        _ if std::mem::discriminant(ours) == std::mem::discriminant(recorded) => {}
        _ => found.push(format!("{place} is {ours}, and was recorded as {recorded}")),
    }
}

#[test]
fn the_stand_in_gives_nothing_that_github_does_not() {
    let mut release = exchange("release-assets", "GET", "/releases/tags/v1.0.0").response;
    let assets = exchange("release-assets", "GET", "/assets").response;
    release["assets"] = assets.clone();
    let mut issue =
        scenario("paginate-issues").into_iter().find(|one| one.method == "GET").unwrap().response[0].clone();
    issue["labels"] = exchange("add-labels-to-issue", "POST", "/labels").response;
    let mut found = Vec::new();
    for (name, answer) in stand_in() {
        let recorded = match name {
            "release" | "releases" => release.clone(),
            "assets" => assets[0].clone(),
            "reference" => exchange("git-refs", "POST", "/git/refs").response,
            "missing" => exchange("branch-protection", "GET", "/protection").response,
            _ => issue.clone(),
        };
        assert!(answer.as_object().is_some_and(|answer| !answer.is_empty()), "{name}: {answer}");
        differences(&answer, &recorded, name, &mut found);
    }
    assert!(found.is_empty(), "{found:#?}");
    // The comparison sees what is wrong.
    differences(&json!({"id": "1", "new": 1}), &json!({"id": 1}), "x", &mut found);
    assert_eq!(found.len(), 2);
}
