//! `debvisor login --oidc`: the real binary over TLS, a browser beside it, and a provider that only the server speaks
//! with.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use openidconnect::{PkceCodeChallenge, PkceCodeVerifier};
use reqwest::{Method, StatusCode};
use serde_json::json;
use url::Url;

use super::super::api::ask;
use super::super::contexts::Home;
use super::super::live::Terminal;
use super::super::remote::{authority, told};
use super::super::server::Server;
use super::super::tls::{free, listening};
use super::{Answer, Browser, Provider, between, code, denied, with};

/// A server with a port, at which people log in by this provider.
fn reachable(provider: &Provider) -> (Server, SocketAddr) {
    let mut server = provider.prepared();
    let address = free();
    server.configure_more(&format!("[listen]\naddress = \"{address}\"\n"));
    server.up(None);
    (server, address)
}

/// `debvisor login --oidc` that waits for a browser.
struct Waiting {
    child: Child,
    /// Where a browser is to go.
    address: Url,
    /// What the browser must show too.
    sign: String,
    /// What it says besides.
    err: BufReader<std::process::ChildStderr>,
}

fn command(home: &Home, server: &Server, at: SocketAddr, more: &[&str]) -> Command {
    let (url, ca) = (format!("https://{at}"), authority(server));
    let mut command = home.command(&[&["login", &url, "--ca", ca.to_str().unwrap()], more].concat());
    for name in ["DISPLAY", "WAYLAND_DISPLAY", "BROWSER"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Waiting {
    fn begin(home: &Home, server: &Server, at: SocketAddr, more: &[&str]) -> Self {
        Self::of(&mut command(home, server, at, more))
    }

    fn of(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut err = BufReader::new(child.stderr.take().unwrap());
        let (mut said, mut address, mut sign) = (String::new(), None, None);
        while address.is_none() || sign.is_none() {
            let mut line = String::new();
            assert!(err.read_line(&mut line).unwrap() > 0, "it ended: {said}");
            address = address.or_else(|| Url::parse(line.trim()).ok());
            sign = sign.or_else(|| between(&line, "shows the sign ", ".").map(str::to_owned));
            said.push_str(&line);
        }
        Self { child, address: address.unwrap(), sign: sign.unwrap(), err }
    }

    fn port(&self) -> String {
        self.address.query_pairs().find(|(name, _)| name == "port").unwrap().1.into_owned()
    }

    /// The exit code, and what was said at the end.
    fn ends(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.err.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

impl Browser<'_> {
    /// Goes from where a program sends it through the provider, and back to the server.
    fn sent(&mut self, address: &Url, person: &str) -> Url {
        let answer = self.ask(address, None);
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        self.through(answer.location.unwrap().parse().unwrap(), person)
    }

    /// The page that asks whether somebody is to be logged in by a program.
    fn asked(&mut self, address: &Url, person: &str) -> Answer {
        let back = self.sent(address, person);
        let page = self.ask(&back, None);
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        page
    }
}

/// Where the page's two links lead: yes and no.
fn links(page: &Answer) -> (Url, Url) {
    let all: Vec<Url> = page
        .body
        .split("href=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().replace("&amp;", "&").parse().unwrap())
        .collect();
    let [yes, no] = all.try_into().unwrap();
    (yes, no)
}

#[test]
fn somebody_logs_in_at_a_terminal_by_their_browser_and_the_context_keeps_it() {
    let provider = Provider::start();
    let (server, at) = reachable(&provider);
    let home = Home::new();
    let waiting = Waiting::begin(&home, &server, at, &["--oidc=test", "--no-browser", "--context", "prod"]);
    assert_eq!(waiting.address.host_str(), Some("debvisor.test"), "where the provider sends browsers back to");
    let mut browser = Browser::new(&server);
    let page = browser.asked(&waiting.address, "alice");
    assert!(page.body.contains(&format!("<strong>{}</strong>", waiting.sign)), "{}", page.body);
    assert!(page.body.contains("as alice?"), "{}", page.body);
    assert!(page.policy.contains("default-src 'none'") && page.policy.contains("frame-ancestors 'none'"));
    assert!(!page.cookies.iter().any(|cookie| cookie.starts_with("__Host-debvisor=")), "the browser is not logged in");
    let (yes, _) = links(&page);
    let end = browser.ask(&yes, None);
    assert_eq!(end.status, StatusCode::OK);
    assert!(end.body.contains("You are logged in") && end.policy.contains("default-src 'none'"), "{}", end.body);
    let (exit, said) = waiting.ends();
    assert_eq!(exit, Some(0), "{said}");
    assert!(said.contains("as user:alice; the context is prod"), "{said}");
    assert_eq!(home.ok(&["whoami"]).trim(), "user:alice");

    let credentials = home.file("credentials");
    let kept = fs::read_to_string(&credentials).unwrap();
    assert!(kept.contains("dvs_"));
    assert_eq!(fs::metadata(&credentials).unwrap().permissions().mode() & 0o777, 0o600);
    let contexts = fs::read_to_string(home.file("contexts.toml")).unwrap();
    assert!(contexts.contains("oidc = \"test\"") && !contexts.contains("dvs_"), "{contexts}");
    // No secret is told: not the client's, no code of either kind, no token.
    let given = |url: &Url| url.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    let log = [server.log(), server.ok(&["audit", "list", "--format", "json"]), said, page.body].concat();
    let token = between(&kept, "token = \"", "\"").unwrap();
    for secret in ["the-secret-of-the-client", token] {
        assert!(!log.contains(secret), "{secret}");
    }
    assert!(!server.log().contains(&given(&yes)));

    // Once it has ended, it is told how to log in again; that takes no address.
    home.ok(&["logout"]);
    let refused = home.run(&["node", "list"]);
    assert!(told(&refused).contains("debvisor login --oidc=test --context prod"), "{}", told(&refused));
    let mut again = home.command(&["login", "--oidc", "--context", "prod", "--no-browser"]);
    let again = Waiting::of(again.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let (yes, _) = links(&browser.asked(&again.address, "alice"));
    assert_eq!(browser.ask(&yes, None).status, StatusCode::OK);
    assert_eq!(again.ends().0, Some(0));
    assert_eq!(home.ok(&["whoami"]).trim(), "user:alice");
}

#[test]
fn a_browser_is_opened_where_there_is_a_screen() {
    let provider = Provider::start();
    let (server, at) = reachable(&provider);
    let home = Home::new();
    let (programs, shown) = (home.dir().join("bin"), home.dir().join("shown"));
    fs::create_dir(&programs).unwrap();
    let opener = programs.join("xdg-open");
    fs::write(&opener, format!("#!/bin/sh\nprintf %s \"$1\" > {0}.new && mv {0}.new {0}\n", shown.display())).unwrap();
    fs::set_permissions(&opener, PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", programs.display());
    let mut login = command(&home, &server, at, &["--oidc=es"]);
    let waiting = Waiting::of(login.env("PATH", path).env("DISPLAY", ":0"));
    let until = Instant::now() + Duration::from_secs(30);
    while !shown.exists() {
        assert!(Instant::now() < until, "no browser is opened");
        std::thread::sleep(Duration::from_millis(20));
    }
    let opened: Url = fs::read_to_string(&shown).unwrap().parse().unwrap();
    assert_eq!(opened, waiting.address);
    let mut browser = Browser::new(&server);
    let (yes, _) = links(&browser.asked(&opened, "dave"));
    browser.ask(&yes, None);
    let (exit, said) = waiting.ends();
    assert_eq!(exit, Some(0), "{said}");
    assert!(said.contains("as user:dave"), "{said}");
}

#[test]
fn a_browser_elsewhere_ends_at_an_address_that_is_pasted() {
    let provider = Provider::start();
    let (server, at) = reachable(&provider);
    let home = Home::new();
    let (url, ca) = (format!("https://{at}"), authority(&server));
    let args = ["login", &url, "--ca", ca.to_str().unwrap(), "--oidc=test", "--no-browser"];
    let mut terminal = Terminal::start(&args, home.dir(), &[]);
    terminal.until("what to do", |shown| shown.contains("paste here the address"));
    let shown = terminal.shown();
    let address = shown.lines().find_map(|line| Url::parse(line.trim()).ok()).unwrap();
    let mut browser = Browser::new(&server);
    let (yes, _) = links(&browser.asked(&address, "alice"));
    terminal.type_in(b"http://127.0.0.1:1/?state=another-login-altogether&code=x\n");
    terminal.until("a refusal", |shown| shown.contains("not the address at which this login ends"));
    terminal.type_in(format!("{yes}\n").as_bytes());
    let (exit, shown) = terminal.ends();
    assert_eq!(exit, Some(0), "{shown}");
    assert_eq!(home.ok(&["whoami"]).trim(), "user:alice");
}

#[test]
fn the_answer_to_another_login_ends_nothing() {
    let provider = Provider::start();
    let (server, at) = reachable(&provider);
    let home = Home::new();
    let waiting = Waiting::begin(&home, &server, at, &["--oidc=test", "--no-browser"]);
    let mut browser = Browser::new(&server);
    let (yes, no) = links(&browser.asked(&waiting.address, "alice"));
    // A page that somebody was lured to, with a code of the attacker's: it knows the port and not the state.
    for wrong in [
        format!("http://127.0.0.1:{}/?code=stolen", waiting.port()),
        with(&yes, "state", "another-login-altogether").to_string(),
        with(&no, "state", "another-login-altogether").to_string(),
    ] {
        let answer = browser.ask(&wrong.parse().unwrap(), None);
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{wrong}");
        assert!(answer.body.contains("This is another login"), "{}", answer.body);
    }
    // And one whose own name leads here by now: it could read the answer.
    let mut rebound = yes.clone();
    rebound.set_host(Some("localhost")).unwrap();
    assert_eq!(browser.ask(&rebound, None).status, StatusCode::BAD_REQUEST);
    // The right one still logs in, once.
    assert_eq!(browser.ask(&yes, None).status, StatusCode::OK);
    let (exit, said) = waiting.ends();
    assert_eq!(exit, Some(0), "{said}");
    assert!(said.contains("another login, which was refused"), "{said}");
    assert!(!said.contains("stolen"), "{said}");
}

#[test]
fn who_is_refused_is_told_why_in_the_terminal_and_nothing_is_kept() {
    let provider = Provider::start();
    let (server, at) = reachable(&provider);
    let home = Home::new();
    let refused = |provider: &str, go: &dyn Fn(&mut Browser<'_>, &Url) -> Answer, says: [&str; 2]| {
        let named = format!("--oidc={provider}");
        let waiting = Waiting::begin(&home, &server, at, &[&named, "--no-browser"]);
        let mut browser = Browser::new(&server);
        let end = go(&mut browser, &waiting.address);
        assert_eq!(end.status, StatusCode::FORBIDDEN, "{}", end.body);
        assert!(end.body.contains("You are not logged in"), "{}", end.body);
        let (exit, said) = waiting.ends();
        assert_eq!(exit, Some(1), "{said}");
        assert!(says.iter().all(|word| said.contains(word)), "{says:?}: {said}");
        assert!(!home.file("credentials").exists() && !home.file("contexts.toml").exists());
    };
    // At the provider.
    let at_provider = |browser: &mut Browser<'_>, address: &Url| {
        let asked: Url = browser.ask(address, None).location.unwrap().parse().unwrap();
        let state = asked.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        let no = format!("https://debvisor.test/v1/oidc/test/callback?error=access_denied&state={state}");
        let back = browser.ask(&no.parse().unwrap(), None);
        assert_eq!(back.status, StatusCode::SEE_OTHER, "{}", back.body);
        browser.ask(&back.location.unwrap().parse().unwrap(), None)
    };
    refused("test", &at_provider, ["oidc-refused", "access_denied"]);
    // By the configuration.
    let of_another_domain = |browser: &mut Browser<'_>, address: &Url| {
        let back = browser.sent(address, "mallory");
        let back = browser.ask(&back, None);
        browser.ask(&back.location.unwrap().parse().unwrap(), None)
    };
    refused("test", &of_another_domain, ["oidc-domain", "no e-mail address"]);
    // By whoever sits at the browser, who has begun no login in a terminal.
    let by_hand = |browser: &mut Browser<'_>, address: &Url| {
        let (_, no) = links(&browser.asked(address, "alice"));
        browser.ask(&no, None)
    };
    refused("test", &by_hand, ["oidc-refused", "refused in the browser"]);
    // At the end, by the server.
    let of_nobody = |browser: &mut Browser<'_>, address: &Url| {
        let (yes, _) = links(&browser.asked(address, "erin"));
        browser.ask(&yes, None)
    };
    refused("closed", &of_nobody, ["oidc-user-unknown", "erin"]);
    // What was said by hand in a browser, the server does not know of.
    assert_eq!(server.events("session.refused").len(), 3);
    assert_eq!(server.events("session.opened").len(), 0);
}

#[test]
fn a_code_is_of_one_program_at_one_provider_and_opens_one_session() {
    let provider = Provider::start();
    let server = provider.server();
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let begin = |challenge: &str| -> Url {
        let state = "a-state-of-the-program";
        let path = "https://debvisor.test/v1/oidc/test/start";
        format!("{path}?port=4711&state={state}&challenge={challenge}").parse().unwrap()
    };
    let mut browser = Browser::new(&server);
    let (yes, _) = links(&browser.asked(&begin(challenge.as_str()), "alice"));
    assert_eq!((yes.host_str(), yes.port()), (Some("127.0.0.1"), Some(4711)));
    let given = yes.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    let redeem = |at: &str, given: &str, verifier: &PkceCodeVerifier| {
        let body = json!({ "code": given, "verifier": verifier.secret() });
        let (status, _, answer) = ask(&server, Method::POST, &format!("/v1/oidc/{at}/code"), &[], Some(body));
        (status.as_u16(), answer)
    };
    let no = |answer: (u16, serde_json::Value)| (answer.0, answer.1["code"].as_str().unwrap_or_default().to_owned());
    // Who sees the code on its way knows no verifier.
    let (_, other) = PkceCodeChallenge::new_random_sha256();
    assert_eq!(no(redeem("test", &given, &other)), denied("oidc-state"));
    let short = PkceCodeVerifier::new("short".to_owned());
    assert_eq!(no(redeem("test", &given, &short)), (422, "request-malformed".to_owned()));
    assert_eq!(no(redeem("es", &given, &verifier)), denied("oidc-state"));
    assert_eq!(no(redeem("test", &format!("{given}A"), &verifier)), denied("oidc-state"));
    assert_eq!(no(redeem("test", &given[..given.len() - 4], &verifier)), denied("oidc-state"));
    assert_eq!(no(redeem("test", &"A".repeat(20_000), &verifier)), (422, "request-malformed".to_owned()));
    let (status, opened) = redeem("test", &given, &verifier);
    assert_eq!(status, 201, "{opened}");
    assert_eq!((&opened["session"]["method"], &opened["user"]["name"]), (&json!("oidc"), &json!("alice")));
    assert!(opened["token"].as_str().unwrap().starts_with("dvs_"));
    assert_eq!(no(redeem("test", &given, &verifier)), denied("oidc-state"), "a second time");

    // What is no program is told so before the provider is asked.
    for wrong in [
        "port=0&state=a-state-of-the-program&challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        "port=4711&state=short&challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        "port=4711&state=a-state-of-the-program&challenge=plain",
        "port=4711&state=a-state-of-the-program",
        "port=70000&state=a-state-of-the-program&challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
    ] {
        let answer = browser.ask(&format!("https://debvisor.test/v1/oidc/test/start?{wrong}").parse().unwrap(), None);
        assert_eq!(code(&answer).1, "request-malformed", "{wrong}: {}", answer.body);
    }
    // The page that is asked in belongs to the browser that began: the answer alone is of no use elsewhere.
    let back = browser.sent(&begin(challenge.as_str()), "alice");
    assert_eq!(code(&Browser::new(&server).ask(&back, None)), denied("oidc-state"));
    // Nor does an altered one reach the program, which would give up.
    let altered = browser.ask(&with(&back, "state", "another"), None);
    assert_eq!((code(&altered), &altered.location), (denied("oidc-state"), &None));
}

#[test]
fn nobody_is_waited_for_without_an_end_and_what_is_missing_is_told() {
    let provider = Provider::start();
    let (server, at) = reachable(&provider);
    let home = Home::new();
    let began = Instant::now();
    let waiting = Waiting::begin(&home, &server, at, &["--oidc=test", "--no-browser", "--wait", "1s"]);
    let (exit, said) = waiting.ends();
    assert_eq!(exit, Some(2), "{said}");
    assert!(said.contains("nobody came back from the browser within 1 s"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(20));
    let wrong = |at: SocketAddr, server: &Server, more: &[&str], says: &str| {
        let output = command(&home, server, at, more).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{more:?}: {}", told(&output));
        assert!(told(&output).contains(says), "{more:?}: {}", told(&output));
    };
    wrong(at, &server, &["--oidc"], "--oidc=NAME, one of closed, es, test");
    wrong(at, &server, &["--oidc=corp"], "it knows closed, es, test");
    wrong(at, &server, &["--oidc", "--user", "alice"], "cannot be used with");
    wrong(at, &server, &["--no-browser"], "--oidc");
    let (plain, elsewhere) = listening("", &[]);
    wrong(elsewhere, &plain, &["--oidc"], "knows no OpenID provider");
    let output = Home::new().run(&["login", "--oidc"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(told(&output).contains("no server is named"), "{}", told(&output));
}
