//! `debvisor token`: API keys, for programs that ask in a person's name. A key goes to stdout when it is made, and
//! nowhere else, ever.

use ipnet::IpNet;
use jiff::SignedDuration;
use reqwest::Method;
use uuid::Uuid;

use super::client::{Client, Connection, print_json, print_list};
use super::{Context, Ended, Format, UsageError};
use crate::api::{KeyRequest, KeyShown, RotateRequest};
use crate::store::ApiKey;
use crate::types::access::Permission;
use crate::types::duration;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a key; it is printed this once
    Create {
        /// What it is called
        name: String,
        /// What it may be used for, as vm.read; repeatable, or with commas
        #[arg(long = "scope", value_name = "PERMISSION", required = true, value_delimiter = ',')]
        scopes: Vec<Permission>,
        /// From where it may be used, as 192.0.2.0/24; repeatable; anywhere without it
        #[arg(long = "address", value_name = "RANGE", value_delimiter = ',')]
        addresses: Vec<IpNet>,
        /// How long it lasts, as 30d or 12h; as long as is allowed without it, which is 90 days or less
        #[arg(long, value_name = "DURATION", value_parser = lasting)]
        lasts: Option<SignedDuration>,
        /// Whose it is; without it one's own
        #[arg(long, value_name = "USER")]
        user: Option<String>,
    },
    /// List keys, and when they were used last
    List {
        /// Whose; without it one's own
        #[arg(long, value_name = "USER", conflicts_with = "all")]
        user: Option<String>,
        /// Everybody's
        #[arg(long)]
        all: bool,
    },
    /// Make a key that takes another one's place, which stays valid for a while; it is printed this once
    Rotate {
        /// The key, by identity or name
        key: String,
        /// For how long the old key stays valid, at most 7 days
        #[arg(long, value_name = "DURATION", value_parser = lasting, default_value = "24h")]
        overlap: SignedDuration,
        /// Whose it is, where it is named; without it one's own
        #[arg(long, value_name = "USER")]
        user: Option<String>,
    },
    /// Revoke a key: it opens nothing from now on
    Revoke {
        /// The key, by identity or name
        key: String,
        /// Whose it is, where it is named; without it one's own
        #[arg(long, value_name = "USER")]
        user: Option<String>,
    },
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    let client = Client::new(&args.connection, context)?;
    match args.command {
        Command::Create { name, scopes, addresses, lasts, user } => {
            let scopes = scopes.into_iter().collect();
            let request = KeyRequest { name, user, scopes, addresses, lasts_seconds: lasts.map(seconds) };
            shown(context, &client.send(Method::POST, "/v1/keys", &request)?)?;
        }
        Command::List { user, all } => list(&client, context, if all { Some("*") } else { user.as_deref() })?,
        Command::Rotate { key, overlap, user } => {
            let id = found(&client, &key, user.as_deref())?;
            let request = RotateRequest { overlap_seconds: Some(seconds(overlap)) };
            shown(context, &client.send(Method::POST, &format!("/v1/keys/{id}/rotate"), &request)?)?;
        }
        Command::Revoke { key, user } => {
            let id = found(&client, &key, user.as_deref())?;
            client.done(Method::DELETE, &format!("/v1/keys/{id}"))?;
        }
    }
    Ok(Ended::Done)
}

/// The key to stdout, everything else to stderr: `key=$(debvisor token create …)`.
fn shown(context: &Context, shown: &KeyShown) -> anyhow::Result<()> {
    if context.format != Format::Text {
        return print_json(shown);
    }
    println!("{}", shown.token);
    if !context.quiet {
        eprintln!("valid until {}; it is not shown again", shown.key.expires_at);
    }
    Ok(())
}

fn list(client: &Client, context: &Context, user: Option<&str>) -> anyhow::Result<()> {
    let keys = keys(client, user)?;
    print_list(context, &keys, ["ID", "NAME", "SCOPES", "FROM", "STATE", "EXPIRES", "LAST USED"], |key| {
        let joined = |texts: Vec<String>| if texts.is_empty() { "anywhere".to_owned() } else { texts.join(",") };
        let from = key.used_from.map(|address| format!(" from {address}")).unwrap_or_default();
        [
            key.id.to_string(),
            key.name.clone(),
            joined(key.scopes.iter().map(ToString::to_string).collect()),
            joined(key.addresses.iter().map(ToString::to_string).collect()),
            state(key, context.now).to_owned(),
            key.expires_at.to_string(),
            key.used_at.map_or_else(|| "never".to_owned(), |at| format!("{at}{from}")),
        ]
    })
}

fn state(key: &ApiKey, now: jiff::Timestamp) -> &'static str {
    match key {
        key if key.revoked_at.is_some() => "revoked",
        key if key.expires_at <= now => "expired",
        key if key.replaced_by.is_some() => "rotated",
        _ => "valid",
    }
}

fn keys(client: &Client, user: Option<&str>) -> anyhow::Result<Vec<ApiKey>> {
    let path = match user {
        None => "/v1/keys".to_owned(),
        Some(user) => {
            let pairs = url::form_urlencoded::Serializer::new(String::new()).append_pair("user", user).finish();
            format!("/v1/keys?{pairs}")
        }
    };
    client.all(&path)
}

/// The key that is meant: by identity, or the one of this name that was not revoked or rotated.
fn found(client: &Client, text: &str, user: Option<&str>) -> anyhow::Result<Uuid> {
    if let Ok(id) = text.parse() {
        return Ok(id);
    }
    let named = |key: &&ApiKey| key.name == text && key.revoked_at.is_none() && key.replaced_by.is_none();
    match keys(client, user)?.iter().find(named) {
        Some(key) => Ok(key.id),
        None => {
            Err(UsageError::new(format!("there is no living key {text:?}"), "debvisor token list shows them").into())
        }
    }
}

fn lasting(text: &str) -> Result<SignedDuration, String> {
    duration::parse(text)
}

fn seconds(duration: SignedDuration) -> u64 {
    u64::try_from(duration.as_secs()).unwrap_or(0)
}
