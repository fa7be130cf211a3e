//! `debvisor identity`: which people of OpenID providers are which users here.

use reqwest::Method;
use uuid::Uuid;

use super::client::{Client, Connection, print_json, print_list};
use super::{Context, Ended, Format};
use crate::api::IdentityRequest;
use crate::store::Identity;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Let a person of a provider log in as a user
    Link {
        /// The user
        user: String,
        /// The provider, by its name in the configuration
        #[arg(long, value_name = "NAME")]
        provider: String,
        /// What the provider calls the person in `sub`
        #[arg(long, value_name = "SUB")]
        subject: String,
    },
    /// List who is linked
    List,
    /// Let a person of a provider log in no longer
    Unlink {
        /// The identity, as `identity list` names it
        identity: Uuid,
    },
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    let client = Client::new(&args.connection, context)?;
    match args.command {
        Command::Link { user, provider, subject } => {
            let request = IdentityRequest { provider, subject, user };
            let linked: Identity = client.send(Method::POST, "/v1/identities", &request)?;
            if context.format == Format::Text {
                println!("{} of {} logs in as {}", linked.subject, linked.issuer, request.user);
            } else {
                print_json(&linked)?;
            }
        }
        Command::List => {
            let all: Vec<Identity> = client.all("/v1/identities")?;
            print_list(context, &all, ["ID", "SUBJECT", "ISSUER", "USER", "SINCE", "BY"], |row| {
                [
                    row.id.to_string(),
                    row.subject.clone(),
                    row.issuer.clone(),
                    row.user.to_string(),
                    row.created_at.to_string(),
                    row.created_by.clone(),
                ]
            })?;
        }
        Command::Unlink { identity } => client.done(Method::DELETE, &format!("/v1/identities/{identity}"))?,
    }
    Ok(Ended::Done)
}
