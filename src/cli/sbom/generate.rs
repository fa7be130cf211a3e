//! `debvisor sbom generate SOURCE`: a bill of materials of a source tree, a binary, a root file system, an image.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::super::registry::{self, RegistryArgs};
use super::super::{Context, Ended, UsageError, output, progress, report};
use crate::release::artifact::{self, Artifact};
use crate::release::attest::sbom::Format;
use crate::release::collect::sbom::{self, DIGESTS, Options, Source};
use crate::release::decision::Report;
use crate::release::evidence::sbom::model::{Party, Sbom};
use crate::release::evidence::sbom::validate;
use crate::types::{Code, Reason};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A directory, a file, an image: PATH, dir:PATH, rootfs:PATH, file:PATH, disk:PATH, oci-dir:PATH, oci-archive:PATH,
    /// oci://REFERENCE
    #[arg(value_name = "SOURCE")]
    source: String,
    /// What is written: cyclonedx-json or spdx-json, to stdout or --output; cyclonedx-json=FILE; repeatable
    #[arg(long, short, value_name = "FORMAT[=FILE]", value_parser = Output::parse, default_value = "cyclonedx-json")]
    output_format: Vec<Output>,
    /// Where a format goes that names no file; stdout without it
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The artifact that was built from the source: the document describes it, by its digests
    #[arg(long, value_name = "ARTIFACT")]
    describes: Option<PathBuf>,
    /// The name of what is described
    #[arg(long, value_name = "NAME")]
    source_name: Option<String>,
    /// Its version
    #[arg(long, value_name = "VERSION")]
    source_version: Option<String>,
    /// The organisation that supplies it: NAME, NAME <EMAIL> or NAME <URL>
    #[arg(long, value_name = "NAME")]
    supplier: Option<String>,
    /// Who makes the document: NAME, NAME <EMAIL> or NAME <URL>; repeatable
    #[arg(long, value_name = "NAME")]
    author: Vec<String>,
    /// A path below SOURCE that is not looked at; * within a name, ** across folders; repeatable
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// For which platform an image in a registry is looked into, where it has several
    #[arg(long, value_name = "OS/ARCHITECTURE", default_value = "linux/amd64")]
    platform: String,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// A format, and the file that it goes to.
#[derive(Debug, Clone)]
struct Output {
    format: Format,
    file: Option<PathBuf>,
}

impl Output {
    fn parse(text: &str) -> Result<Self, String> {
        let (format, file) = text.split_once('=').map_or((text, None), |(format, file)| (format, Some(file)));
        let names = Format::ALL.map(Format::name).join(" or ");
        let format = format.parse().map_err(|error| format!("{error}; it is {names}"))?;
        match file {
            Some("") => Err("no file is named after the `=`".to_owned()),
            file => Ok(Self { format, file: file.map(PathBuf::from) }),
        }
    }
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    let without_file = args.output_format.iter().filter(|output| output.file.is_none()).count();
    if without_file > 1 {
        let message = "two formats would go to one place".to_owned();
        return Err(UsageError::new(message, "name a file for each: --output-format spdx-json=FILE").into());
    }
    let files: Vec<&Path> = args.output_format.iter().filter_map(|output| output.file.as_deref()).collect();
    for file in files.iter().copied().chain(args.output.as_deref()) {
        output::check(file)?;
    }
    let sbom = match make(args, context)? {
        Ok(sbom) => sbom,
        Err(reasons) => {
            let report = Report::new(Vec::new(), reasons, context.now);
            report::print(&report, context)?;
            return Ok(Ended::Decided(report.decision));
        }
    };
    for target in &args.output_format {
        let file = target.file.as_deref().or(args.output.as_deref());
        output::write_or_print(file, &target.format.write(&sbom))?;
        if let Some(file) = file.filter(|_| !context.quiet) {
            let count = validate::distinct(&sbom);
            writeln!(anstream::stderr().lock(), "wrote {}: {count} components", file.display())?;
        }
    }
    Ok(Ended::Done)
}

fn make(args: &Args, context: &Context) -> anyhow::Result<Result<Sbom, Vec<Reason>>> {
    let source = match Source::parse(&args.source) {
        Ok(source) => source,
        Err(reason) => return Ok(Err(vec![reason])),
    };
    let Source::Registry(reference) = &source else { return Ok(made(&source, None, args, context)) };
    let folder = tempfile::tempdir()?;
    let subject = format!("oci://{reference}");
    if let Err(reason) = registry::pull(&subject, &args.platform, &args.registry, folder.path(), context)? {
        return Ok(Err(vec![reason]));
    }
    let source = Source::OciDirectory(folder.path().to_owned());
    Ok(made(&source, Some(reference), args, context))
}

/// A document of a source on disk. An image from a registry is called as the reference has it, and not by where it lies.
fn made(source: &Source, image: Option<&str>, args: &Args, context: &Context) -> Result<Sbom, Vec<Reason>> {
    let (name, tag) = image.map(name_and_tag).unzip();
    let describes = args.describes.as_deref().map(|path| artifact(path, context)).transpose();
    let describes = describes.map_err(|reason| vec![reason])?;
    let epoch = context.environment.source_date_epoch.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let options = Options {
        now: epoch.unwrap_or(context.now),
        name: args.source_name.clone().or_else(|| name.map(str::to_owned)),
        version: args.source_version.clone().or_else(|| tag.flatten().map(str::to_owned)),
        supplier: args.supplier.as_deref().map(party),
        authors: args.author.iter().map(|text| party(text)).collect(),
        describes,
        exclude: args.exclude.clone(),
    };
    sbom::generate(source, &options)
}

/// `registry:5000/app:1.2@sha256:…` without the digest, in its name and its tag.
fn name_and_tag(reference: &str) -> (&str, Option<&str>) {
    let name = reference.split('@').next().unwrap_or(reference);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    }
}

fn artifact(path: &Path, context: &Context) -> Result<Artifact, Reason> {
    let bar = progress::bytes(context, path.metadata().map(|metadata| metadata.len()));
    let digests = artifact::hash_file(path, &DIGESTS, &|count| bar.inc(count));
    bar.finish_and_clear();
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    match digests {
        Ok(digests) => Ok(Artifact::new(name, digests)),
        Err(error) => {
            Err(Reason::new(Code::SubjectUnreadable, format!("cannot read {}: {error}", path.display())).subject(name))
        }
    }
}

/// `NAME`, `NAME <EMAIL>` or `NAME <URL>`.
fn party(text: &str) -> Party {
    let Some((name, contact)) = text.trim().strip_suffix('>').and_then(|text| text.rsplit_once('<')) else {
        return Party::organization(text.trim());
    };
    let mut party = Party::organization(name.trim());
    let place = if contact.contains("://") { &mut party.url } else { &mut party.email };
    *place = Some(contact.trim().to_owned());
    party
}
