//! `debvisor login`, `logout` and `whoami`: a password and a code in, or a browser's login at an OpenID provider
//! ([`oidc`]); a session's token out, which is kept in a file of this user's alone.
//!
//! A server that nobody who is trusted vouches for is never believed silently: its key is shown, and somebody says yes,
//! or it is named on the command line. Invariant: no secret is taken from the command line or shown.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};
use url::Url;

use super::client::server::{Place, Server, address, entry as known};
use super::client::tls::{Pin, Trust, key_of};
use super::client::{Client, Connection, print_json};
use super::context::file::{Entry, Files, name_check};
use super::{Context, Ended, Failure, Format, UsageError, context};
use crate::api::{MeView, Problem};
use crate::config::Secret;
use crate::release::decision::Decision;
use crate::types::{Code, duration};

mod oidc;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The server: https://HOST:PORT; the context's without it
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// As whom; asked for without it
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The authorities that vouch for the server, in PEM
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The server's own public key: sha256: and the digest of its SubjectPublicKeyInfo; repeatable
    #[arg(long, value_name = "PIN")]
    pin: Vec<Pin>,
    /// What the context is called; the server's host without this
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Take an API key or a session's token from stdin, in place of a password
    #[arg(long, conflicts_with = "user")]
    token_stdin: bool,
    /// Log in with a browser at an OpenID provider of the server's; named where there are several
    #[arg(long, value_name = "PROVIDER", num_args = 0..=1, require_equals = true,
        conflicts_with_all = ["user", "token_stdin"])]
    oidc: Option<Option<String>>,
    /// Open no browser; the address is shown, for one that is opened by hand
    #[arg(long, requires = "oidc")]
    no_browser: bool,
    /// How long the browser is waited for, as 90s or 15m
    #[arg(long, value_name = "DURATION", requires = "oidc", default_value = "5m", value_parser = duration::parse)]
    wait: SignedDuration,
}

#[derive(Debug, clap::Args)]
pub(super) struct LogoutArgs {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, clap::Args)]
pub(super) struct WhoamiArgs {
    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    let files = Files::of(context)?;
    let (url, name) = place(&args, &files, context)?;
    name_check(&name)?;
    let server = url.as_str().trim_end_matches('/').to_owned();
    let before = files.contexts()?.contexts.remove(&name).filter(|entry| entry.server == server);
    let mut entry = before.unwrap_or_else(|| Entry { server, ..Entry::default() });
    if let Some(ca) = &args.ca {
        (entry.ca, entry.pins) = (Some(std::path::absolute(ca)?), Vec::new());
    }
    if !args.pin.is_empty() {
        entry.pins = args.pin.iter().map(ToString::to_string).collect();
    }
    recognise(&url, &mut entry)?;

    let client = connect(&entry, None, &name, context)?;
    let mut vouched = None;
    let token = if let Some(provider) = args.oidc {
        let wanted = oidc::Wanted {
            provider: provider.or_else(|| entry.oidc.clone()),
            browser: !args.no_browser,
            wait: args.wait.unsigned_abs(),
        };
        let (token, provider) = oidc::log_in(&client, &wanted, context)?;
        vouched = Some(provider);
        token
    } else if args.token_stdin {
        let mut text = String::new();
        std::io::stdin().take(64 * 1024).read_to_string(&mut text).context("cannot read the token from stdin")?;
        Secret::new(text.trim().to_owned())
    } else {
        let user = match args.user.or_else(|| entry.user.clone()) {
            Some(user) => user,
            None => ask("user: ")?,
        };
        with_password(&client, &user)?
    };
    if token.reveal().is_empty() {
        return Err(UsageError::new("the token is empty", "debvisor login URL --token-stdin < FILE").into());
    }
    // Nothing is kept that does not work.
    let client = connect(&entry, Some(token.clone()), &name, context)?;
    let me: MeView = client.get("/v1/me")?;
    entry.user = me.actor.strip_prefix("user:").map(str::to_owned);
    (entry.api_key_file, entry.oidc) = (None, vouched);
    context::keep(&files, &name, entry, Some(token.reveal().to_owned()))?;
    if !context.quiet {
        eprintln!("logged in to {} as {}; the context is {name}", url.as_str().trim_end_matches('/'), me.actor);
    }
    Ok(Ended::Done)
}

/// The server that is meant, and what its context is called.
fn place(args: &Args, files: &Files, context: &Context) -> anyhow::Result<(Url, String)> {
    if let Some(url) = &args.url {
        let url = address(url)?;
        let host = || url.host_str().unwrap_or_default().replace([':', '[', ']'], "-");
        let name = args.context.clone().unwrap_or_else(host);
        return Ok((url, name));
    }
    let contexts = files.contexts()?;
    let named = args.context.clone().or_else(|| context.environment.context.clone());
    let nowhere = || UsageError::new("no server is named", "debvisor login https://HOST:PORT");
    let name = named.or_else(|| contexts.current.clone()).ok_or_else(nowhere)?;
    Ok((address(&known(&contexts, &name)?.server)?, name))
}

/// Where a session begins and ends.
const SESSION: &str = "/v1/session";
/// How a session's token begins; a key's begins otherwise, and is not ended by leaving.
const SESSION_PREFIX: &str = "dvs_";

/// Sees that the server is recognised, or has somebody say so.
fn recognise(url: &Url, entry: &mut Entry) -> anyhow::Result<()> {
    let Place::Https { trust, .. } = entry.place()? else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let known = {
        let _inside = runtime.enter();
        super::client::tls::client(&trust)?
    };
    let Err(error) = runtime.block_on(known.get(url.clone()).send()) else { return Ok(()) };
    let told = url.as_str().trim_end_matches('/');
    let absent = |error: &dyn std::fmt::Display| {
        let hint = "is it up, and does its address lead there?";
        Failure::new(Decision::Undecided, format!("no server answers at {told}: {error}"), hint)
    };
    if !error.is_connect() {
        return Err(absent(&error).into());
    }
    let Some(fault) = super::client::certificate_fault(&error) else { return Err(absent(&error).into()) };
    let Some(pin) = runtime.block_on(key_of(url)) else { return Err(absent(&error).into()) };
    let Trust { ca, pins, .. } = trust;
    if ca.is_some() || !pins.is_empty() {
        let message = format!("the server at {told} is not the one that is known: {fault}; its key is {pin}");
        let hint = "if it has a new key, and you know why, name that: --pin, or --ca";
        return Err(Failure::new(Decision::Deny, message, hint).into());
    }
    let unknown = || {
        let message = format!("nobody who is trusted vouches for {told}: {fault}; its key is {pin}");
        let hint = format!("ask who runs it for the key, and name it: --pin {pin}; or the authority: --ca FILE");
        Failure::new(Decision::Undecided, message, hint)
    };
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(unknown().into());
    }
    eprintln!("Nobody who is trusted vouches for {told} ({fault}).");
    eprintln!("Its public key is {pin}.");
    eprintln!("Who runs it can tell you whether that is so: debvisor up says it when it starts, as pin");
    let answer = ask("Is it the right one? Type yes, or the fingerprint itself: ")?;
    if answer != "yes" && answer.parse::<Pin>() != Ok(pin) {
        return Err(unknown().into());
    }
    entry.pins = vec![pin.to_string()];
    Ok(())
}

fn connect(entry: &Entry, token: Option<Secret>, name: &str, context: &Context) -> anyhow::Result<Client> {
    let server = Server { place: entry.place()?, context: Some(name.to_owned()), token, project: None, oidc: None };
    Client::to(server, None, context)
}

fn with_password(client: &Client, user: &str) -> anyhow::Result<Secret> {
    let password = hidden(&format!("password of {user}: "))?;
    let mut code: Option<Secret> = None;
    loop {
        let given = code.as_ref().map(Secret::reveal);
        let body = json!({ "user": user, "password": password.reveal(), "code": given, "kind": "token" });
        match client.attempt::<Value>(Method::POST, SESSION, &body)? {
            Ok(opened) => {
                let token = opened.get("token").and_then(Value::as_str).context("the server gives no token")?;
                return Ok(Secret::new(token.to_owned()));
            }
            Err(problem) if problem.code == Code::TotpRequired.name() && code.is_none() => {
                code = Some(hidden("one-time code: ")?);
            }
            Err(problem) => return Err(refused(&problem)),
        }
    }
}

/// A "no" to who wants to log in.
fn refused(problem: &Problem) -> anyhow::Error {
    let hint = problem.hint.clone().unwrap_or_else(|| format!("debvisor explain {}", problem.code));
    Failure::new(Decision::Deny, format!("{} ({})", problem.detail, problem.code), hint).into()
}

pub(super) fn logout(args: &LogoutArgs, context: &Context) -> anyhow::Result<Ended> {
    let client = Client::new(&args.connection, context)?;
    let Some(name) = client.server().context.clone() else {
        return Err(UsageError::new("nobody is logged in here", "debvisor context list").into());
    };
    let files = Files::of(context)?;
    // The credential is forgotten whatever the server says: it may be gone, or have ended the session itself.
    let session = files.credentials()?.get(&name).is_some_and(|kept| kept.token.starts_with(SESSION_PREFIX));
    let ended = if session { client.done(Method::DELETE, SESSION) } else { Ok(()) };
    files.change(|_, credentials| {
        credentials.remove(&name);
        Ok(())
    })?;
    if let Err(error) = ended {
        eprintln!("warning: the credential is forgotten here, and the server did not end it: {error}");
    }
    if !context.quiet {
        eprintln!("logged out of {name}");
    }
    Ok(Ended::Done)
}

pub(super) fn whoami(args: &WhoamiArgs, context: &Context) -> anyhow::Result<Ended> {
    let client = Client::new(&args.connection, context)?;
    let me: MeView = client.get("/v1/me")?;
    if context.format != Format::Text {
        print_json(&me)?;
        return Ok(Ended::Done);
    }
    println!("{}", me.actor);
    if let Some(scopes) = &me.scopes {
        println!("limited to {}", scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    }
    Ok(Ended::Done)
}

/// Asks somebody at the terminal.
fn ask(what: &str) -> anyhow::Result<String> {
    if !std::io::stdin().is_terminal() {
        return Err(
            UsageError::new("nobody is there to be asked", "--user, and --token-stdin where nobody types").into()
        );
    }
    let mut err = std::io::stderr().lock();
    write!(err, "{what}")?;
    err.flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("cannot read from the terminal")?;
    Ok(line.trim().to_owned())
}

/// Asks for what is not shown while it is typed.
fn hidden(what: &str) -> anyhow::Result<Secret> {
    let nobody = |_| UsageError::new("there is no terminal to ask for a password at", "--token-stdin < FILE");
    Ok(Secret::new(rpassword::prompt_password(what).map_err(nobody)?))
}
