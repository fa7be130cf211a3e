//! Flags or a document in, a machine's description out.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use reqwest::Method;

use super::super::client::{Client, print_json};
use super::super::image::digest_of;
use super::super::{Context, Format, UsageError};
use super::{Asked, power};
use crate::api::{PowerRequest, VmView};
use crate::release::artifact;
use crate::types::vm::{DirectKernel, Disk, Firmware, Iso, Network, Nic, RestartPolicy, VmSpec};
use crate::types::{Digest, limits};

#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// The name: lower-case letters, digits and hyphens
    #[arg(required_unless_present = "file")]
    name: Option<String>,
    /// The project that it belongs to; without it the context's, else default
    #[arg(long)]
    project: Option<String>,
    /// A description in JSON, in place of all the flags
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cpus", "memory", "disk", "kernel", "nic", "iso", "firmware"])]
    file: Option<PathBuf>,
    /// Virtual processors
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Memory: 512M, 2G, or MiB
    #[arg(long, default_value = "512M", value_parser = memory)]
    memory: u64,
    /// A disk image, by digest or name; repeatable
    #[arg(long, value_name = "IMAGE")]
    disk: Vec<String>,
    /// An ISO image in a drive; repeatable
    #[arg(long, value_name = "IMAGE")]
    iso: Vec<String>,
    /// A kernel that is loaded directly
    #[arg(long, value_name = "IMAGE")]
    kernel: Option<String>,
    /// Its initial root file system
    #[arg(long, value_name = "IMAGE", requires = "kernel")]
    initrd: Option<String>,
    /// Its command line
    #[arg(long, value_name = "TEXT", requires = "kernel", default_value = "")]
    cmdline: String,
    /// Firmware
    #[arg(long, value_name = "IMAGE")]
    firmware: Option<String>,
    /// The template of its variables
    #[arg(long, value_name = "IMAGE", requires = "firmware")]
    firmware_vars: Option<String>,
    /// Secure Boot
    #[arg(long, requires = "firmware_vars")]
    secure_boot: bool,
    /// A network card: user, or bridge=NAME; with ,rom=IMAGE its firmware; repeatable
    #[arg(long, value_name = "NETWORK")]
    nic: Vec<String>,
    /// A virtual TPM
    #[arg(long)]
    vtpm: bool,
    /// Start it when the node comes up
    #[arg(long)]
    autostart: bool,
    /// What happens after it dies: never, on-failure, always
    #[arg(long, default_value = "never", value_parser = restart)]
    restart: RestartPolicy,
    /// Hundredths of one processor at most
    #[arg(long, value_name = "PERCENT")]
    cpu_limit: Option<u32>,
    /// Boot from the network first
    #[arg(long)]
    netboot: bool,
    /// Switch it on at once
    #[arg(long)]
    start: bool,
}

pub(super) fn create(client: &Client, args: &CreateArgs, context: &Context) -> anyhow::Result<()> {
    let spec = match &args.file {
        Some(file) => read(file)?,
        None => described(client, args)?,
    };
    let project = args.project.as_deref().or(client.server().project.as_deref()).unwrap_or("default");
    let vm: VmView = client.send(Method::POST, &in_project(project), &spec)?;
    if context.format != Format::Text {
        print_json(&vm)?;
    } else {
        println!("{} {}", vm.name, vm.id);
    }
    if args.start {
        let asked = Asked { vm: vm.id.to_string(), no_wait: false };
        // A document was written already.
        let quiet = Context { format: Format::Text, environment: context.environment.clone(), ..*context };
        power(client, &asked, &PowerRequest::Start, &quiet)?;
    }
    Ok(())
}

fn in_project(project: &str) -> String {
    let project: String = url::form_urlencoded::byte_serialize(project.as_bytes()).collect();
    format!("/v1/vms?project={project}")
}

fn read(file: &Path) -> anyhow::Result<VmSpec> {
    let name = file.display();
    let bytes = artifact::read_bounded(file, limits::CONFIG_BYTES)
        .map_err(|error| UsageError::new(format!("cannot read {name}: {error}"), "check the path"))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        UsageError::new(format!("{name} describes no machine: {error}"), "docs/reference/api.md shows one").into()
    })
}

fn described(client: &Client, args: &CreateArgs) -> anyhow::Result<VmSpec> {
    let image = |name: &String| digest(client, name);
    let all = |names: &[String]| names.iter().map(image).collect::<anyhow::Result<Vec<Digest>>>();
    let kernel = match &args.kernel {
        None => None,
        Some(kernel) => Some(DirectKernel {
            kernel: image(kernel)?,
            initrd: args.initrd.as_ref().map(image).transpose()?,
            cmdline: args.cmdline.clone(),
        }),
    };
    let firmware = match &args.firmware {
        None => None,
        Some(code) => Some(Firmware {
            code: image(code)?,
            vars_template: args.firmware_vars.as_ref().map(image).transpose()?,
            secure_boot: args.secure_boot,
        }),
    };
    Ok(VmSpec {
        name: args.name.clone().unwrap_or_default(),
        cpus: args.cpus,
        memory_mib: args.memory,
        kernel,
        firmware,
        disks: all(&args.disk)?.into_iter().map(|image| Disk { image, size_bytes: None, read_only: false }).collect(),
        isos: all(&args.iso)?.into_iter().map(|image| Iso { image }).collect(),
        nics: args.nic.iter().map(|text| nic(client, text)).collect::<anyhow::Result<_>>()?,
        vtpm: args.vtpm,
        autostart: args.autostart,
        restart: args.restart,
        cpu_limit_percent: args.cpu_limit,
        netboot: args.netboot,
    })
}

/// The digest of an image that is named.
pub(super) fn digest(client: &Client, image: &str) -> anyhow::Result<Digest> {
    digest_of(client, image)?.parse().with_context(|| format!("{image} is no digest"))
}

/// `user` or `bridge=NAME`, with `,rom=IMAGE`.
pub(super) fn nic(client: &Client, text: &str) -> anyhow::Result<Nic> {
    let mut parts = text.split(',');
    let network = match parts.next().unwrap_or_default() {
        "user" => Network::User,
        other => match other.strip_prefix("bridge=") {
            Some(bridge) if !bridge.is_empty() => Network::Bridge { bridge: bridge.to_owned() },
            _ => return Err(UsageError::new(format!("`{text}` is no network"), "user, or bridge=NAME").into()),
        },
    };
    let mut nic = Nic { network, mac: None, option_rom: None };
    for part in parts {
        match part.split_once('=') {
            Some(("rom", image)) => nic.option_rom = Some(digest(client, image)?),
            Some(("mac", address)) => nic.mac = Some(address.to_owned()),
            _ => {
                return Err(
                    UsageError::new(format!("`{part}` says nothing of a card"), "rom=IMAGE, mac=ADDRESS").into()
                );
            }
        }
    }
    Ok(nic)
}

fn memory(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.trim_end_matches("iB").trim_end_matches('B') {
        text if text.ends_with(['G', 'g']) => (text.trim_end_matches(['G', 'g']), 1024),
        text => (text.trim_end_matches(['M', 'm']), 1),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is no size: 512M, 2G"))?;
    number.checked_mul(factor).filter(|size| *size > 0).ok_or_else(|| format!("`{text}` is no size"))
}

fn restart(text: &str) -> Result<RestartPolicy, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned()))
        .map_err(|_| format!("`{text}` is none of never, on-failure, always"))
}
