//! `debvisor image`: bringing images into the store, with what speaks for them, and looking at what is there.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use reqwest::Method;
use uuid::Uuid;

use super::admit::kind;
use super::client::{Client, Connection, ListArgs, print_json, print_rows, size, told, word};
use super::{Context, Ended, Format, UsageError, progress, watch};
use crate::api::{EvidenceUpload, FinishRequest, QuarantineRequest};
use crate::release::artifact;
use crate::release::decision::Decision;
use crate::types::limits;
use crate::types::step::{ImageFacts, ImageVerdict, TierState, Upload, UploadRequest};
use crate::types::vm::ArtifactKind;

/// Bytes that are sent at a time.
const PIECE_BYTES: usize = 8 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Bring an image, with its evidence: what lies beside it under its name, and what --evidence names
    Import {
        /// The image
        file: PathBuf,
        /// What it is to a machine: disk, iso, kernel, initrd, firmware, option-rom
        #[arg(long, value_name = "KIND", value_parser = kind::parse)]
        kind: ArtifactKind,
        /// A bundle, signature, checksum list, SBOM or VEX document; repeatable
        #[arg(long, value_name = "FILE")]
        evidence: Vec<PathBuf>,
        /// Take no evidence but what --evidence names
        #[arg(long)]
        no_beside: bool,
        /// What it is called; the file's own name without this
        #[arg(long)]
        name: Option<String>,
        /// Go on with an upload that was cut off
        #[arg(long, value_name = "UPLOAD")]
        resume: Option<Uuid>,
    },
    /// List the images
    List(ListArgs),
    /// Show one image, and whether it may boot now
    Show {
        /// Its digest or name
        image: String,
    },
    /// Read all of an image and hold it against its digest and its tree
    Verify {
        /// Its digest or name
        image: String,
    },
    /// Keep more evidence beside an image
    Evidence {
        /// Its digest or name
        image: String,
        /// The files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Put an image into quarantine: machines that run it are stilled at once
    Quarantine {
        /// Its digest or name
        image: String,
        /// Why
        #[arg(long)]
        reason: String,
    },
    /// Remove an image that no machine is made of
    Delete {
        /// Its digest or name
        image: String,
    },
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    let client = Client::new(&args.connection, context)?;
    match args.command {
        Command::Import { file, kind, mut evidence, no_beside, name, resume } => {
            if !no_beside {
                evidence.extend(super::admit::beside(&file));
            }
            import(&client, &file, kind, &evidence, name, resume, context)
        }
        Command::List(args) => {
            list(&client, args, context)?;
            Ok(Ended::Done)
        }
        Command::Show { image } => verdict(&client.get(&format!("/v1/images/{image}"))?, context),
        Command::Verify { image } => {
            verdict(&client.ask(Method::POST, &format!("/v1/images/{image}/verify"))?, context)
        }
        Command::Evidence { image, files } => {
            let request = FinishRequest { evidence: uploads(&files)? };
            verdict(&client.send(Method::POST, &format!("/v1/images/{image}/evidence"), &request)?, context)
        }
        Command::Quarantine { image, reason } => {
            let digest = digest_of(&client, &image)?;
            let request = QuarantineRequest { target: digest.clone(), why: reason };
            let added: serde_json::Value = client.send(Method::POST, "/v1/quarantines", &request)?;
            if context.format == Format::Text {
                println!("{digest} is in quarantine");
            } else {
                print_json(&added)?;
            }
            Ok(Ended::Done)
        }
        Command::Delete { image } => {
            client.done(Method::DELETE, &format!("/v1/images/{image}"))?;
            Ok(Ended::Done)
        }
    }
}

const HEAD: [&str; 6] = ["DIGEST", "KIND", "NAME", "SIZE", "EVIDENCE", "IMPORTED"];

fn list(client: &Client, args: ListArgs, context: &Context) -> anyhow::Result<()> {
    let row = |image: &ImageFacts| {
        [
            image.digest.to_string(),
            image.kind.name().to_owned(),
            image.name.clone().unwrap_or_default(),
            size(image.bytes),
            image.evidence.len().to_string(),
            image.imported_at.to_string(),
        ]
    };
    let fetch = || client.all("/v1/images");
    if args.watch {
        let key = |image: &ImageFacts| image.digest.to_string();
        let shown = watch::Shown { head: HEAD, kinds: &["image."], key: &key, row: &row, fetch: &fetch };
        return watch::list(client, context, args.no_headers, &shown);
    }
    print_rows(context, &fetch()?, (!args.no_headers).then_some(HEAD), row)
}

/// The digest that a name means; a digest is its own.
pub(super) fn digest_of(client: &Client, image: &str) -> anyhow::Result<String> {
    if image.starts_with("sha256:") {
        return Ok(image.to_owned());
    }
    let found: ImageVerdict = client.get(&format!("/v1/images/{image}"))?;
    Ok(found.facts.digest.to_string())
}

fn import(
    client: &Client,
    file: &Path,
    kind: ArtifactKind,
    evidence: &[PathBuf],
    name: Option<String>,
    resume: Option<Uuid>,
    context: &Context,
) -> anyhow::Result<Ended> {
    let unreadable =
        |error: std::io::Error| UsageError::new(format!("cannot read {}: {error}", file.display()), "check the path");
    let evidence = uploads(evidence)?;
    let mut opened = artifact::open_regular(file).map_err(unreadable)?;
    let bytes = opened.metadata().map_err(unreadable)?.len();
    let own_name = || file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut upload: Upload = match resume {
        Some(id) => client.get(&format!("/v1/images/uploads/{id}"))?,
        None => {
            let request = UploadRequest { kind, name: name.unwrap_or_else(own_name), digest: None, bytes: Some(bytes) };
            client.send(Method::POST, "/v1/images/uploads", &request)?
        }
    };
    let path = format!("/v1/images/uploads/{}", upload.id);
    opened.seek(SeekFrom::Start(upload.offset)).map_err(unreadable)?;
    let bar = progress::bytes(context, [bytes]);
    bar.set_position(upload.offset);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let mut filled = 0;
        while let Some(rest) = piece.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match opened.read(rest).map_err(unreadable)? {
                0 => break,
                count => filled += count,
            }
        }
        if filled == 0 {
            break;
        }
        let bytes = piece.get(..filled).unwrap_or_default().to_vec();
        let offset = [("upload-offset", upload.offset.to_string())];
        upload = client.bytes(Method::PATCH, &path, &offset, bytes).with_context(|| {
            format!("the upload stops at byte {}; go on with --resume {}", upload.offset, upload.id)
        })?;
        bar.set_position(upload.offset);
    }
    bar.finish_and_clear();
    let imported: ImageVerdict = client.send(Method::POST, &format!("{path}/finish"), &FinishRequest { evidence })?;
    show(&imported, context)?;
    // It is in the store, whatever is decided about it: what it may not do, the gate says when it is to boot.
    Ok(Ended::Done)
}

fn uploads(files: &[PathBuf]) -> anyhow::Result<Vec<EvidenceUpload>> {
    let read = |file: &PathBuf| {
        let bytes = artifact::read_bounded(file, limits::EVIDENCE_BYTES)
            .map_err(|error| UsageError::new(format!("cannot read {}: {error}", file.display()), "check the path"))?;
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(EvidenceUpload { name, base64: base64::engine::general_purpose::STANDARD.encode(bytes) })
    };
    files.iter().map(read).collect()
}

fn verdict(verdict: &ImageVerdict, context: &Context) -> anyhow::Result<Ended> {
    show(verdict, context)?;
    Ok(Ended::Decided(match verdict.decision.as_str() {
        "allow" => Decision::Allow,
        "deny" => Decision::Deny,
        _ => Decision::Undecided,
    }))
}

fn show(verdict: &ImageVerdict, context: &Context) -> anyhow::Result<()> {
    if context.format != Format::Text {
        return print_json(verdict);
    }
    let facts = &verdict.facts;
    println!("digest    {}", facts.digest);
    println!("kind      {}", facts.kind.name());
    println!("name      {}", facts.name.as_deref().unwrap_or_default());
    println!("format    {}", facts.format);
    println!("size      {}", size(facts.bytes));
    if let Some(root) = &facts.tree_root {
        println!("tree      {root}");
    }
    if let Some(sha512) = &facts.sha512 {
        println!("besides   {sha512}");
    }
    if let Some(TierState { tier, absent }) = &facts.reads {
        let why = absent.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        println!("reads     {}{why}", word(tier));
    }
    println!("evidence  {}", if facts.evidence.is_empty() { "none".to_owned() } else { facts.evidence.join(", ") });
    if !verdict.signers.is_empty() {
        println!("signers   {}", verdict.signers.join(", "));
    }
    println!("decision  {}", verdict.decision);
    if !verdict.reasons.is_empty() {
        println!("reasons   {}", told(&verdict.reasons).replace("\n       ", "\n          "));
    }
    Ok(())
}
