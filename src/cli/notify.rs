//! `debvisor notify`: what a run found in, one issue a finding out; also a comment, a webhook, a mail.
//! It serves every workflow alike, so that none needs a script of its own: a report of ours, or a name and a status.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::report::github::markdown;
use super::report::{reference, visible::visible};
use super::{Context, Ended, Failure, UsageError};
use crate::clients::github::{Github, GithubError, Repository, Settings};
use crate::release::artifact;
use crate::release::decision::Decision;
use crate::release::notify::{Act, Finding, Known, Scope, Severity, plan};
use crate::types::{Outcome, Reason, limits};

mod send;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A report of `debvisor … --format json`; repeatable
    #[arg(long, value_name = "FILE", required_unless_present = "status")]
    report: Vec<PathBuf>,
    /// What ran: findings of another name are left alone; in GitHub Actions the workflow's name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How it ended, where there is no report: ${{ job.status }}
    #[arg(long, value_enum, value_name = "STATUS")]
    status: Option<Status>,
    /// What to say about it
    #[arg(long, value_name = "TEXT", requires = "status")]
    details: Option<String>,
    /// The same from a file, as the end of a log
    #[arg(long, value_name = "FILE", requires = "status", conflicts_with = "details")]
    details_file: Option<PathBuf>,
    /// How bad a failure is
    #[arg(long, value_enum, value_name = "SEVERITY", default_value = "medium")]
    severity: Severity,
    /// Open questions are findings too; without it an outage pages nobody
    #[arg(long)]
    tell_undecided: bool,
    #[command(flatten)]
    github: GithubArgs,
    /// The label of our issues
    #[arg(long, value_name = "LABEL", default_value = "debvisor")]
    label: String,
    /// Of more new findings than this, one issue is made that lists them
    #[arg(long, value_name = "N", default_value_t = 10)]
    digest_above: usize,
    /// Comment on this pull request instead of opening issues; one comment, kept up to date
    #[arg(long, value_name = "N")]
    pull_request: Option<u64>,
    /// Where the run can be looked at; in GitHub Actions the run's page
    #[arg(long, value_name = "URL")]
    run_url: Option<Url>,
    #[command(flatten)]
    send: send::SendArgs,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Which GitHub is asked, and about what.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "GitHub")]
pub(super) struct GithubArgs {
    /// The repository; in GitHub Actions the workflow's own. The token comes from GITHUB_TOKEN or GH_TOKEN
    #[arg(long, value_name = "OWNER/REPO")]
    pub(super) github_repository: Option<String>,
    /// The API of a GitHub Enterprise server, as https://HOST/api/v3
    #[arg(long, value_name = "URL")]
    pub(super) github_api_url: Option<Url>,
    /// How long a request may wait for a rate limit to end
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(super) github_wait: u64,
    /// How long until a server that failed is asked again, in milliseconds; doubled each time
    #[arg(long, value_name = "MS", default_value_t = limits::WATCH_PAUSE_MS, hide = true)]
    pub(super) github_pause_ms: u64,
}

impl GithubArgs {
    /// The connection that the flags and the environment name.
    ///
    /// # Errors
    /// A usage error where the address is none.
    pub(super) fn connect(&self, context: &Context) -> anyhow::Result<Github> {
        let environment = &context.environment;
        let base = match (&self.github_api_url, &environment.github_api_url) {
            (Some(url), _) => url.clone(),
            (None, Some(text)) => Url::parse(text)
                .map_err(|error| UsageError::new(format!("GITHUB_API_URL is no address: {error}"), "unset it"))?,
            (None, None) => Url::parse("https://api.github.com").context("GitHub's own address")?,
        };
        let settings = Settings {
            base,
            token: environment.github_token.as_ref().map(|token| token.reveal().to_owned()),
            patience: Duration::from_secs(self.github_wait),
            pause: Duration::from_millis(self.github_pause_ms),
            cache: environment.cache_dir.as_ref().map(|dir| dir.join("github")),
        };
        Github::new(settings).map_err(|error| UsageError::new(error.to_string(), "see --github-api-url").into())
    }

    /// The repository that the flags or the environment name.
    ///
    /// # Errors
    /// A usage error where the name is none.
    fn repository(&self, context: &Context) -> anyhow::Result<Option<Repository>> {
        let in_actions = context.environment.github_actions.as_ref().map(|actions| actions.repository.clone());
        let Some(name) = self.github_repository.clone().or(in_actions).filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let none = || UsageError::new(format!("`{name}` is no repository"), "write it as OWNER/REPO");
        Ok(Some(Repository::parse(&name).ok_or_else(none)?))
    }
}

/// How a job ended, by GitHub's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Status {
    Success,
    Failure,
    Cancelled,
    Skipped,
}

/// What is read of a report: nobody's word but ours is in the code, and everybody's in the rest.
#[derive(Debug, Deserialize)]
struct Report {
    decision: Decision,
    #[serde(default)]
    subjects: Vec<Subject>,
    reasons: Vec<Reason>,
}

#[derive(Debug, Deserialize)]
struct Subject {
    name: String,
    #[serde(default)]
    facts: serde_json::Value,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let name = args.name.clone().or_else(|| context.environment.github_workflow.clone());
    let name = name.unwrap_or_else(|| "debvisor".to_owned());
    let mut findings = Vec::new();
    let mut scopes = Vec::new();
    for path in &args.report {
        read_report(path, &name, args.tell_undecided, &mut findings, &mut scopes)?;
    }
    if let Some(status) = args.status {
        of_status(status, &name, args, &mut findings, &mut scopes)?;
    }
    let place = run_url(args, context).map(|url| format!("Found by [this run]({url})."));
    findings.iter_mut().for_each(|finding| finding.place.clone_from(&place));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let repository = args.github.repository(context)?;
    if repository.is_none() && !args.send.is_asked() && !args.dry_run {
        let hint = "give --github-repository OWNER/REPO, --webhook URL, or --smtp URL with --mail-to";
        return Err(UsageError::new("nobody is named who should be told", hint).into());
    }
    runtime.block_on(async {
        let done = match &repository {
            None => Vec::new(),
            Some(repository) => {
                let github = args.github.connect(context)?;
                let told = match args.pull_request {
                    Some(number) => comment(&github, repository, number, &name, &findings, args.dry_run).await,
                    None => issues(&github, repository, &name, &findings, &scopes, args).await,
                };
                told.map_err(|error| failure(&error))?
            }
        };
        let mut stderr = anstream::stderr().lock();
        if !context.quiet {
            for line in &done {
                writeln!(stderr, "{line}")?;
            }
            if done.is_empty() && repository.is_some() {
                writeln!(stderr, "nothing to tell: {} findings, all told before", findings.len())?;
            }
        }
        // Without issues nobody remembers what was told: every finding is told then.
        let news = if repository.is_some() { !done.is_empty() } else { !findings.is_empty() };
        if news && !args.dry_run {
            args.send.send(&name, &findings, &done, context).await?;
        }
        Ok(Ended::Done)
    })
}

fn failure(error: &GithubError) -> anyhow::Error {
    let (decision, hint) = match error {
        error if error.is_outage() => (Decision::Undecided, "run again later"),
        GithubError::Disk { .. } => (Decision::Undecided, "check the cache directory"),
        _ => (Decision::Deny, "the token needs the permission `issues: write` (or `pull-requests: write`)"),
    };
    Failure::new(decision, format!("cannot tell GitHub: {error}"), hint).into()
}

fn read_report(
    path: &Path,
    name: &str,
    tell_undecided: bool,
    findings: &mut Vec<Finding>,
    scopes: &mut Vec<Scope>,
) -> anyhow::Result<()> {
    let unreadable = |error: &dyn std::fmt::Display| {
        UsageError::new(format!("cannot use the report {}: {error}", path.display()), "write it with --format json")
    };
    let bytes = artifact::read_bounded(path, limits::EVIDENCE_BYTES).map_err(|error| unreadable(&error))?;
    let report: Report = serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))?;
    // A report over published releases has each of them as a subject of its own, which comes and goes by itself.
    let by_subject = |subject: &&Subject| subject.facts.get("reverify").is_some();
    let own: Vec<&str> = report.subjects.iter().filter(by_subject).map(|subject| subject.name.as_str()).collect();
    let scope_of = |reason: &Reason| match reason.subject.as_deref().filter(|subject| own.contains(subject)) {
        Some(subject) => format!("{name}: {subject}"),
        None => name.to_owned(),
    };
    let mut open = std::collections::BTreeSet::new();
    for reason in &report.reasons {
        let scope = scope_of(reason);
        if reason.outcome() == Outcome::Undecided {
            open.insert(scope.clone());
            if !tell_undecided {
                continue;
            }
        }
        findings.push(of_reason(reason, scope));
    }
    let undecided = report.decision == Decision::Undecided && report.reasons.is_empty();
    let names = own.iter().map(|subject| format!("{name}: {subject}")).chain([name.to_owned()]);
    scopes.extend(names.map(|name| Scope { decided: !undecided && !open.contains(&name), name }));
    Ok(())
}

fn of_reason(reason: &Reason, scope: String) -> Finding {
    let code = reason.code.as_str();
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    let identity = format!("{code}\n{}\n{}\n{}", part(&reason.subject), part(&reason.evidence), part(&reason.location));
    let about = reason.subject.as_deref().or(reason.evidence.as_deref()).unwrap_or_default();
    let mut text = format!("{}\n\n", markdown(&reason.message));
    let mut line = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "- **{name}:** {}", markdown(value));
        }
    };
    line("about", &reason.subject);
    line("evidence", &reason.evidence);
    line("location", &reason.location);
    line("hint", &reason.hint);
    if let Some(known) = reason.code.known() {
        let _ = writeln!(text, "\n[`{code}`]({}): {}", reference::address(known), markdown(known.info().meaning));
    }
    Finding { scope, identity, severity: Severity::of_code(code), title: title(code, about), text, place: None }
}

/// A title says what and about what, in one line of GitHub's length.
fn title(what: &str, about: &str) -> String {
    let about = visible(about);
    let title = if about.is_empty() { what.to_owned() } else { format!("{what}: {about}") };
    title.chars().take(200).collect()
}

fn of_status(
    status: Status,
    name: &str,
    args: &Args,
    findings: &mut Vec<Finding>,
    scopes: &mut Vec<Scope>,
) -> anyhow::Result<()> {
    let scope = format!("{name}: status");
    if status == Status::Failure {
        let details = match &args.details_file {
            Some(path) => {
                let bytes = artifact::read_bounded(path, limits::EVIDENCE_BYTES).map_err(|error| {
                    UsageError::new(format!("cannot read {}: {error}", path.display()), "see --details-file")
                })?;
                String::from_utf8_lossy(&bytes).into_owned()
            }
            None => args.details.clone().unwrap_or_default(),
        };
        // The end of a log says what went wrong.
        let skipped = details.chars().count().saturating_sub(DETAILS_CHARS);
        let details: String = details.chars().skip(skipped).collect();
        let mut text = format!("{} failed.\n", markdown(name));
        for line in details.lines() {
            // Four blanks make a line code, and in code nothing is markup (CommonMark section 4.4).
            let _ = write!(text, "\n    {}", visible(line));
        }
        let severity = args.severity;
        let (title, identity) = (title("failed", name), "status".to_owned());
        findings.push(Finding { scope: scope.clone(), identity, severity, title, text, place: None });
    }
    scopes.push(Scope { name: scope, decided: matches!(status, Status::Success | Status::Failure) });
    Ok(())
}

/// So much of a job's own words goes into an issue.
const DETAILS_CHARS: usize = 8_000;
/// GitHub takes 65,536 characters.
const BODY_CHARS: usize = 60_000;
/// Findings that one list of them names.
const LISTED: usize = 200;

fn run_url(args: &Args, context: &Context) -> Option<String> {
    if let Some(url) = &args.run_url {
        return Some(url.to_string());
    }
    let actions = context.environment.github_actions.as_ref()?;
    Some(format!("{}/{}/actions/runs/{}", actions.server_url, actions.repository, actions.run_id))
}

/// Brings the repository's issues in line with the findings. Returns what was done, a line each.
async fn issues(
    github: &Github,
    repository: &Repository,
    name: &str,
    findings: &[Finding],
    scopes: &[Scope],
    args: &Args,
) -> Result<Vec<String>, GithubError> {
    let mut done = Vec::new();
    // Another run may be at it: what it opened meanwhile is seen in the second round.
    for round in 0..2 {
        let known: Vec<Known> = github
            .issue_list(repository, &args.label)
            .await?
            .iter()
            .filter_map(|issue| {
                Known::read(issue.number, issue.state == "open", issue.body.as_deref().unwrap_or_default())
            })
            .collect();
        let (findings, scopes) = digested(name, findings, scopes, &known, args.digest_above);
        let acts = plan(&findings, &scopes, &known);
        for act in &acts {
            let line =
                if args.dry_run { told(act, None) } else { carry_out(github, repository, act, &args.label).await? };
            done.push(line);
        }
        if args.dry_run || acts.is_empty() || round == 1 {
            break;
        }
    }
    Ok(done)
}

/// Where more findings are new than anybody reads one by one, they become one that lists them.
fn digested(
    name: &str,
    findings: &[Finding],
    scopes: &[Scope],
    known: &[Known],
    above: usize,
) -> (Vec<Finding>, Vec<Scope>) {
    let scope = format!("{name}: digest");
    let new: std::collections::BTreeSet<String> = plan(findings, &[], known)
        .into_iter()
        .filter_map(|act| match act {
            Act::Open(finding) | Act::Reopen(_, finding) => Some(finding.key()),
            _ => None,
        })
        .collect();
    let mut scopes = scopes.to_vec();
    // A list is over when everything that could be on it was looked at and is told, or gone.
    let decided = scopes.iter().all(|scope| scope.decided);
    scopes.push(Scope { name: scope.clone(), decided });
    if new.len() <= above {
        return (findings.to_vec(), scopes);
    }
    let (listed, mut kept): (Vec<&Finding>, Vec<&Finding>) =
        findings.iter().partition(|finding| new.contains(&finding.key()));
    let severity = listed.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Medium);
    let mut text = format!("{} findings of {}:\n", listed.len(), markdown(name));
    for finding in listed.iter().take(LISTED) {
        let _ = write!(text, "\n- **{}** {}", finding.severity.name(), markdown(&finding.title));
    }
    if listed.len() > LISTED {
        let _ = write!(text, "\n\n… and {} more, which the run's own report lists.", listed.len() - LISTED);
    }
    let place = listed.first().and_then(|finding| finding.place.clone());
    let title = title(&format!("{} findings", listed.len()), name);
    let digest = Finding { scope, identity: "digest".to_owned(), severity, title, text, place };
    kept.push(&digest);
    (kept.into_iter().cloned().collect(), scopes)
}

async fn carry_out(github: &Github, repository: &Repository, act: &Act, label: &str) -> Result<String, GithubError> {
    let written = |finding: &Finding| {
        json!({
            "title": finding.title,
            "body": finding.body().chars().take(BODY_CHARS).collect::<String>(),
            "labels": [label, format!("severity:{}", finding.severity.name())],
        })
    };
    let reopened = |finding: &Finding| {
        let mut issue = written(finding);
        if let Some(members) = issue.as_object_mut() {
            members.insert("state".to_owned(), json!("open"));
        }
        issue
    };
    let issue = match act {
        Act::Open(finding) => github.issue_create(repository, &written(finding)).await?,
        Act::Update(number, finding) => github.issue_update(repository, *number, &written(finding)).await?,
        Act::Reopen(number, finding) => github.issue_update(repository, *number, &reopened(finding)).await?,
        Act::Close(number) => {
            github.comment_create(repository, *number, "It is no longer found; closed by itself.").await?;
            let change = json!({"state": "closed", "state_reason": "completed"});
            github.issue_update(repository, *number, &change).await?
        }
        Act::CloseDuplicate { number, of } => {
            github.comment_create(repository, *number, &format!("The same as #{of}, which is older.")).await?;
            let change = json!({"state": "closed", "state_reason": "not_planned"});
            github.issue_update(repository, *number, &change).await?
        }
    };
    Ok(told(act, Some(issue.number)))
}

fn told(act: &Act, number: Option<u64>) -> String {
    let title = |finding: &Finding| visible(&finding.title).into_owned();
    match act {
        Act::Open(finding) => {
            let number = number.map(|number| format!(" #{number}")).unwrap_or_default();
            format!("opened{number}: {}", title(finding))
        }
        Act::Update(number, finding) => format!("updated #{number}: {}", title(finding)),
        Act::Reopen(number, finding) => format!("reopened #{number}: {}", title(finding)),
        Act::Close(number) => format!("closed #{number}: no longer found"),
        Act::CloseDuplicate { number, of } => format!("closed #{number}: the same as #{of}"),
    }
}

/// One comment on a pull request that lists the findings; an older one of the same name is written anew.
async fn comment(
    github: &Github,
    repository: &Repository,
    number: u64,
    name: &str,
    findings: &[Finding],
    dry_run: bool,
) -> Result<Vec<String>, GithubError> {
    let key = crate::types::Digest::sha256(name.as_bytes()).to_hex();
    let marker = format!("<!-- debvisor:comment {key} -->");
    let mut body = format!("{marker}\n### {}\n", markdown(name));
    if findings.is_empty() {
        body.push_str("\nNothing was found.\n");
    }
    for finding in findings.iter().take(LISTED) {
        let _ = write!(body, "\n#### {}: {}\n\n{}\n", finding.severity.name(), markdown(&finding.title), finding.text);
    }
    if let Some(place) = findings.first().and_then(|finding| finding.place.as_ref()) {
        let _ = write!(body, "\n{place}\n");
    }
    let body: String = body.chars().take(BODY_CHARS).collect();
    let comments = github.comment_list(repository, number).await?;
    let ours = comments.iter().find(|comment| comment.body.as_deref().is_some_and(|body| body.starts_with(&marker)));
    let line = match ours {
        Some(comment) if comment.body.as_deref() == Some(&body) => return Ok(Vec::new()),
        // A run without a finding has something to say only where there was one before.
        None if findings.is_empty() => return Ok(Vec::new()),
        Some(comment) => {
            if !dry_run {
                github.comment_update(repository, comment.id, &body).await?;
            }
            format!("updated the comment on #{number}")
        }
        None => {
            if !dry_run {
                github.comment_create(repository, number, &body).await?;
            }
            format!("commented on #{number}")
        }
    };
    Ok(vec![line])
}
