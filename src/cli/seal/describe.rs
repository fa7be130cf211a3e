//! What a release says of an artifact: the artifact, its source, the user's own documents and scanners' results in;
//! SBOMs in both formats, a VEX document and SLSA provenance out.
//!
//! The same input and time give the same bytes, so that what was sealed before can be told from what has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Value;

use super::super::report::visible::visible;
use super::super::{Context, Failure, UsageError, provenance, vex};
use super::Args;
use crate::release::artifact::Artifact;
use crate::release::attest::provenance::{Build, Material};
use crate::release::attest::sbom::Format;
use crate::release::attest::vex::{Draft, Triage, merge, nothing_found, of_artifact};
use crate::release::collect::files::read_evidence;
use crate::release::collect::sbom::{Options, Source, generate};
use crate::release::decision::Decision;
use crate::release::evidence::sbom::model::{Component, ComponentKind, Family, Hash, Party, Sbom};
use crate::release::evidence::sbom::purl::Purl;
use crate::release::evidence::sbom::{self, validate};
use crate::release::evidence::vex::Document;
use crate::release::evidence::vex::findings::{self, Finding};
use crate::types::{Reason, limits};

pub(super) const CYCLONEDX: &str = ".cdx.json";
pub(super) const SPDX: &str = ".spdx.json";
pub(super) const OPENVEX: &str = ".openvex.json";
pub(super) const EMPTY_VEX: &str = ".vex.json";

/// Makes the documents of a release's artifacts.
pub(super) struct Describer<'a> {
    args: &'a Args,
    /// Where the lock files are.
    source: PathBuf,
    /// What of the source is the release itself.
    exclude: Vec<String>,
    given: Vec<Given>,
    findings: Vec<Finding>,
    triage: Triage,
    previous: Option<Document>,
    statements: Vec<Document>,
    build: Build,
    /// The time by which decisions hold, and that goes into what is new.
    now: Timestamp,
}

/// An SBOM that the user brings.
struct Given {
    name: String,
    bytes: Vec<u8>,
    sbom: Sbom,
}

/// An artifact with what an SBOM of it would list.
pub(super) struct Listed {
    pub(super) artifact: Artifact,
    /// The documents that were brought, by their suffix.
    brought: BTreeMap<&'static str, Vec<u8>>,
    /// What lists the components.
    model: Model,
    /// What is in it, by package and version.
    packages: BTreeSet<String>,
    /// How many components it lists.
    pub(super) components: usize,
}

enum Model {
    /// One of the documents that were brought.
    Given(Box<Sbom>),
    /// The artifact itself or its source.
    Found(Source),
}

/// The documents about one artifact.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Documents {
    /// Files by their suffix behind the artifact's name.
    pub(super) files: BTreeMap<&'static str, Vec<u8>>,
    /// Predicates with their types, each to be attested.
    pub(super) predicates: Vec<(&'static str, Value)>,
}

impl<'a> Describer<'a> {
    /// Reads everything that the flags name.
    ///
    /// # Errors
    /// A usage error or a refusal for a file that cannot be used.
    pub(super) fn new(args: &'a Args, dir: &Path, context: &Context) -> anyhow::Result<Self> {
        let source = match &args.source {
            Some(source) => source.clone(),
            None => dir.ancestors().find(|folder| folder.join(".git").exists()).unwrap_or(dir).to_owned(),
        };
        let source = source.canonicalize().map_err(|error| {
            UsageError::new(format!("cannot read the source {}: {error}", source.display()), "check --source")
        })?;
        // What the release has already is no part of what it was made of.
        let below = dir.strip_prefix(&source).ok().and_then(Path::to_str).map(str::to_owned);
        let exclude: Vec<String> =
            below.filter(|below| !below.is_empty()).into_iter().chain(args.exclude.clone()).collect();
        let mut found = Vec::new();
        for path in &args.vex_results {
            let parsed = read_evidence(path, limits::EVIDENCE_BYTES).and_then(|bytes| findings::parse(&bytes));
            found.extend(parsed.map_err(|reason| refused(path, &[reason]))?);
        }
        found.sort();
        found.dedup();
        let documents =
            |paths: &[PathBuf]| vex::documents(paths).map_err(|reasons| refused(Path::new("a VEX document"), &reasons));
        Ok(Self {
            args,
            source,
            exclude,
            given: args.sbom.iter().map(|path| given(path)).collect::<anyhow::Result<_>>()?,
            findings: found,
            triage: args.triage.as_deref().map(vex::triage).transpose()?.unwrap_or_default(),
            previous: documents(args.vex_previous.as_slice())?.into_iter().next(),
            statements: documents(&args.vex)?,
            build: provenance::build(&args.build, context)?,
            // Both formats of SBOMs write whole seconds.
            now: Timestamp::from_second(vex::written_at(context).as_second())?,
        })
    }

    /// Says from where each artifact's SBOM comes. `on_disk` gives a document that the release has already and that was
    /// not made by sealing it.
    ///
    /// # Errors
    /// A usage error for an SBOM that fits no artifact; a refusal for a source that cannot be read.
    pub(super) fn list(
        &self,
        dir: &Path,
        artifacts: Vec<Artifact>,
        on_disk: &dyn Fn(&str) -> anyhow::Result<Option<Vec<u8>>>,
    ) -> anyhow::Result<Vec<Listed>> {
        let is_alone = artifacts.len() == 1;
        let mut used = BTreeSet::new();
        let mut listed = Vec::new();
        for artifact in artifacts {
            let mut brought = BTreeMap::new();
            let mut model = None;
            for (position, given) in self.given.iter().enumerate() {
                let unbound = is_alone && given.sbom.described.iter().all(|component| component.hashes.is_empty());
                if validate::describes(&given.sbom, &artifact).is_ok() || unbound {
                    used.insert(position);
                    brought.insert(suffix(&given.sbom), given.bytes.clone());
                    model = Some(Box::new(given.sbom.clone()));
                }
            }
            for suffix in [CYCLONEDX, SPDX] {
                let name = format!("{}{suffix}", artifact.name);
                if let Some(bytes) = on_disk(&name)? {
                    let document = sbom::read(&bytes).map_err(|reason| refused(Path::new(&name), &[reason]))?;
                    if brought.insert(suffix, bytes).is_some() {
                        let message = format!("there is an SBOM of {} in --sbom and in the release", artifact.name);
                        return Err(UsageError::new(message, "leave one of the two out").into());
                    }
                    model = Some(Box::new(document.sbom));
                }
            }
            let (packages, components, model) = match model {
                Some(sbom) => (keys(&sbom), sbom.components.len(), Model::Given(sbom)),
                None => {
                    let (source, sbom) = self.found(dir, &artifact)?;
                    (keys(&sbom), sbom.components.len(), Model::Found(source))
                }
            };
            listed.push(Listed { artifact, brought, model, packages, components });
        }
        if let Some((_, unused)) = self.given.iter().enumerate().find(|(position, _)| !used.contains(position)) {
            let message = format!("the SBOM {} describes no artifact of the release by its digest", unused.name);
            return Err(UsageError::new(message, "write it again for the artifact as it is now").into());
        }
        Ok(listed)
    }

    /// An image, a system or a program that carries its own list is described by that, all else by its source. An
    /// archive of sources is asked where the source has nothing to say.
    fn found(&self, dir: &Path, artifact: &Artifact) -> anyhow::Result<(Source, Sbom)> {
        let path = dir.join(&artifact.name);
        let own = Source::of_path(&path).map_err(|reason| refused(&path, &[reason]))?;
        let describes_itself = matches!(own, Source::Disk(_) | Source::ImageArchive(_));
        let own_list = self.generate(&own, artifact, self.now);
        match own_list {
            Ok(sbom) if describes_itself || (!sbom.components.is_empty() && !is_source_archive(&own, &sbom)) => {
                Ok((own, sbom))
            }
            // A disk or an image that cannot be looked into must not pass for what the source says.
            Err(reasons) if describes_itself && self.args.source.is_none() => Err(refused(&path, &reasons).into()),
            // What no cataloger knows is told by the source.
            own_list => {
                let source = Source::of_path(&self.source).map_err(|reason| refused(&self.source, &[reason]))?;
                let sbom =
                    self.generate(&source, artifact, self.now).map_err(|reasons| refused(&self.source, &reasons))?;
                match own_list {
                    Ok(of_archive) if sbom.components.is_empty() => Ok((own, of_archive)),
                    _ => Ok((source, sbom)),
                }
            }
        }
    }

    fn generate(&self, source: &Source, artifact: &Artifact, dated: Timestamp) -> Result<Sbom, Vec<Reason>> {
        let options = Options {
            now: dated,
            name: self.args.name.clone(),
            version: self.args.version.clone(),
            supplier: self.args.supplier.clone().map(Party::organization),
            authors: self.args.author.clone().map(Party::organization).into_iter().collect(),
            describes: Some(Artifact::new(&*artifact.name, artifact.digests().cloned())),
            exclude: if matches!(source, Source::Directory(_)) { self.exclude.clone() } else { Vec::new() },
        };
        generate(source, &options)
    }

    /// The documents about one of the artifacts, as they would be made at this time.
    ///
    /// # Errors
    /// As [`Self::list`].
    pub(super) fn documents(&self, about: &Listed, all: &[Listed], dated: Timestamp) -> anyhow::Result<Documents> {
        let artifact = &about.artifact;
        let generated;
        let model = match &about.model {
            Model::Given(sbom) => &**sbom,
            Model::Found(source) => {
                generated =
                    self.generate(source, artifact, dated).map_err(|reasons| refused(&self.source, &reasons))?;
                &generated
            }
        };
        let mut files = about.brought.clone();
        files.entry(CYCLONEDX).or_insert_with(|| Format::CycloneDxJson.write(model));
        files.entry(SPDX).or_insert_with(|| Format::SpdxJson.write(model));
        let (vex_suffix, vex_type, vex) = self.vex(about, all, dated)?;
        let mut text = serde_json::to_string_pretty(&vex)?;
        text.push('\n');
        files.insert(vex_suffix, text.into_bytes());
        let predicate = |suffix| {
            let bytes = files.get(suffix).map(Vec::as_slice).unwrap_or_default();
            serde_json::from_slice(bytes).context("an SBOM is no JSON")
        };
        let predicates = vec![
            ("https://slsa.dev/provenance/v1", self.provenance(model)?),
            ("https://cyclonedx.org/bom", predicate(CYCLONEDX)?),
            ("https://spdx.dev/Document", predicate(SPDX)?),
            (vex_type, vex),
        ];
        Ok(Documents { files, predicates })
    }

    fn provenance(&self, model: &Sbom) -> anyhow::Result<Value> {
        let material = |component: &Component| {
            let digests = component.hashes.iter().filter_map(Hash::digest).collect();
            component.purl.as_ref().map(|purl| Material { uri: purl.clone(), digests })
        };
        let materials = model.packages().filter_map(material).collect();
        let build = Build { materials, ..self.build.clone() };
        Ok(provenance::predicate(&build)?)
    }

    /// What the scanners found in this artifact, or in none that could be told, with what was decided about it.
    fn vex(
        &self,
        about: &Listed,
        all: &[Listed],
        dated: Timestamp,
    ) -> anyhow::Result<(&'static str, &'static str, Value)> {
        let artifact = &about.artifact;
        let concerns = |finding: &&Finding| {
            let key = key(&finding.component);
            about.lists(&key) || !all.iter().any(|other| other.lists(&key))
        };
        let found: Vec<Finding> = self.findings.iter().filter(concerns).cloned().collect();
        let author = self.args.author.as_deref().unwrap_or("unknown");
        let product = format!("pkg:generic/{}", url_encoded(&artifact.name));
        let draft = Draft {
            author,
            product: Some(&product),
            findings: &found,
            triage: &self.triage,
            previous: self.previous.as_ref(),
            now: self.now,
            dated,
        };
        let mut documents = vec![of_artifact(draft.document(), artifact)];
        documents.extend(self.statements.iter().map(|document| of_artifact(document.clone(), artifact)));
        let merged = merge(author, &documents, dated);
        if merged.statements.is_empty() {
            let looked = !self.args.vex_results.is_empty() || !self.args.vex.is_empty();
            return Ok((EMPTY_VEX, "https://cyclonedx.org/vex", nothing_found(artifact, looked, dated)));
        }
        Ok((OPENVEX, "https://openvex.dev/ns/v0.2.0", serde_json::to_value(&merged)?))
    }

    /// The time of what is made now.
    pub(super) const fn now(&self) -> Timestamp {
        self.now
    }

    /// Where artifacts that do not describe themselves were looked up.
    pub(super) fn source(&self) -> &Path {
        &self.source
    }
}

/// Whether this is an archive with no operating system in it. What it was built from tells more than what somebody
/// packed, as the lock files of its examples.
fn is_source_archive(own: &Source, sbom: &Sbom) -> bool {
    let of_system = |purl: &String| ["pkg:deb/", "pkg:apk/", "pkg:rpm/"].iter().any(|kind| purl.starts_with(kind));
    let is_system =
        |one: &Component| one.kind == ComponentKind::OperatingSystem || one.purl.as_ref().is_some_and(of_system);
    matches!(own, Source::Archive(_)) && !sbom.components.iter().any(is_system)
}

impl Listed {
    fn lists(&self, key: &str) -> bool {
        self.packages.contains(key)
    }
}

/// What a scanner's component and an SBOM's are joined by: package and version, without qualifiers.
fn key(component: &str) -> String {
    match Purl::parse(component) {
        Some(purl) => format!("{}@{}", purl.package.to_lowercase(), purl.version.unwrap_or_default()),
        None => component.to_lowercase(),
    }
}

fn keys(sbom: &Sbom) -> BTreeSet<String> {
    sbom.all().filter_map(|component| component.purl.as_deref()).map(key).collect()
}

fn suffix(sbom: &Sbom) -> &'static str {
    match sbom.format.as_ref().map(|format| format.family) {
        Some(Family::Spdx) => SPDX,
        Some(Family::CycloneDx) | None => CYCLONEDX,
    }
}

fn given(path: &Path) -> anyhow::Result<Given> {
    let bytes = read_evidence(path, limits::EVIDENCE_BYTES).map_err(|reason| refused(path, &[reason]))?;
    let document = sbom::read(&bytes).map_err(|reason| refused(path, &[reason]))?;
    if !document.findings.errors.is_empty() {
        return Err(refused(path, &document.findings.errors).into());
    }
    Ok(Given { name: path.display().to_string(), bytes, sbom: document.sbom })
}

/// A package URL's name must not hold a slash or a special character as it is.
fn url_encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~');
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// What cannot be used, with the first reason in its own words.
pub(super) fn refused(path: &Path, reasons: &[Reason]) -> Failure {
    let said = reasons.first().map(ToString::to_string).unwrap_or_default();
    let more = reasons.len().saturating_sub(1);
    let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
    let hint = reasons.first().and_then(|reason| reason.hint.clone()).unwrap_or_default();
    let message = format!("cannot use {}: {}{more}", path.display(), visible(&said));
    Failure::new(Decision::from_reasons(reasons), message, format!("{hint}; the release is as it was"))
}
