//! `debvisor role`, `debvisor grant` and `debvisor access`: what roles let their holders do, who has which where, and
//! whether somebody may do something.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use jiff::civil::Time;
use reqwest::Method;

use super::client::{Client, Connection, print_json, print_list};
use super::{Context, Ended, Format};
use crate::api::{GrantRequest, GrantView, Page, RoleAmendRequest, RoleRequest, RoleView, Verdict};
use crate::release::decision::Decision;
use crate::types::access::Permission;
use crate::types::grant::{Conditions, Day, Hours};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the roles, built in and made
    List,
    /// Show what a role lets its holders do
    Show {
        /// The role
        name: String,
    },
    /// Make a role of permissions that you hold yourself
    Create {
        /// Its name
        name: String,
        #[command(flatten)]
        holds: Holds,
    },
    /// Replace what a role lets its holders do
    Update {
        /// The role
        name: String,
        #[command(flatten)]
        holds: Holds,
    },
    /// Remove a role that nobody has
    Delete {
        /// The role
        name: String,
    },
    /// List every permission, and what it lets its holder do
    Permissions,
}

#[derive(Debug, clap::Args)]
struct Holds {
    /// A permission, as vm.read; repeatable, or several with commas
    #[arg(long = "permission", value_name = "PERMISSION", value_delimiter = ',', required = true)]
    permissions: Vec<Permission>,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct GrantArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: GrantCommand,
}

#[derive(Debug, clap::Subcommand)]
enum GrantCommand {
    /// List who has which role where
    List,
    /// Show one grant, with its conditions
    Show {
        /// The grant
        grant: String,
    },
    /// Give somebody a role
    Create(Box<CreateArgs>),
    /// Take a role from somebody, at once
    Delete {
        /// The grant
        grant: String,
    },
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// Who: user:NAME or service:NAME
    holder: String,
    /// Which role
    role: String,
    #[command(flatten)]
    on: On,
    /// Not before this time
    #[arg(long, value_name = "TIME")]
    not_before: Option<Timestamp>,
    /// No longer from this time on
    #[arg(long, value_name = "TIME")]
    expires: Option<Timestamp>,
    /// Only on these days of the week: mon,tue or mon-fri
    #[arg(long, value_name = "DAYS", value_delimiter = ',', value_parser = days)]
    days: Vec<Span>,
    /// Only at these hours, as 08:00-18:00; 22:00-06:00 goes over midnight
    #[arg(long, value_name = "FROM-UNTIL", value_parser = hours)]
    hours: Option<Hours>,
    /// Where days and hours are told, as Europe/Berlin; UTC without it
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<String>,
    /// Only from this address or range; repeatable
    #[arg(long, value_name = "ADDRESS", value_parser = range)]
    address: Vec<IpNet>,
}

/// On what; everything where nothing is named.
#[derive(Debug, Clone, clap::Args)]
#[group(multiple = false)]
struct On {
    /// On a tenant, its projects and their machines
    #[arg(long)]
    tenant: Option<String>,
    /// On a project and its machines
    #[arg(long)]
    project: Option<String>,
    /// On one machine
    #[arg(long)]
    vm: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct AccessArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: AccessCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AccessCommand {
    /// Say whether you may do something, and which grants say so; a no ends with 1
    CanI {
        /// The permission, as vm.power
        permission: Permission,
        #[command(flatten)]
        on: On,
        /// Anywhere at all
        #[arg(long, conflicts_with_all = ["tenant", "project", "vm"])]
        anywhere: bool,
        /// Whether somebody else may: user:NAME or service:NAME
        #[arg(long = "as", value_name = "HOLDER")]
        holder: Option<String>,
        /// From which address they would
        #[arg(long, value_name = "ADDRESS", requires = "holder")]
        address: Option<IpAddr>,
    },
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    if matches!(args.command, Command::Permissions) {
        print_list(context, Permission::ALL, ["PERMISSION", "LETS ITS HOLDER"], |permission| {
            [permission.to_string(), permission.meaning().to_owned()]
        })?;
        return Ok(Ended::Done);
    }
    let client = Client::new(&args.connection, context)?;
    match args.command {
        Command::List | Command::Permissions => {
            let page: Page<RoleView> = client.get("/v1/roles")?;
            print_list(context, &page.items, ["NAME", "BUILT IN", "PERMISSIONS", "DESCRIPTION"], |role| {
                let built_in = if role.built_in { "yes" } else { "no" };
                let count = role.permissions.len().to_string();
                [role.name.clone(), built_in.to_owned(), count, role.description.clone()]
            })?;
        }
        Command::Show { name } => show(&client.get(&format!("/v1/roles/{name}"))?, context)?,
        Command::Create { name, holds } => {
            let Holds { permissions, description } = holds;
            let request = RoleRequest { name, description: description.unwrap_or_default(), permissions };
            show(&client.send(Method::POST, "/v1/roles", &request)?, context)?;
        }
        Command::Update { name, holds } => {
            let path = format!("/v1/roles/{name}");
            let now: RoleView = client.get(&path)?;
            let Holds { permissions, description } = holds;
            let description = description.unwrap_or(now.description);
            show(&client.send(Method::PUT, &path, &RoleAmendRequest { description, permissions })?, context)?;
        }
        Command::Delete { name } => client.done(Method::DELETE, &format!("/v1/roles/{name}"))?,
    }
    Ok(Ended::Done)
}

pub(super) fn run_grant(args: GrantArgs, context: &Context) -> anyhow::Result<Ended> {
    let client = Client::new(&args.connection, context)?;
    match args.command {
        GrantCommand::List => {
            let all: Vec<GrantView> = client.all("/v1/grants")?;
            print_list(context, &all, ["ID", "HOLDER", "ROLE", "ON", "CONDITIONS", "BY"], |grant| {
                [
                    grant.id.map(|id| id.to_string()).unwrap_or_default(),
                    named(grant),
                    grant.role.clone(),
                    grant.scope.clone(),
                    conditions(&grant.conditions),
                    grant.created_by.clone(),
                ]
            })?;
        }
        GrantCommand::Show { grant } => show_grant(&client.get(&format!("/v1/grants/{grant}"))?, context)?,
        GrantCommand::Create(args) => {
            let request = GrantRequest {
                holder: args.holder,
                role: args.role,
                scope: args.on.scope(),
                conditions: Conditions {
                    not_before: args.not_before,
                    expires_at: args.expires,
                    days: args.days.into_iter().flat_map(|Span(days)| days).collect(),
                    hours: args.hours,
                    time_zone: args.time_zone,
                    addresses: args.address,
                },
            };
            show_grant(&client.send(Method::POST, "/v1/grants", &request)?, context)?;
        }
        GrantCommand::Delete { grant } => client.done(Method::DELETE, &format!("/v1/grants/{grant}"))?,
    }
    Ok(Ended::Done)
}

pub(super) fn run_access(args: AccessArgs, context: &Context) -> anyhow::Result<Ended> {
    let client = Client::new(&args.connection, context)?;
    let AccessCommand::CanI { permission, on, anywhere, holder, address } = args.command;
    let on = if anywhere { "anything".to_owned() } else { on.scope() };
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("permission", permission.as_str()).append_pair("on", &on);
    if let Some(holder) = &holder {
        query.append_pair("holder", holder);
    }
    if let Some(address) = address {
        query.append_pair("address", &address.to_string());
    }
    let verdict: Verdict = client.get(&format!("/v1/access/check?{}", query.finish()))?;
    if context.format == Format::Text {
        println!("{}", if verdict.allowed { "yes" } else { "no" });
        for grant in &verdict.by {
            let id = grant.id.map_or_else(|| "their own role".to_owned(), |id| format!("grant {id}"));
            println!("  by {id}: {} on {}{}", grant.role, grant.scope, spaced(&conditions(&grant.conditions)));
        }
    } else {
        print_json(&verdict)?;
    }
    Ok(Ended::Decided(if verdict.allowed { Decision::Allow } else { Decision::Deny }))
}

impl On {
    fn scope(&self) -> String {
        match (&self.tenant, &self.project, &self.vm) {
            (Some(tenant), _, _) => format!("tenant:{tenant}"),
            (_, Some(project), _) => format!("project:{project}"),
            (_, _, Some(vm)) => format!("vm:{vm}"),
            _ => "everything".to_owned(),
        }
    }
}

/// One day, or all from one to another.
#[derive(Debug, Clone)]
struct Span(Vec<Day>);

fn days(text: &str) -> Result<Span, String> {
    let day = |word: &str| Day::ALL.iter().position(|day| super::client::word(day) == word);
    let wrong = || format!("`{text}` is no day: mon, tue, wed, thu, fri, sat, sun, or two of them as mon-fri");
    let (from, until) = text.split_once('-').unwrap_or((text, text));
    let (from, until) = (day(from).ok_or_else(wrong)?, day(until).ok_or_else(wrong)?);
    let count = (until + Day::ALL.len() - from) % Day::ALL.len() + 1;
    Ok(Span(Day::ALL.iter().cycle().skip(from).take(count).copied().collect()))
}

fn hours(text: &str) -> Result<Hours, String> {
    let time = |text: &str| text.parse::<Time>().ok();
    let both = text.split_once('-').and_then(|(from, until)| Some((time(from)?, time(until)?)));
    let (from, until) = both.ok_or_else(|| format!("`{text}` is no span of hours: 08:00-18:00"))?;
    Ok(Hours { from, until })
}

/// A range, or one address.
fn range(text: &str) -> Result<IpNet, String> {
    let one = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>().or_else(|_| one()).map_err(|_| format!("`{text}` is neither an address nor a range"))
}

fn show(role: &RoleView, context: &Context) -> anyhow::Result<()> {
    if context.format != Format::Text {
        return print_json(role);
    }
    println!("name         {}", role.name);
    println!("description  {}", role.description);
    println!("built in     {}", if role.built_in { "yes" } else { "no" });
    for permission in &role.permissions {
        println!("  {permission:<20} {}", permission.meaning());
    }
    Ok(())
}

fn show_grant(grant: &GrantView, context: &Context) -> anyhow::Result<()> {
    if context.format != Format::Text {
        return print_json(grant);
    }
    println!("id           {}", grant.id.map(|id| id.to_string()).unwrap_or_default());
    println!("holder       {}", named(grant));
    println!("role         {}", grant.role);
    println!("on           {}", grant.scope);
    println!("conditions   {}", conditions(&grant.conditions));
    println!("made         {} by {}", grant.created_at, grant.created_by);
    Ok(())
}

/// Who holds it, by name where they have one.
fn named(grant: &GrantView) -> String {
    grant.user.as_ref().map_or_else(|| grant.holder.clone(), |name| format!("user:{name}"))
}

/// Conditions in one line; none is `always`.
fn conditions(conditions: &Conditions) -> String {
    let mut told = Vec::new();
    if let Some(from) = conditions.not_before {
        told.push(format!("from {from}"));
    }
    if let Some(end) = conditions.expires_at {
        told.push(format!("until {end}"));
    }
    if !conditions.days.is_empty() {
        told.push(conditions.days.iter().map(super::client::word).collect::<Vec<_>>().join(","));
    }
    if let Some(Hours { from, until }) = conditions.hours {
        told.push(format!("{}-{}", from.strftime("%H:%M"), until.strftime("%H:%M")));
    }
    if !conditions.days.is_empty() || conditions.hours.is_some() {
        told.push(conditions.time_zone.clone().unwrap_or_else(|| "UTC".to_owned()));
    }
    if !conditions.addresses.is_empty() {
        let ranges: Vec<String> = conditions.addresses.iter().map(ToString::to_string).collect();
        told.push(format!("from {}", ranges.join(", ")));
    }
    if told.is_empty() { "always".to_owned() } else { told.join(" ") }
}

fn spaced(text: &str) -> String {
    if text == "always" { String::new() } else { format!(", {text}") }
}
