//! `debvisor vm console`: the serial console, both ways, as `virsh console` has it. A server that is started again is
//! waited for; what its machine says meanwhile is in `--log`.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::time::{Duration, Instant};

use reqwest::Method;

use super::super::client::Client;
use super::super::client::live::{Heard, Live, is_absence};
use super::super::{Failure, UsageError};
use crate::release::decision::Decision;

#[derive(Debug, clap::Args)]
pub(super) struct ConsoleArgs {
    /// The machine
    vm: String,
    /// Only what came out so far
    #[arg(long)]
    log: bool,
    /// Show so many bytes of what came out before; 4,096 at a terminal, else none
    #[arg(long, value_name = "BYTES", conflicts_with = "log")]
    last: Option<u32>,
    /// What ends it: ^ and a letter or sign
    #[arg(long, value_name = "KEY", default_value = "^]", value_parser = escape)]
    escape: u8,
}

/// What somebody at a terminal is shown of what was said before, in bytes.
const LAST: u32 = 4096;
/// What a server closes with that is about to be started again (RFC 6455 section 7.4, as IANA lists it).
const RESTART: u16 = 1012;
/// How long a server that has ended is waited for, and how often it is looked for.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);

/// `^]` as the byte that a terminal makes of it.
fn escape(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [b'^', sign @ (b'@'..=b'_' | b'a'..=b'z')] => Ok(sign.to_ascii_uppercase() ^ 0x40),
        _ => Err("^ and one of A to Z, @, [, \\, ], ^ and _".to_owned()),
    }
}

pub(super) fn run(client: &Client, args: &ConsoleArgs) -> anyhow::Result<()> {
    if args.log {
        return log(client, &args.vm);
    }
    // Who sits there sees where they are; who pipes keys in wants what comes of them.
    let last = args.last.unwrap_or(if std::io::stdin().is_terminal() { LAST } else { 0 });
    let path = super::path(&args.vm, &format!("/console/live?last={last}"));
    let mut live = client.run(async |client| Live::open(client, &path).await)?;
    let terminal = RawTerminal::enter()?;
    if terminal.is_some() {
        let key = char::from(args.escape ^ 0x40);
        eprint!("connected to {}; ^{key} ends it\r\n", args.vm);
    }
    let (typed, typing) = tokio::sync::mpsc::channel::<Vec<u8>>(16);
    std::thread::spawn(move || {
        let mut piece = [0; 1024];
        while let Ok(count @ 1..) = std::io::stdin().read(&mut piece) {
            let bytes = piece.get(..count).unwrap_or_default().to_vec();
            if typed.blocking_send(bytes).is_err() {
                return;
            }
        }
    });
    let mut room = Room { out: std::io::stdout().lock(), typing, raw: terminal.is_some(), escape: args.escape };
    let outcome = client.run(async |client| {
        loop {
            match room.converse(&mut live).await? {
                Over::Left => {
                    live.leave().await;
                    return Ok(None);
                }
                Over::Ended(why) => return Ok(Some(why)),
                Over::Lost(why) => {
                    room.say(&format!("{why}; it is opened again"));
                    let Some(other) = room.again(client, &super::path(&args.vm, "/console/live?last=0")).await? else {
                        return Ok(None);
                    };
                    live = other;
                    room.say("the console is open again");
                }
            }
        }
    });
    let raw = room.raw;
    drop(terminal);
    if raw {
        eprintln!();
    }
    if let Some(why) = outcome? {
        eprintln!("{why}");
    }
    Ok(())
}

/// Who sits at a console.
struct Room {
    out: std::io::StdoutLock<'static>,
    typing: tokio::sync::mpsc::Receiver<Vec<u8>>,
    raw: bool,
    escape: u8,
}

/// How a connection to a console ended.
enum Over {
    /// They left.
    Left,
    /// The machine did.
    Ended(String),
    /// The server did, or the way to it.
    Lost(String),
}

impl Room {
    async fn converse(&mut self, live: &mut Live) -> anyhow::Result<Over> {
        let mut open = true;
        loop {
            tokio::select! {
                heard = live.hear() => match heard {
                    Heard::Bytes(bytes) => {
                        self.out.write_all(&bytes)?;
                        self.out.flush()?;
                    }
                    Heard::Text(_) => {}
                    Heard::Closed(1000, why) => return Ok(Over::Ended(why)),
                    Heard::Closed(RESTART, _) => return Ok(Over::Lost("the server ends".to_owned())),
                    Heard::Closed(_, why) => return Err(gone(&why)),
                    Heard::Lost => return Ok(Over::Lost("the connection is lost".to_owned())),
                },
                bytes = self.typing.recv(), if open => match bytes {
                    Some(bytes) if self.leaves(&bytes) => {
                        // What was typed before it is typed.
                        let before: Vec<u8> = bytes.into_iter().take_while(|byte| *byte != self.escape).collect();
                        if !before.is_empty() {
                            live.say(before).await?;
                        }
                        return Ok(Over::Left);
                    }
                    // Where it does not arrive, the next thing that is heard says why.
                    Some(bytes) => drop(live.say(bytes).await),
                    None => open = false,
                },
                // What was piped in is at its end: what comes out is still to be read, for a while.
                () = tokio::time::sleep(Duration::from_secs(2)), if !open && !self.raw => return Ok(Over::Left),
            }
        }
    }

    /// The console once more, as soon as the server is there; nothing where whoever waits leaves.
    async fn again(&mut self, client: &Client, path: &str) -> anyhow::Result<Option<Live>> {
        let until = Instant::now() + PATIENCE;
        let mut open = true;
        loop {
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => match Live::open(client, path).await {
                    Ok(live) => return Ok(Some(live)),
                    Err(error) if is_absence(&error) && Instant::now() < until => {}
                    Err(error) => return Err(error),
                },
                // Nobody is there to type to.
                bytes = self.typing.recv(), if open => match bytes {
                    Some(bytes) if self.leaves(&bytes) => return Ok(None),
                    Some(_) => {}
                    None => open = false,
                },
            }
        }
    }

    fn leaves(&self, typed: &[u8]) -> bool {
        self.raw && typed.contains(&self.escape)
    }

    fn say(&self, what: &str) {
        if self.raw { eprint!("\r\n[{what}]\r\n") } else { eprintln!("{what}") }
    }
}

fn gone(why: &str) -> anyhow::Error {
    Failure::new(Decision::Undecided, why, "debvisor vm console goes on where the machine is").into()
}

fn log(client: &Client, vm: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    client.run(async |client| {
        let mut response = client.sent(client.request(Method::GET, &super::path(vm, "/console"))).await?;
        while let Some(piece) = response.chunk().await? {
            out.write_all(&piece)?;
        }
        Ok(())
    })
}

/// A terminal that passes keys on as they are typed, and is as before when this is dropped.
struct RawTerminal(rustix::termios::Termios);

impl RawTerminal {
    /// None where what is typed does not come from a terminal.
    fn enter() -> anyhow::Result<Option<Self>> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let failed = |error| UsageError::new(format!("the terminal cannot be changed: {error}"), "pipe the keys in");
        let before = rustix::termios::tcgetattr(&stdin).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(std::io::stdin(), rustix::termios::OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_end_it_are_those_that_a_terminal_can_make() {
        assert_eq!(escape("^]"), Ok(0x1d));
        assert_eq!(escape("^a"), Ok(1));
        assert_eq!(escape("^Q"), Ok(0x11));
        for wrong in ["]", "^", "^]x", "^1", "", "^é"] {
            assert!(escape(wrong).is_err(), "{wrong}");
        }
    }
}
