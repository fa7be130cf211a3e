//! `debvisor event list`: what happened, and what happens from now on.

use super::client::live::{Events, Next};
use super::client::{Client, Connection};
use super::{Context, Ended, Format};
use crate::api::Page;
use crate::store::Event;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List events, the oldest first
    List {
        /// Those after this number
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        after: i64,
        /// Only the newest so many
        #[arg(long, value_name = "COUNT", conflicts_with = "after")]
        last: Option<u32>,
        /// Those whose kind begins so, as vm. or image.altered
        #[arg(long, value_name = "PREFIX", default_value = "")]
        kind: String,
        /// Those about what begins so, as vm/0190…
        #[arg(long, value_name = "PREFIX", default_value = "")]
        subject: String,
        /// Go on with what happens from now on
        #[arg(long, short, visible_alias = "watch", visible_short_alias = 'w')]
        follow: bool,
    },
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let client = Client::new(&args.connection, context)?;
    let Command::List { after, last, kind, subject, follow } = &args.command;
    let mut from = format!("after={after}");
    if let Some(last) = last {
        from = format!("last={last}");
    }
    let mut out = anstream::stdout().lock();
    if *follow {
        let mut events = Events::new(&client, &from, kind, subject);
        loop {
            if let Next::Event(event) = client.run(async |_| events.next().await)? {
                print(&mut out, &event, context)?;
            }
        }
    }
    let encoded = |text: &str| -> String { url::form_urlencoded::byte_serialize(text.as_bytes()).collect() };
    let narrowed = format!("kind={}&subject={}", encoded(kind), encoded(subject));
    loop {
        let page: Page<Event> = client.get(&format!("/v1/events?{from}&{narrowed}&limit=1000"))?;
        for event in &page.items {
            print(&mut out, event, context)?;
        }
        if page.items.is_empty() {
            return Ok(Ended::Done);
        }
        if let Some(next) = page.next {
            from = format!("after={next}");
        }
    }
}

fn print(out: &mut impl std::io::Write, event: &Event, context: &Context) -> anyhow::Result<()> {
    if context.format != Format::Text {
        serde_json::to_writer(&mut *out, event)?;
        writeln!(out)?;
        return Ok(out.flush()?);
    }
    let told = event.data.get("reasons").and_then(|reasons| reasons.as_array()).map(|reasons| {
        let codes = reasons.iter().filter_map(|reason| reason.get("code")?.as_str());
        codes.collect::<Vec<_>>().join(", ")
    });
    let message = event.data.get("message").and_then(|message| message.as_str()).map(str::to_owned);
    let name = event.data.get("name").and_then(|name| name.as_str()).unwrap_or_default();
    let rest = told.or(message).unwrap_or_default();
    writeln!(out, "{:>6}  {}  {:24} {} {name} {rest}", event.id, event.at, event.kind, event.subject)?;
    out.flush()?;
    Ok(())
}
