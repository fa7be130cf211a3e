//! `--watch`: a list that is shown again when something happens. On a terminal it is drawn over; elsewhere each line that
//! is new or has changed is appended; for programs it is one JSON document a line.
//!
//! It follows the event table, so that what happens while it asks is asked for again, and a lost connection is opened
//! again where it was.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::client::live::{Events, Next, is_absence};
use super::client::{Client, table};
use super::{Context, Format};

/// What happens in so short a time is shown together.
const TOGETHER: Duration = Duration::from_millis(100);
/// The longest that something is not shown because more of it happens.
const AT_LEAST: Duration = Duration::from_secs(1);

/// How often a server that has ended is looked for.
const PAUSE: Duration = Duration::from_millis(500);

/// What is shown, and how.
pub(super) struct Shown<'a, T, const N: usize> {
    pub(super) head: [&'a str; N],
    /// Kinds of events after which it can be another, as they begin.
    pub(super) kinds: &'a [&'a str],
    /// What makes an item the same as before.
    pub(super) key: &'a dyn Fn(&T) -> String,
    pub(super) row: &'a dyn Fn(&T) -> [String; N],
    /// All items, as they are now.
    pub(super) fetch: &'a dyn Fn() -> anyhow::Result<Vec<T>>,
}

/// Shows it until it is interrupted.
pub(super) fn list<T: Serialize, const N: usize>(
    client: &Client,
    context: &Context,
    no_headers: bool,
    shown: &Shown<'_, T, N>,
) -> anyhow::Result<()> {
    let mut events = Events::new(client, "", "", "");
    // From here on nothing is missed: what happens while the list is read is told afterwards.
    client.run(async |_| events.next().await)?;
    let mut screen = Screen::new(context);
    let mut before: BTreeMap<String, (serde_json::Value, [String; N])> = BTreeMap::new();
    let mut first = true;
    loop {
        let items = fetched(client, first, shown.fetch)?;
        let mut after = BTreeMap::new();
        for item in &items {
            after.insert((shown.key)(item), (serde_json::to_value(item)?, (shown.row)(item)));
        }
        match screen {
            Screen::Terminal(ref mut lines) => {
                let rows: Vec<[String; N]> = items.iter().map(shown.row).collect();
                draw(lines, &table((!no_headers).then_some(shown.head), &rows))?;
            }
            Screen::Lines => append(shown, &items, &before, &after, first && !no_headers)?,
            Screen::Json => tell(shown, &items, &before, &after)?,
        }
        (before, first) = (after, false);
        if client.run(async |_| happens(&mut events, shown.kinds).await)? {
            screen.was_left();
        }
    }
}

/// What there is, once there is somebody to ask: a server that is started again is waited for.
fn fetched<T>(client: &Client, first: bool, fetch: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    loop {
        match fetch() {
            Err(error) if !first && is_absence(&error) => client.run(async |_| {
                tokio::time::sleep(PAUSE).await;
                Ok(())
            })?,
            outcome => return outcome,
        }
    }
}

/// Waits for something of these kinds, and for what comes with it. Whether the connection was lost meanwhile.
async fn happens(events: &mut Events<'_>, kinds: &[&str]) -> anyhow::Result<bool> {
    let mut lost = false;
    let mut concerns = |next: &Next| match next {
        Next::Event(event) => kinds.iter().any(|kind| event.kind.starts_with(kind)),
        Next::Again => {
            lost = true;
            true
        }
        Next::Nothing => false,
    };
    while !concerns(&events.next().await?) {}
    let latest = Instant::now() + AT_LEAST;
    while let Some(next) = events.next_until(latest.min(Instant::now() + TOGETHER)).await? {
        concerns(&next);
    }
    Ok(lost)
}

enum Screen {
    /// With so many lines on it that are ours.
    Terminal(usize),
    Lines,
    Json,
}

impl Screen {
    fn new(context: &Context) -> Self {
        match context.format {
            Format::Text if std::io::stdout().is_terminal() => Self::Terminal(0),
            Format::Text => Self::Lines,
            _ => Self::Json,
        }
    }

    /// Something else was written below what is ours: from here on it is drawn anew.
    const fn was_left(&mut self) {
        if let Self::Terminal(lines) = self {
            *lines = 0;
        }
    }
}

/// Draws over what was drawn before. Lines that are wider than the terminal are cut by it, not wrapped.
fn draw(lines: &mut usize, text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let room = rustix::termios::tcgetwinsize(std::io::stdout()).map_or(24, |size| usize::from(size.ws_row).max(3));
    let all: Vec<&str> = text.lines().collect();
    let mut drawn: Vec<&str> = all.iter().copied().take(room - 1).collect();
    let rest = format!("… and {} more", all.len().saturating_sub(room.saturating_sub(2)));
    if all.len() >= room {
        drawn.truncate(room - 2);
        drawn.push(&rest);
    }
    if *lines > 0 {
        write!(out, "\x1b[{lines}A")?;
    }
    write!(out, "\r\x1b[J\x1b[?7l")?;
    for line in &drawn {
        writeln!(out, "{line}")?;
    }
    write!(out, "\x1b[?7h")?;
    out.flush()?;
    *lines = drawn.len();
    Ok(())
}

/// What a list held: each item as it is told to programs and as it is shown.
type Held<const N: usize> = BTreeMap<String, (serde_json::Value, [String; N])>;

fn append<T: Serialize, const N: usize>(
    shown: &Shown<'_, T, N>,
    items: &[T],
    before: &Held<N>,
    after: &Held<N>,
    head: bool,
) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for item in items {
        let key = (shown.key)(item);
        let row = (shown.row)(item);
        if before.get(&key).is_none_or(|(_, old)| *old != row) {
            rows.push(row);
        }
    }
    for (key, (_, row)) in before {
        if !after.contains_key(key) {
            let mut gone = row.clone();
            if let Some(last) = gone.last_mut() {
                "deleted".clone_into(last);
            }
            rows.push(gone);
        }
    }
    let mut out = std::io::stdout().lock();
    out.write_all(table(head.then_some(shown.head), &rows).as_bytes())?;
    Ok(out.flush()?)
}

fn tell<T: Serialize, const N: usize>(
    shown: &Shown<'_, T, N>,
    items: &[T],
    before: &Held<N>,
    after: &Held<N>,
) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for item in items {
        let key = (shown.key)(item);
        let (Some((now, _)), was) = (after.get(&key), before.get(&key)) else { continue };
        if was.is_none_or(|(was, _)| was != now) {
            writeln!(out, "{now}")?;
        }
    }
    for (key, (was, _)) in before {
        if !after.contains_key(key) {
            let mut gone = was.clone();
            if let Some(fields) = gone.as_object_mut() {
                fields.insert("deleted".to_owned(), true.into());
            }
            writeln!(out, "{gone}")?;
        }
    }
    Ok(out.flush()?)
}

/// Shows one thing until it is interrupted or gone.
pub(super) fn one<T: Serialize>(
    client: &Client,
    context: &Context,
    kinds: &[&str],
    fetch: impl Fn() -> anyhow::Result<T>,
    text: impl Fn(&T) -> String,
) -> anyhow::Result<()> {
    let mut events = Events::new(client, "", "", "");
    client.run(async |_| events.next().await)?;
    let mut screen = Screen::new(context);
    let mut before = None;
    loop {
        let item = fetched(client, before.is_none(), &fetch)?;
        let told = text(&item);
        let value = serde_json::to_value(&item)?;
        let (what, is_new) = match screen {
            Screen::Json => (format!("{value}\n"), before.as_ref() != Some(&value.to_string())),
            _ => (told.clone(), before.as_ref() != Some(&told)),
        };
        if is_new {
            match screen {
                Screen::Terminal(ref mut lines) => draw(lines, &what)?,
                Screen::Lines if before.is_some() => print(&format!("\n{what}"))?,
                Screen::Lines | Screen::Json => print(&what)?,
            }
        }
        before = Some(if matches!(screen, Screen::Json) { value.to_string() } else { told });
        if client.run(async |_| happens(&mut events, kinds).await)? {
            screen.was_left();
        }
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
