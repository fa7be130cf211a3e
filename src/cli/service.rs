//! `debvisor service`: programs that say who they are by a certificate.

use std::path::PathBuf;

use reqwest::Method;

use super::client::{Client, Connection, print_json, print_list};
use super::{Context, Ended, Format, UsageError};
use crate::api::ServiceRequest;
use crate::release::artifact;
use crate::store::Service;
use crate::types::limits;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a service known by what its certificate says; grants say what it may do
    Create {
        /// Its name: lower-case letters, digits and hyphens
        name: String,
        /// What its certificate is known by: spki:sha256:…, uri:… or dns:…; repeatable, one of them is enough
        #[arg(long, value_name = "MARK", required_unless_present = "certificate")]
        mark: Vec<String>,
        /// A certificate in PEM whose key is pinned
        #[arg(long, value_name = "FILE")]
        certificate: Option<PathBuf>,
    },
    /// List services
    List,
    /// Show a service
    Show {
        /// The service
        name: String,
    },
    /// Remove a service: its certificates open nothing from now on
    Delete {
        /// The service
        name: String,
    },
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    let client = Client::new(&args.connection, context)?;
    match args.command {
        Command::Create { name, mark, certificate } => {
            let pin = certificate.map(|file| pin(&file)).transpose()?;
            let request = ServiceRequest { name, marks: mark.into_iter().chain(pin).collect() };
            let service: Service = client.send(Method::POST, "/v1/services", &request)?;
            if context.format == Format::Text {
                println!("{} is known by {}", service.name, marks(&service));
            } else {
                print_json(&service)?;
            }
        }
        Command::List => table(context, &client.all::<Service>("/v1/services")?)?,
        Command::Show { name } => {
            let service: Service = client.get(&format!("/v1/services/{name}"))?;
            if context.format == Format::Text {
                table(context, &[service])?;
            } else {
                print_json(&service)?;
            }
        }
        Command::Delete { name } => client.done(Method::DELETE, &format!("/v1/services/{name}"))?,
    }
    Ok(Ended::Done)
}

fn table(context: &Context, services: &[Service]) -> anyhow::Result<()> {
    print_list(context, services, ["NAME", "KNOWN BY", "SINCE", "BY"], |service| {
        [service.name.clone(), marks(service), service.created_at.to_string(), service.created_by.clone()]
    })
}

fn marks(service: &Service) -> String {
    service.marks.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The mark that pins the key of a certificate.
fn pin(file: &std::path::Path) -> anyhow::Result<String> {
    use der::{DecodePem as _, Encode as _};
    use sha2::Digest as _;
    let hint = "name a file with the service's certificate in PEM";
    let bytes = artifact::read_bounded(file, limits::CONFIG_BYTES)
        .map_err(|error| UsageError::new(format!("cannot read {}: {error}", file.display()), hint))?;
    let wrong = |_| UsageError::new(format!("{} is no certificate in PEM", file.display()), hint);
    let certificate = x509_cert::Certificate::from_pem(bytes).map_err(wrong)?;
    let key = certificate.tbs_certificate.subject_public_key_info.to_der().map_err(wrong)?;
    Ok(format!("spki:sha256:{}", hex::encode(sha2::Sha256::digest(key))))
}
