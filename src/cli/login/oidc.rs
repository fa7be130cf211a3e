//! `debvisor login --oidc`: a browser logs in at an OpenID provider of the server's and brings a code to a port of this
//! machine; the server gives a session's token for it (RFC 8252, RFC 7636).
//! Invariant: the provider is spoken with by the server alone, whose secret stays there; a code is of use to this
//! process and to no other, which never told what it keeps; and it waits for so long and no longer.

use std::io::{BufRead as _, IsTerminal as _};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, Html, IntoResponse as _, Response};
use axum::routing::get;
use openidconnect::{CsrfToken, PkceCodeChallenge, PkceCodeVerifier};
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use url::Url;

use super::super::client::Client;
use super::super::{Context, Failure, UsageError};
use super::refused;
use crate::api::{Page, ProviderView, SessionView};
use crate::config::Secret;
use crate::control::authn::oidc::program::sign_of;
use crate::release::decision::Decision;
use crate::types::{Code, Outcome};

/// How a browser is opened on this host.
const OPENER: &str = "xdg-open";
/// How long the page at the end may take to be fetched.
const LAST_PAGE: Duration = Duration::from_secs(2);
/// So much of what comes with a refusal is told.
const TOLD_CHARS: usize = 300;

/// How somebody wants to log in.
#[derive(Debug)]
pub(super) struct Wanted {
    /// At which provider; without it at the only one.
    pub(super) provider: Option<String>,
    /// Whether a browser is opened.
    pub(super) browser: bool,
    /// How long it is waited for.
    pub(super) wait: Duration,
}

/// Logs in by a browser: the session's token, and the provider that vouched.
pub(super) fn log_in(client: &Client, wanted: &Wanted, context: &Context) -> anyhow::Result<(Secret, String)> {
    let provider = chosen(client, wanted.provider.as_deref())?;
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let state = CsrfToken::new_random().into_secret();
    let mut port = client.run(async |_| Port::open(state.clone()).await)?;
    let address = address(&provider, &port, &challenge)?;
    let opened = wanted.browser && context.environment.has_screen && open(&address);
    if opened && !context.quiet {
        eprintln!("A browser is opened. If it is not, open this address in one:");
    } else if !opened {
        eprintln!("Open this address in a browser on this computer:");
    }
    if !opened || !context.quiet {
        eprintln!("\n    {address}\n");
        eprintln!("It asks at the end: say yes where it shows the sign {}.", sign_of(challenge.as_str()));
    }
    if !opened && std::io::stdin().is_terminal() {
        eprintln!("Where the browser is on another computer, paste here the address that it cannot open at the end.");
        port.pasted();
    }
    let back = client.run(async |_| port.wait(wanted.wait).await)?;
    let outcome = back.code.and_then(|code| redeem(client, &provider.name, &code, &verifier));
    client.run(async |_| {
        port.end(back.page, outcome.is_ok()).await;
        Ok(())
    })?;
    Ok((outcome?, provider.name))
}

/// The provider that is meant.
fn chosen(client: &Client, named: Option<&str>) -> anyhow::Result<ProviderView> {
    let mut providers: Page<ProviderView> = client.get("/v1/oidc")?;
    let told = client.server().told();
    let names = providers.items.iter().map(|provider| provider.name.as_str()).collect::<Vec<_>>().join(", ");
    let found = match named {
        Some(name) => providers.items.iter().position(|provider| provider.name == name),
        None => (providers.items.len() == 1).then_some(0),
    };
    let Some(at) = found else {
        let (message, hint) = match (named, names.is_empty()) {
            (_, true) => (format!("{told} knows no OpenID provider"), "--user NAME, with a password".to_owned()),
            (Some(name), _) => (format!("{told} knows no OpenID provider {name:?}"), format!("it knows {names}")),
            (None, _) => (format!("{told} knows several OpenID providers"), format!("--oidc=NAME, one of {names}")),
        };
        return Err(UsageError::new(message, hint).into());
    };
    Ok(providers.items.swap_remove(at))
}

/// Where the browser begins: at the host that the provider sends it back to.
fn address(provider: &ProviderView, port: &Port, challenge: &PkceCodeChallenge) -> anyhow::Result<Url> {
    let start = Url::parse(&provider.start).ok().filter(|url| matches!(url.scheme(), "https" | "http"));
    let mut url = start.context("the server names no address at which a browser could log in")?;
    url.query_pairs_mut()
        .append_pair("port", &port.number.to_string())
        .append_pair("state", &port.state)
        .append_pair("challenge", challenge.as_str());
    Ok(url)
}

/// Opens a browser. Whether one could be asked to.
fn open(address: &Url) -> bool {
    let mut opener = Command::new(OPENER);
    opener.arg(address.as_str()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    opener.spawn().is_ok()
}

/// A session for the code.
fn redeem(client: &Client, provider: &str, code: &Secret, verifier: &PkceCodeVerifier) -> anyhow::Result<Secret> {
    let body = json!({ "code": code.reveal(), "verifier": verifier.secret() });
    let path = format!("/v1/oidc/{provider}/code");
    match client.attempt::<SessionView>(Method::POST, &path, &body)? {
        Ok(SessionView { token: Some(token), .. }) => Ok(Secret::new(token)),
        Ok(_) => anyhow::bail!("the server gives no token"),
        Err(problem) => Err(refused(&problem)),
    }
}

/// What a browser brings.
#[derive(Deserialize)]
struct Brought {
    state: Option<String>,
    code: Option<Secret>,
    error: Option<String>,
    error_description: Option<String>,
}

impl Brought {
    /// The code, or why there is none.
    fn code(self) -> anyhow::Result<Secret> {
        // Any page can lead a browser here, so that what it brings does not steer the terminal.
        let plain =
            |text: String| text.chars().filter(|letter| !letter.is_control()).take(TOLD_CHARS).collect::<String>();
        if let Some(error) = self.error.map(plain) {
            let known = Code::from_name(&error).map(Code::info);
            let decision = match known.map(|info| info.outcome) {
                Some(Outcome::Undecided) => Decision::Undecided,
                _ => Decision::Deny,
            };
            let hint = known.map_or_else(|| format!("debvisor explain {error}"), |info| info.fix.to_owned());
            let why = self.error_description.map(plain).unwrap_or_default();
            return Err(Failure::new(decision, format!("the login was refused: {why} ({error})"), hint).into());
        }
        let none = || Failure::new(Decision::Deny, "the browser brought no code", "begin the login again");
        Ok(self.code.ok_or_else(none)?)
    }
}

/// What came back from the browser.
struct Back {
    code: anyhow::Result<Secret>,
    /// Who waits for the last page; nobody where the address was pasted.
    page: Option<oneshot::Sender<bool>>,
}

/// A port of this machine at which a browser is waited for.
struct Port {
    number: u16,
    state: String,
    told: mpsc::Sender<Back>,
    heard: mpsc::Receiver<Back>,
    close: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

/// What each request is held against.
struct Door {
    host: String,
    state: String,
    told: mpsc::Sender<Back>,
}

impl Port {
    /// Any port that is free (RFC 8252 section 7.3).
    async fn open(state: String) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("cannot open a port for the browser")?;
        let number = listener.local_addr().context("cannot open a port for the browser")?.port();
        let (told, heard) = mpsc::channel(1);
        let door = Door { host: format!("127.0.0.1:{number}"), state: state.clone(), told: told.clone() };
        let router = axum::Router::new().route("/", get(came_back)).with_state(Arc::new(door));
        let (close, closed) = oneshot::channel::<()>();
        let serve = axum::serve(listener, router).with_graceful_shutdown(async {
            let _ = closed.await;
        });
        let serving = tokio::spawn(async {
            if let Err(error) = serve.await {
                tracing::warn!(%error, "the browser's way back is closed");
            }
        });
        Ok(Self { number, state, told, heard, close: Some(close), serving })
    }

    /// Takes from the terminal as well what a browser elsewhere could not bring.
    fn pasted(&self) {
        let (told, state) = (self.told.clone(), self.state.clone());
        // It ends with the process, whether or not anybody types anything.
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok).filter(|line| !line.trim().is_empty()) {
                let brought = Url::parse(line.trim()).ok().and_then(|url| {
                    let brought = Query::<Brought>::try_from_uri(&url.as_str().parse().ok()?).ok()?.0;
                    is_same(brought.state.as_deref(), &state).then_some(brought)
                });
                match brought {
                    Some(brought) => return drop(told.blocking_send(Back { code: brought.code(), page: None })),
                    None => eprintln!("That is not the address at which this login ends."),
                }
            }
        });
    }

    /// What the browser brings.
    async fn wait(&mut self, wait: Duration) -> anyhow::Result<Back> {
        match tokio::time::timeout(wait, self.heard.recv()).await {
            Ok(Some(back)) => Ok(back),
            Ok(None) => anyhow::bail!("the browser's way back is closed"),
            Err(_) => {
                let message = format!("nobody came back from the browser within {} s", wait.as_secs());
                let hint = "begin again; --wait 15m gives more time, and --no-browser shows the address";
                Err(Failure::new(Decision::Undecided, message, hint).into())
            }
        }
    }

    /// Lets the browser have its last page, and closes the port.
    async fn end(self, page: Option<oneshot::Sender<bool>>, logged_in: bool) {
        if let Some(page) = page {
            let _ = page.send(logged_in);
        }
        drop(self.close);
        let _ = tokio::time::timeout(LAST_PAGE, self.serving).await;
    }
}

/// A browser is here: with what is waited for, or with something else, which ends nothing.
async fn came_back(
    State(door): State<Arc<Door>>,
    headers: HeaderMap,
    brought: Result<Query<Brought>, QueryRejection>,
) -> Response {
    // A page of somebody else's can lead a browser here, also by a name of its own that it let end here.
    let own = headers.get(header::HOST).is_some_and(|host| host.as_bytes() == door.host.as_bytes());
    let brought = brought.ok().map(|Query(brought)| brought);
    let brought = brought.filter(|brought| own && is_same(brought.state.as_deref(), &door.state));
    let Some(brought) = brought else {
        tracing::warn!("a browser came with the answer to another login, which was refused");
        return page(
            StatusCode::BAD_REQUEST,
            "This is another login",
            "The terminal waits for another one. Nothing was done.",
        );
    };
    let (sender, shown) = oneshot::channel();
    let ended = || page(StatusCode::GONE, "This login has ended", "Look at the terminal.");
    if door.told.try_send(Back { code: brought.code(), page: Some(sender) }).is_err() {
        return ended();
    }
    match shown.await {
        Ok(true) => page(StatusCode::OK, "You are logged in", "You can close this window and go on in the terminal."),
        Ok(false) => page(StatusCode::FORBIDDEN, "You are not logged in", "The terminal says why."),
        Err(_) => ended(),
    }
}

fn is_same(state: Option<&str>, wanted: &str) -> bool {
    let state = state.unwrap_or_default().as_bytes();
    aws_lc_rs::constant_time::verify_slices_are_equal(state, wanted.as_bytes()).is_ok()
}

/// A page that says one thing and does nothing. Its address carries a code, which is told to nobody.
fn page(status: StatusCode, title: &'static str, text: &'static str) -> Response {
    let headers = AppendHeaders([
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ]);
    let page = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>DebVisor: {title}</title></head>\
         <body><h1>{title}</h1><p>{text}</p></body></html>"
    );
    (status, headers, Html(page)).into_response()
}
