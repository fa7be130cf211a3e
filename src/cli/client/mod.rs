//! How the verbs of the second house reach the control plane: through its interface and by no other way.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Context, Failure, Format, UsageError};
use crate::api::{Page, Problem};
use crate::release::decision::Decision;
use crate::store::{Operation, OperationState};
use crate::types::limits;

pub(super) mod live;
pub(super) mod server;
pub(super) mod tls;

use server::{Place, Server};

/// The longest wait that a server's `Retry-After` may ask for.
const RETRY_AFTER_MOST: Duration = Duration::from_secs(60);

/// Where the control plane is.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Connection {
    /// The socket of the control plane; without it, and without a context, DEBVISOR_SOCKET or api.sock in the state directory
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "context")]
    pub(super) socket: Option<PathBuf>,
    /// The context that says which server, and as whom; without it DEBVISOR_CONTEXT, else the current one
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) context: Option<String>,
    /// Why, for the audit log
    #[arg(long, global = true, value_name = "TEXT")]
    pub(super) why: Option<String>,
}

/// A connection to the control plane.
pub(super) struct Client {
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    server: Server,
    why: Option<String>,
    quiet: bool,
}

impl Client {
    pub(super) fn new(connection: &Connection, context: &Context) -> anyhow::Result<Self> {
        let server = Server::find(connection, context)?;
        Self::to(server, connection.why.clone(), context)
    }

    /// A connection to this server.
    pub(super) fn to(server: Server, why: Option<String>, context: &Context) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
        let http = {
            let _inside = runtime.enter();
            server::http(&server.place)?
        };
        Ok(Self { http, runtime, server, why, quiet: context.quiet })
    }

    /// Who is spoken with.
    pub(super) const fn server(&self) -> &Server {
        &self.server
    }

    /// Says something to whoever looks on, and nothing where that is not wanted.
    pub(super) fn say(&self, what: &str) {
        if !self.quiet {
            eprintln!("{what}");
        }
    }

    /// Whether anybody answers.
    pub(super) fn is_up(&self) -> bool {
        self.runtime.block_on(self.request(Method::GET, "/v1/openapi.json").send()).is_ok()
    }

    /// Asks, and reads an answer that is plain text.
    pub(super) fn text(&self, path: &str) -> anyhow::Result<String> {
        self.runtime.block_on(async {
            let answer = self.sent(self.request(Method::GET, path)).await?;
            answer.text().await.context("the control plane's answer cannot be read")
        })
    }

    /// Asks, and reads the answer.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.runtime.block_on(self.json(self.request(Method::GET, path)))
    }

    /// Sends a document, and reads the answer.
    pub(super) fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.runtime.block_on(self.json(self.request(method, path).json(body)))
    }

    /// Sends a document, and reads the answer or the problem.
    pub(super) fn attempt<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<Result<T, Problem>> {
        self.runtime.block_on(async {
            let request = self.request(method, path).json(body);
            let response = self.answered(request, |status| status.is_success() || status.is_client_error()).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(Ok(response.json().await.context("the control plane's answer cannot be read")?));
            }
            Ok(Err(response.json().await.with_context(|| format!("the control plane answered {status}"))?))
        })
    }

    /// Sends a request without a body, and reads the answer.
    pub(super) fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> anyhow::Result<T> {
        self.runtime.block_on(self.json(self.request(method, path)))
    }

    /// Sends bytes with header fields, and reads the answer.
    pub(super) fn bytes<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, String)],
        bytes: Vec<u8>,
    ) -> anyhow::Result<T> {
        let mut request = self.request(method, path).body(bytes);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        self.runtime.block_on(self.json(request))
    }

    /// Sends a request whose answer is empty.
    pub(super) fn done(&self, method: Method, path: &str) -> anyhow::Result<()> {
        self.runtime.block_on(async { self.sent(self.request(method, path)).await.map(drop) })
    }

    /// Everything of a list, page by page.
    pub(super) fn all<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Vec<T>> {
        let mut items = Vec::new();
        let mut after = String::new();
        loop {
            let sign = if path.contains('?') { '&' } else { '?' };
            let page: Page<T> = self.get(&format!("{path}{sign}limit=1000&after={after}"))?;
            items.extend(page.items);
            match page.next {
                Some(next) => after = next,
                None => return Ok(items),
            }
        }
    }

    /// Waits for the end of an operation.
    pub(super) fn end_of(&self, operation: &Operation) -> anyhow::Result<Operation> {
        loop {
            let wait = limits::API_WAIT_SECONDS;
            let now: Operation = self.get(&format!("/v1/operations/{}?wait={wait}", operation.id))?;
            if now.state.has_ended() {
                return Ok(now);
            }
        }
    }

    /// The runtime and the client, for what goes on for long.
    pub(super) fn run<T>(&self, work: impl AsyncFnOnce(&Self) -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.runtime.block_on(work(self))
    }

    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut request = match &self.server.place {
            Place::Socket(_) => self.http.request(method, format!("http://debvisor{path}")),
            Place::Https { url, .. } => {
                self.http.request(method, format!("{}{path}", url.as_str().trim_end_matches('/')))
            }
        };
        let bearer = self.server.token.as_ref().and_then(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.reveal())).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        if let (Some(bearer), Place::Https { .. }) = (bearer, &self.server.place) {
            request = request.header(AUTHORIZATION, bearer);
        }
        match &self.why {
            Some(why) => request.header("debvisor-why", why),
            None => request,
        }
    }

    /// The answer, where it is not a problem.
    pub(super) async fn sent(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        self.answered(request, |status| status.is_success()).await
    }

    /// The answer, where it is of the kind that is asked for. A server that asks for patience is given it once.
    pub(super) async fn answered(
        &self,
        request: RequestBuilder,
        good: impl Fn(StatusCode) -> bool,
    ) -> anyhow::Result<Response> {
        let again = request.try_clone();
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if let (StatusCode::TOO_MANY_REQUESTS, Some(again), Some(wait)) =
            (response.status(), again, patience(&response))
        {
            self.say(&format!("the server is busy; asking again in {} s", wait.as_secs()));
            tokio::time::sleep(wait).await;
            response = again.send().await.map_err(|error| self.unreachable(&error))?;
        }
        let status = response.status();
        if good(status) {
            return Ok(response);
        }
        let problem: Problem = response.json().await.with_context(|| format!("the control plane answered {status}"))?;
        Err(self.refusal(status, problem))
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        self.sent(request).await?.json().await.context("the control plane's answer cannot be read")
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        let told = self.server.told();
        if let Some(fault) = certificate_fault(error) {
            let message = format!("the server at {told} is not the one that is known: {fault}");
            let hint = format!("if it has a new key, and you know why: {}", self.server.login());
            return Failure::new(Decision::Deny, message, hint).into();
        }
        if error.is_connect() {
            let message = format!("no control plane answers at {told}");
            let hint = match self.server.place {
                Place::Socket(_) => "start one: debvisor up; or name another: --socket, --context",
                Place::Https { .. } => "is it up, and does its address lead there? debvisor context list",
            };
            return Failure::new(Decision::Undecided, message, hint).into();
        }
        Failure::new(Decision::Undecided, format!("the control plane at {told} went away: {error}"), "ask again").into()
    }

    /// A problem as an error: a "no" is told with each of its reasons.
    fn refusal(&self, status: StatusCode, problem: Problem) -> anyhow::Error {
        let mut message = problem.detail;
        if !problem.reasons.is_empty() {
            message = told(&problem.reasons);
        }
        let mut hint = problem.hint.unwrap_or_else(|| format!("debvisor explain {}", problem.code));
        match status {
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => UsageError::new(message, hint).into(),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::GONE | StatusCode::SERVICE_UNAVAILABLE => {
                Failure::new(Decision::Undecided, message, hint).into()
            }
            StatusCode::UNAUTHORIZED => {
                if matches!(self.server.place, Place::Https { .. }) {
                    hint = self.server.login();
                }
                Failure::new(Decision::Deny, format!("{message} ({})", problem.code), hint).into()
            }
            StatusCode::FORBIDDEN => Failure::new(Decision::Deny, message, hint).into(),
            status if status.is_server_error() => {
                anyhow::anyhow!(message)
            }
            _ => Failure::new(Decision::Deny, message, hint).into(),
        }
    }
}

/// How long the server asks to wait, where that is bearable.
fn patience(response: &Response) -> Option<Duration> {
    let seconds: u64 = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds)).filter(|wait| *wait <= RETRY_AFTER_MOST)
}

/// What is wrong with the server's certificate, where it is that.
pub(super) fn certificate_fault(error: &reqwest::Error) -> Option<String> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()).or_else(|| cause.downcast_ref());
        if let Some(rustls::Error::InvalidCertificate(fault)) = tls {
            return Some(match fault {
                rustls::CertificateError::ApplicationVerificationFailure => "it has another key".to_owned(),
                rustls::CertificateError::UnknownIssuer => "nobody who is trusted vouches for it".to_owned(),
                other => other.to_string(),
            });
        }
        next = inner.map(|inner| inner as &(dyn std::error::Error + 'static)).or_else(|| cause.source());
    }
    None
}

/// Reasons in one text, a line each.
pub(super) fn told(reasons: &[crate::types::Reason]) -> String {
    let line = |reason: &crate::types::Reason| match &reason.subject {
        Some(subject) => format!("{subject}: {reason}"),
        None => reason.to_string(),
    };
    reasons.iter().map(line).collect::<Vec<_>>().join("\n       ")
}

/// How an operation ended, as an outcome of the verb.
pub(super) fn outcome(operation: &Operation) -> anyhow::Result<()> {
    let hint = || match operation.reasons.first().and_then(|reason| reason.hint.clone()) {
        Some(hint) => hint,
        None => format!("debvisor vm show {}", operation.vm),
    };
    let message = operation.message.clone().unwrap_or_default();
    match operation.state {
        OperationState::Done => Ok(()),
        OperationState::Refused => {
            let message = format!("{}: refused: {}", operation.kind, told(&operation.reasons));
            Err(Failure::new(Decision::Deny, message, hint()).into())
        }
        OperationState::Superseded => {
            let message = format!("{}: {message}", operation.kind);
            Err(Failure::new(Decision::Undecided, message, hint()).into())
        }
        _ => Err(Failure::new(Decision::Undecided, format!("{}: {message}", operation.kind), hint()).into()),
    }
}

/// Writes one document for programs.
pub(super) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Writes a list: a table for people, one document for programs.
pub(super) fn print_list<T: Serialize, const N: usize>(
    context: &Context,
    items: &[T],
    head: [&str; N],
    row: impl Fn(&T) -> [String; N],
) -> anyhow::Result<()> {
    print_rows(context, items, Some(head), row)
}

/// The same; without a head where none is wanted.
pub(super) fn print_rows<T: Serialize, const N: usize>(
    context: &Context,
    items: &[T],
    head: Option<[&str; N]>,
    row: impl Fn(&T) -> [String; N],
) -> anyhow::Result<()> {
    if context.format != Format::Text {
        return print_json(&items);
    }
    let rows: Vec<[String; N]> = items.iter().map(row).collect();
    Ok(anstream::stdout().lock().write_all(table(head, &rows).as_bytes())?)
}

/// Rows below each other, and a head above them.
pub(super) fn table<const N: usize>(head: Option<[&str; N]>, rows: &[[String; N]]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    if let Some(head) = head {
        table.set_header(head);
    }
    for row in rows {
        table.add_row(row);
    }
    if rows.is_empty() && head.is_none() {
        return String::new();
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// How a list is shown.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct ListArgs {
    /// Go on, and show it again whenever it changes
    #[arg(long, short)]
    pub(super) watch: bool,
    /// Leave out the head of the table
    #[arg(long)]
    pub(super) no_headers: bool,
}

/// The word that serde has for a value of a plain enumeration.
pub(super) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// Bytes in the unit that people would choose.
pub(super) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}
