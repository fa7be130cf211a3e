//! `debvisor tenant` and `debvisor project`: who has machines of their own, how much they may take, how much they do.

use reqwest::Method;

use super::client::{Client, Connection, print_json, print_list};
use super::{Context, Ended, Format};
use crate::api::{AmendRequest, ProjectRequest, ProjectView, TenantRequest, TenantView};
use crate::store::{Quota, Usage};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the tenants, and what they take of their quotas
    List,
    /// Show one tenant
    Show {
        /// The tenant
        name: String,
    },
    /// Make a tenant
    Create {
        /// Its name
        name: String,
        #[command(flatten)]
        described: Described,
    },
    /// Change a tenant's description or quota; what is not named stays
    Update {
        /// The tenant
        name: String,
        #[command(flatten)]
        described: Described,
    },
    /// Remove a tenant that has no projects, and what was granted on it
    Delete {
        /// The tenant
        name: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct ProjectArgs {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: ProjectCommand,
}

#[derive(Debug, clap::Subcommand)]
enum ProjectCommand {
    /// List the projects, and what they take of their quotas
    List,
    /// Show one project
    Show {
        /// The project
        name: String,
    },
    /// Make a project of a tenant
    Create {
        /// Its name
        name: String,
        /// Whose it is
        #[arg(long, default_value = "default")]
        tenant: String,
        #[command(flatten)]
        described: Described,
    },
    /// Change a project's description or quota; what is not named stays
    Update {
        /// The project
        name: String,
        #[command(flatten)]
        described: Described,
    },
    /// Remove a project that has no machines, and what was granted on it
    Delete {
        /// The project
        name: String,
    },
}

/// What a tenant or a project is, and what it may take.
#[derive(Debug, Clone, clap::Args)]
struct Described {
    /// What it is
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Machines at most; `none` for no limit
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    max_vms: Option<Limit>,
    /// Virtual processors at most, of all machines together
    #[arg(long, value_name = "NUMBER", value_parser = limit)]
    max_cpus: Option<Limit>,
    /// Memory at most in MiB, of all machines together
    #[arg(long, value_name = "MIB", value_parser = limit)]
    max_memory: Option<Limit>,
}

/// A number, or no limit.
#[derive(Debug, Clone, Copy)]
struct Limit(Option<u64>);

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    let client = Client::new(&args.connection, context)?;
    match args.command {
        Command::List => {
            let all: Vec<TenantView> = client.all("/v1/tenants")?;
            print_list(context, &all, ["NAME", "MACHINES", "CPUS", "MEMORY", "DESCRIPTION"], |tenant| {
                let [vms, cpus, memory] = taken(&tenant.quota, &tenant.usage);
                [tenant.name.clone(), vms, cpus, memory, tenant.description.clone()]
            })?;
        }
        Command::Show { name } => show(&client.get(&format!("/v1/tenants/{name}"))?, context)?,
        Command::Create { name, described } => {
            let quota = described.quota(Quota::default())?;
            let request = TenantRequest { name, description: described.description.unwrap_or_default(), quota };
            show(&client.send(Method::POST, "/v1/tenants", &request)?, context)?;
        }
        Command::Update { name, described } => {
            let path = format!("/v1/tenants/{name}");
            let now: TenantView = client.get(&path)?;
            let request = described.amend(now.description, now.quota)?;
            show(&client.send(Method::PUT, &path, &request)?, context)?;
        }
        Command::Delete { name } => client.done(Method::DELETE, &format!("/v1/tenants/{name}"))?,
    }
    Ok(Ended::Done)
}

pub(super) fn run_project(args: ProjectArgs, context: &Context) -> anyhow::Result<Ended> {
    let client = Client::new(&args.connection, context)?;
    match args.command {
        ProjectCommand::List => {
            let all: Vec<ProjectView> = client.all("/v1/projects")?;
            print_list(context, &all, ["NAME", "TENANT", "MACHINES", "CPUS", "MEMORY", "DESCRIPTION"], |project| {
                let [vms, cpus, memory] = taken(&project.quota, &project.usage);
                [project.name.clone(), project.tenant.clone(), vms, cpus, memory, project.description.clone()]
            })?;
        }
        ProjectCommand::Show { name } => show_project(&client.get(&format!("/v1/projects/{name}"))?, context)?,
        ProjectCommand::Create { name, tenant, described } => {
            let quota = described.quota(Quota::default())?;
            let description = described.description.unwrap_or_default();
            let request = ProjectRequest { name, tenant, description, quota };
            show_project(&client.send(Method::POST, "/v1/projects", &request)?, context)?;
        }
        ProjectCommand::Update { name, described } => {
            let path = format!("/v1/projects/{name}");
            let now: ProjectView = client.get(&path)?;
            let request = described.amend(now.description, now.quota)?;
            show_project(&client.send(Method::PUT, &path, &request)?, context)?;
        }
        ProjectCommand::Delete { name } => client.done(Method::DELETE, &format!("/v1/projects/{name}"))?,
    }
    Ok(Ended::Done)
}

impl Described {
    /// The quota that is left of `now` after what was named.
    fn quota(&self, now: Quota) -> anyhow::Result<Quota> {
        let count = |limit: Option<Limit>, now: Option<u32>| match limit {
            None => Ok(now),
            Some(Limit(None)) => Ok(None),
            Some(Limit(Some(number))) => u32::try_from(number).map(Some),
        };
        Ok(Quota {
            vms: count(self.max_vms, now.vms)?,
            cpus: count(self.max_cpus, now.cpus)?,
            memory_mib: self.max_memory.map_or(now.memory_mib, |Limit(limit)| limit),
        })
    }

    fn amend(self, description: String, quota: Quota) -> anyhow::Result<AmendRequest> {
        let quota = self.quota(quota)?;
        Ok(AmendRequest { description: self.description.unwrap_or(description), quota })
    }
}

fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "none" => Ok(Limit(None)),
        number => number.parse().map(|number| Limit(Some(number))).map_err(|_| format!("`{text}` is no number")),
    }
}

/// What is taken of what may be, as `3 of 10`.
fn taken(quota: &Quota, usage: &Usage) -> [String; 3] {
    let of = |used: u64, most: Option<u64>| most.map_or_else(|| used.to_string(), |most| format!("{used} of {most}"));
    [
        of(usage.vms, quota.vms.map(u64::from)),
        of(usage.cpus, quota.cpus.map(u64::from)),
        format!("{} MiB", of(usage.memory_mib, quota.memory_mib)),
    ]
}

fn show(tenant: &TenantView, context: &Context) -> anyhow::Result<()> {
    if context.format != Format::Text {
        return print_json(tenant);
    }
    println!("name         {}", tenant.name);
    print_taken(&tenant.description, &tenant.quota, &tenant.usage);
    println!("made         {} by {}", tenant.created_at, tenant.created_by);
    Ok(())
}

fn show_project(project: &ProjectView, context: &Context) -> anyhow::Result<()> {
    if context.format != Format::Text {
        return print_json(project);
    }
    println!("name         {}", project.name);
    println!("tenant       {}", project.tenant);
    print_taken(&project.description, &project.quota, &project.usage);
    println!("made         {} by {}", project.created_at, project.created_by);
    Ok(())
}

fn print_taken(description: &str, quota: &Quota, usage: &Usage) {
    let [vms, cpus, memory] = taken(quota, usage);
    println!("description  {description}");
    println!("machines     {vms}");
    println!("processors   {cpus}");
    println!("memory       {memory}");
}
