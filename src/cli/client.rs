//! How the verbs of the second house reach the control plane: through its interface and by no other way.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Context, Failure, Format, UsageError};
use crate::api::{Page, Problem};
use crate::release::decision::Decision;
use crate::store::{Operation, OperationState};
use crate::types::limits;

/// Where the control plane is.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Connection {
    /// The socket of the control plane; without it DEBVISOR_SOCKET, else api.sock in the state directory
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Why, for the audit log
    #[arg(long, global = true, value_name = "TEXT")]
    why: Option<String>,
}

/// A connection to the control plane.
pub(super) struct Client {
    http: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    socket: PathBuf,
    why: Option<String>,
}

impl Client {
    pub(super) fn new(connection: &Connection, context: &Context) -> anyhow::Result<Self> {
        let environment = &context.environment;
        let socket = connection
            .socket
            .clone()
            .or_else(|| environment.socket.clone())
            .or_else(|| environment.state_dir.as_ref().map(|dir| dir.join("api.sock")))
            .ok_or_else(|| UsageError::new("no socket is named", "give --socket, or set DEBVISOR_SOCKET"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
        let http = {
            let _inside = runtime.enter();
            reqwest::Client::builder().unix_socket(socket.as_path()).no_proxy().build().context("cannot start")?
        };
        Ok(Self { http, runtime, socket, why: connection.why.clone() })
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
        let request = self.http.request(method, format!("http://debvisor{path}"));
        match &self.why {
            Some(why) => request.header("debvisor-why", why),
            None => request,
        }
    }

    /// The answer, where it is not a problem.
    pub(super) async fn sent(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let problem: Problem = response.json().await.with_context(|| format!("the control plane answered {status}"))?;
        Err(refusal(status, problem))
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        self.sent(request).await?.json().await.context("the control plane's answer cannot be read")
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        let socket = self.socket.display();
        if error.is_connect() {
            let message = format!("no control plane answers at {socket}");
            return Failure::new(Decision::Undecided, message, "start one: debvisor up; or name another: --socket")
                .into();
        }
        Failure::new(Decision::Undecided, format!("the control plane at {socket} went away: {error}"), "ask again")
            .into()
    }
}

/// A problem as an error: a "no" is told with each of its reasons.
fn refusal(status: StatusCode, problem: Problem) -> anyhow::Error {
    let mut message = problem.detail;
    if !problem.reasons.is_empty() {
        message = told(&problem.reasons);
    }
    let hint = problem.hint.unwrap_or_else(|| format!("debvisor explain {}", problem.code));
    match status {
        StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => UsageError::new(message, hint).into(),
        status if status.is_server_error() && status != StatusCode::INSUFFICIENT_STORAGE => anyhow::anyhow!(message),
        _ => Failure::new(Decision::Deny, message, hint).into(),
    }
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
    if context.format != Format::Text {
        return print_json(&items);
    }
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_header(head);
    for item in items {
        table.add_row(row(item));
    }
    let text: String = table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    Ok(anstream::stdout().lock().write_all(text.as_bytes())?)
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
