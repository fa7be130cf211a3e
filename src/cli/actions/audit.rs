//! The text of a workflow or an action in, what it runs from elsewhere out, each with what is wrong with its pin.
//!
//! A tag or a branch runs whatever its owner points it to tomorrow; a commit and a digest do not. The comment beside a
//! commit is what people review and what update tools read, so that it must be there and say the truth.
//! Invariant: no network and no disk; what is current is what the table says.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use crate::types::{Code, Reason, limits};

/// Actions with the commit and the version that they have by now.
#[derive(Debug, Deserialize)]
pub(super) struct Table {
    actions: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    action: String,
    commit: String,
    version: String,
}

/// What a file uses, and what is wrong with it.
pub(super) struct Audited {
    pub(super) uses: Vec<Use>,
    pub(super) reasons: Vec<Reason>,
}

/// Something that a file runs and that is not in its own repository.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Use {
    pub(super) line: u64,
    pub(super) name: String,
    pub(super) reference: Option<String>,
    pub(super) version: Option<String>,
}

impl Table {
    /// Reads a table.
    ///
    /// # Errors
    /// Where it is none, in a sentence.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let table: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        for row in &table.actions {
            if !is_commit(&row.commit) {
                return Err(format!("the commit of {} is not of 40 hexadecimal digits", row.action));
            }
            if numbers(&row.version).is_none() {
                return Err(format!("the version of {} is none", row.action));
            }
        }
        Ok(table)
    }

    /// The row of an action; an action in a folder may stand there by its repository.
    fn row(&self, name: &str) -> Option<&Row> {
        let repository = |name: &str| name.splitn(3, '/').take(2).collect::<Vec<_>>().join("/").to_ascii_lowercase();
        let exact = self.actions.iter().find(|row| row.action.eq_ignore_ascii_case(name));
        exact.or_else(|| self.actions.iter().find(|row| repository(&row.action) == repository(name)))
    }
}

/// A workflow, or the description of an action; what else is in it is left alone.
#[derive(Debug, Deserialize)]
struct File {
    jobs: Option<BTreeMap<String, Job>>,
    runs: Option<Runs>,
}

#[derive(Debug, Deserialize)]
struct Job {
    uses: Option<Spanned<String>>,
    steps: Option<Vec<Step>>,
    container: Option<Spanned<Container>>,
    services: Option<BTreeMap<String, Spanned<Container>>>,
}

#[derive(Debug, Deserialize)]
struct Runs {
    steps: Option<Vec<Step>>,
    image: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
struct Step {
    uses: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Container {
    Image(String),
    Table { image: Option<String> },
}

/// A reference as it is written, and where.
struct Written {
    line: u64,
    text: String,
    is_image: bool,
}

/// Looks through one file.
///
/// # Errors
/// `workflow-malformed`: neither a workflow nor an action, so that nobody knows what it would run.
pub(super) fn audit(bytes: &[u8], table: &Table) -> Result<Audited, Reason> {
    let malformed = |why: String| Reason::new(Code::WorkflowMalformed, why);
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("the file is not UTF-8 text".to_owned()))?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: limits::WORKFLOW_NODES, max_events: 2 * limits::WORKFLOW_NODES },
        with_snippet: false,
    };
    let file: File = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let message = error.to_string().lines().next().unwrap_or_default().to_owned();
        let reason = malformed(format!("the file is no workflow and no action: {message}"));
        match error.location() {
            Some(place) => reason.location(format!("line {}", place.line())),
            None => reason,
        }
    })?;
    if file.jobs.is_none() && file.runs.is_none() {
        return Err(malformed("the file has neither jobs, as a workflow, nor runs, as an action".to_owned()));
    }
    let mut reasons = Vec::new();
    let mut uses = BTreeSet::new();
    for written in file.references() {
        let line = line_of(text, &written);
        // An alias in YAML names the same place twice; so does a matrix of nothing.
        let one = judge(&written.text, written.is_image, comment_of(text, line, &written.text), table);
        let Some((name, reference, version, found)) = one else { continue };
        if uses.insert(Use { line, name, reference, version }) {
            reasons.extend(found.into_iter().map(|reason| reason.location(format!("line {line}"))));
        }
    }
    Ok(Audited { uses: uses.into_iter().collect(), reasons })
}

impl File {
    fn references(self) -> Vec<Written> {
        let mut found = Vec::new();
        for job in self.jobs.unwrap_or_default().into_values() {
            found.extend(job.uses.map(Written::action));
            found.extend(steps(job.steps));
            let services = job.services.unwrap_or_default().into_values();
            found.extend(job.container.into_iter().chain(services).filter_map(Written::container));
        }
        if let Some(runs) = self.runs {
            found.extend(steps(runs.steps));
            // `Dockerfile` is built of the action's own repository.
            found.extend(runs.image.map(Written::action).filter(|image| image.text.starts_with(DOCKER)));
        }
        found.sort_by_key(|written| written.line);
        found
    }
}

fn steps(steps: Option<Vec<Step>>) -> impl Iterator<Item = Written> {
    steps.unwrap_or_default().into_iter().filter_map(|step| step.uses).map(Written::action)
}

impl Written {
    fn action(uses: Spanned<String>) -> Self {
        Self { line: uses.defined.line(), text: uses.value, is_image: false }
    }

    fn container(container: Spanned<Container>) -> Option<Self> {
        let (Container::Image(image) | Container::Table { image: Some(image) }) = container.value else { return None };
        (!image.is_empty()).then_some(Self { line: container.defined.line(), text: image, is_image: true })
    }
}

const DOCKER: &str = "docker://";

/// The line on which the reference itself stands: a container's begins before its image.
fn line_of(text: &str, written: &Written) -> u64 {
    let before = usize::try_from(written.line.saturating_sub(1)).unwrap_or(usize::MAX);
    let at = text.lines().skip(before).position(|line| line.contains(&written.text));
    written.line.saturating_add(at.and_then(|at| u64::try_from(at).ok()).unwrap_or(0))
}

/// The comment behind the reference on its line.
fn comment_of<'a>(text: &'a str, line: u64, reference: &str) -> Option<&'a str> {
    let at = usize::try_from(line.checked_sub(1)?).ok()?;
    let (_, rest) = text.lines().nth(at)?.split_once(reference)?;
    // In YAML a `#` begins a comment only behind a blank.
    let (_, comment) = rest.split_once(" #").or_else(|| rest.split_once("\t#"))?;
    Some(comment.trim())
}

type Judged = (String, Option<String>, Option<String>, Vec<Reason>);

/// What is wrong with one reference; nothing for what is in the repository itself.
fn judge(text: &str, is_image: bool, comment: Option<&str>, table: &Table) -> Option<Judged> {
    if let Some(image) = text.strip_prefix(DOCKER).or_else(|| is_image.then_some(text)) {
        let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
        let is_pinned = digest.and_then(|digest| digest.strip_prefix("sha256:")).is_some_and(|hex| is_hex(hex, 64));
        let reasons = if is_pinned { Vec::new() } else { vec![image_unpinned(image)] };
        return Some((name.to_owned(), digest.map(str::to_owned), None, reasons));
    }
    if ["./", "../", "$/"].iter().any(|local| text.starts_with(local)) {
        return None;
    }
    let (name, reference) = text.split_once('@').map_or((text, ""), |(name, reference)| (name, reference));
    let row = table.row(name);
    let version = comment.and_then(version_in).map(str::to_owned);
    let reasons = if is_commit(reference) {
        comment_or_age(name, reference, version.as_deref(), row).into_iter().collect()
    } else {
        vec![unpinned(name, reference, row)]
    };
    Some((name.to_owned(), Some(reference.to_owned()).filter(|text| !text.is_empty()), version, reasons))
}

fn image_unpinned(image: &str) -> Reason {
    let message = if image.contains("${{") {
        format!("the image {image} is known only when it runs")
    } else {
        format!("the image {image} is named by a tag, which may point elsewhere tomorrow")
    };
    Reason::new(Code::ActionUnpinned, message).hint("name the image by its digest: IMAGE@sha256:…")
}

fn unpinned(name: &str, reference: &str, row: Option<&Row>) -> Reason {
    let message = if reference.is_empty() {
        format!("{name} is used without a version")
    } else {
        format!("{name} is used at {reference}, which is no full commit and may point elsewhere tomorrow")
    };
    let reason = Reason::new(Code::ActionUnpinned, message);
    match row {
        Some(row) => reason.hint(format!("write: {name}@{} # {}", row.commit, row.version)),
        None => reason,
    }
}

/// What is wrong with a pin by commit: its comment, or its age.
fn comment_or_age(name: &str, commit: &str, version: Option<&str>, row: Option<&Row>) -> Option<Reason> {
    let Some(version) = version else {
        let reason =
            Reason::new(Code::ActionComment, format!("nothing beside {name} says which version its commit is"));
        let same = row.filter(|row| row.commit.eq_ignore_ascii_case(commit));
        return Some(same.map_or(reason.clone(), |row| reason.hint(format!("write behind it: # {}", row.version))));
    };
    let row = row?;
    let hint = format!("write: {name}@{} # {}", row.commit, row.version);
    if row.commit.eq_ignore_ascii_case(commit) {
        // `v7` is no lie about v7.0.1.
        let message = format!("the comment says that {name} is {version}; the commit is {}", row.version);
        return (!is_part_of(version, &row.version)).then(|| Reason::new(Code::ActionComment, message).hint(hint));
    }
    if is_part_of(version, &row.version) {
        let message = format!("the comment says that {name} is {version}, which is another commit: {}", row.commit);
        return Some(Reason::new(Code::ActionComment, message).hint(hint));
    }
    let message = format!("{name} is pinned to {version}, and there is {}", row.version);
    (compare(version, &row.version) == Some(Ordering::Less))
        .then(|| Reason::new(Code::ActionOutdated, message).hint(hint))
}

fn is_commit(text: &str) -> bool {
    is_hex(text, 40)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The version in a comment: `v4.2.2`, `4.2.2`, `tag=v4`, `pin@v4`, with words behind it.
fn version_in(comment: &str) -> Option<&str> {
    let word = comment.split_whitespace().next()?;
    let word = ["tag=", "pin@", "ratchet:"].iter().find_map(|prefix| word.strip_prefix(prefix)).unwrap_or(word);
    // Update tools also repeat the whole reference there.
    let word = word.rsplit('@').next().unwrap_or(word);
    numbers(word).map(|_| word)
}

/// The numbers of a version, without what is behind them.
fn numbers(version: &str) -> Option<Vec<u64>> {
    let plain = version.strip_prefix(['v', 'V']).unwrap_or(version);
    let plain = plain.split(['-', '+']).next()?;
    plain.split('.').map(|part| part.parse().ok()).collect()
}

/// Whether a version says the same as another, or less of it.
fn is_part_of(version: &str, whole: &str) -> bool {
    match (numbers(version), numbers(whole)) {
        (Some(part), Some(whole)) => whole.starts_with(&part),
        _ => false,
    }
}

fn compare(version: &str, other: &str) -> Option<Ordering> {
    Some(numbers(version)?.cmp(&numbers(other)?))
}
