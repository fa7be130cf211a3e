//! A release then and now: two [`Snapshot`]s in, the drift between them out as reasons.
//!
//! A release that verifies today may still be another one than yesterday: an asset replaced by one that the same signer
//! signed, a tag moved, an attestation taken away. What was decided before is the measure, and it is signed, so that
//! nobody moves the measure instead.
//!
//! Invariant: no I/O and no clock. What could not be looked at is unknown, and the unknown is never a finding and never
//! makes one go away: it is told as `evidence-unreadable` by whoever failed to look.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::decision::{Decision, PolicyReference, Report, SubjectReport, TrustRootReference};
use crate::types::{Code, Digest, Reason, limits};

pub mod advisory;

/// The predicate type of a baseline: a snapshot that somebody signed.
pub const BASELINE_V1: &str = "https://debvisor.dev/release-baseline/v1";

/// What was seen of one published release, and what had been proved of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What was looked at, as it was asked for: `OWNER/REPO@TAG`, `oci://…`, or a directory.
    pub target: String,
    /// The commit that the tag points to, where there is a tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Every file, by its name.
    pub files: BTreeMap<String, FileSnapshot>,
    /// The advisories that were known to concern a component.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub advisories: BTreeSet<String>,
    /// The policy that allowed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyReference>,
    /// The trust root that it was proved under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust_root: Option<TrustRootReference>,
    /// When it was looked at.
    pub taken_at: Timestamp,
}

/// What was seen of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSnapshot {
    /// SHA-256 of its bytes; nothing where they could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Who had signed it, as [`signer_name`] writes them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub signers: BTreeSet<String>,
    /// Which builders its provenance names.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub builders: BTreeSet<String>,
    /// The predicate types that were attested of it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub attestations: BTreeSet<String>,
    /// The components that it names, where it is a bill of materials.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub components: BTreeSet<String>,
}

/// What is seen of a release now, and what of it could not be looked at.
#[derive(Debug, Clone)]
pub struct Observation {
    /// What was seen.
    pub snapshot: Snapshot,
    /// Whether every attestation that there is was seen: one that is missing now is lost only then.
    pub attestations_known: bool,
    /// The files that are there and could not be read.
    pub unread: BTreeSet<String>,
}

impl Snapshot {
    /// What a gate's report proves of the files of a release. `others` are the digests of files that the gate proves
    /// nothing of, as bundles and signatures; `components` are those of its bills of materials, by file.
    pub fn new(
        target: &str,
        report: &Report,
        others: BTreeMap<String, Digest>,
        components: BTreeMap<String, BTreeSet<String>>,
    ) -> Self {
        // A file that a list names and that is not there is a subject of the gate's too, without a digest.
        let there = report.subjects.iter().filter(|subject| !subject.digest.is_empty());
        let mut files: BTreeMap<String, FileSnapshot> =
            there.map(|subject| (subject.name.clone(), FileSnapshot::new(subject))).collect();
        for (name, digest) in others {
            files.entry(name).or_insert_with(|| FileSnapshot { digest: Some(digest), ..FileSnapshot::default() });
        }
        for (name, components) in components {
            if let Some(file) = files.get_mut(&name) {
                file.components = components;
            }
        }
        Self {
            target: target.to_owned(),
            commit: None,
            files,
            advisories: BTreeSet::new(),
            policy: report.policy.clone(),
            trust_root: report.trust_root.clone(),
            taken_at: report.decided_at,
        }
    }

    /// The predicate of a baseline.
    pub fn to_predicate(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The snapshot in a baseline's predicate.
    ///
    /// # Errors
    /// [`Code::BaselineInvalid`] where it is none.
    pub fn from_predicate(predicate: &Value) -> Result<Self, Reason> {
        let snapshot: Self = serde_json::from_value(predicate.clone()).map_err(|error| {
            Reason::new(Code::BaselineInvalid, format!("the baseline's predicate is none: {error}"))
        })?;
        if snapshot.files.len() > limits::RELEASE_FILES {
            return Err(Reason::new(Code::BaselineInvalid, "the baseline names more files than a release may have"));
        }
        Ok(snapshot)
    }
}

impl FileSnapshot {
    fn new(subject: &SubjectReport) -> Self {
        let digest = subject.digest.get("sha256").and_then(|hex| format!("sha256:{hex}").parse().ok());
        let mut seen = Self { digest, ..Self::default() };
        let list = |name: &str| subject.facts.get(name).and_then(Value::as_array).into_iter().flatten();
        for signature in list("signatures") {
            seen.signers.extend(signature.get("signer").and_then(signer_name));
            let Some(attestation) = signature.get("attestation").filter(|attestation| attestation.is_object()) else {
                continue;
            };
            seen.attestations.extend(text(attestation, "predicate_type"));
            seen.builders.extend(attestation.get("provenance").and_then(|provenance| text(provenance, "builder_id")));
        }
        for listing in list("checksums").filter(|listing| listing.get("signed") == Some(&Value::Bool(true))) {
            seen.signers.extend(listing.get("signer").and_then(signer_name));
        }
        seen
    }
}

/// A signer in one text: the identity and its issuer, or a key's fingerprint.
pub fn signer_name(signer: &Value) -> Option<String> {
    match signer.get("kind")?.as_str()? {
        "certificate" => {
            let issuer = text(signer, "issuer").unwrap_or_default();
            Some(format!("{} by {issuer}", text(signer, "identity")?))
        }
        kind => Some(format!("{kind} {}", text(signer, "fingerprint")?)),
    }
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(str::to_owned)
}

/// Everything that changed since the baseline and should not have: one reason a change, none where all is as it was.
///
/// A published release does not change. What was added to it later is a finding too; an attestation more is none.
pub fn drift(baseline: &Snapshot, seen: &Observation) -> Vec<Reason> {
    let now = &seen.snapshot;
    let mut reasons = Vec::new();
    if let (Some(before), Some(after)) = (&baseline.commit, &now.commit)
        && before != after
    {
        let message = format!("the tag pointed to {before}, and now points to {after}");
        reasons.push(Reason::new(Code::TagMoved, message).location("tag"));
    }
    for (name, before) in &baseline.files {
        match now.files.get(name) {
            Some(after) => reasons.extend(changes(name, before, after, seen)),
            None if seen.unread.contains(name) => {}
            None => reasons.push(about(name, Code::AssetGone, format!("`{name}` was published and is gone"))),
        }
    }
    let added = now.files.keys().chain(&seen.unread).filter(|name| !baseline.files.contains_key(*name));
    for name in added.collect::<BTreeSet<_>>() {
        let message = format!("`{name}` was not part of the release when it was decided about");
        reasons.push(about(name, Code::AssetAdded, message));
    }
    let known = &baseline.advisories;
    for id in now.advisories.difference(known) {
        let message = format!("{id} has been published since, and concerns a component of this release");
        reasons.push(Reason::new(Code::AdvisoryPublished, message).evidence(id));
    }
    reasons
}

fn changes(name: &str, before: &FileSnapshot, after: &FileSnapshot, seen: &Observation) -> Vec<Reason> {
    let (Some(was), Some(is)) = (&before.digest, &after.digest) else { return Vec::new() };
    let mut reasons = Vec::new();
    if was != is {
        let message = format!("`{name}` was {was}, and now is {is}");
        reasons.push(about(name, Code::AssetReplaced, message));
        if !before.components.is_empty() || !after.components.is_empty() {
            reasons.extend(components_changed(name, before, after));
        }
    }
    // What is proved of other bytes says nothing about these: the file was replaced, and that is told.
    if was == is && seen.attestations_known {
        let lost = |before: &BTreeSet<String>, after: &BTreeSet<String>| {
            before.difference(after).cloned().collect::<Vec<_>>().join(", ")
        };
        let attestations = lost(&before.attestations, &after.attestations);
        if !attestations.is_empty() {
            let message = format!("`{name}` had an attestation that is gone: {attestations}");
            reasons.push(about(name, Code::AttestationLost, message));
        }
        let signers = lost(&before.signers, &after.signers);
        if !signers.is_empty() {
            let now = after.signers.iter().cloned().collect::<Vec<_>>().join(", ");
            let now = if now.is_empty() { "nobody".to_owned() } else { now };
            let message = format!("`{name}` was signed by {signers}, and now is by {now}");
            reasons.push(about(name, Code::SignerChanged, message));
        }
        let builders = lost(&before.builders, &after.builders);
        if !builders.is_empty() && !after.builders.is_empty() {
            let now = after.builders.iter().cloned().collect::<Vec<_>>().join(", ");
            let message = format!("`{name}` was built by {builders}, and its provenance now names {now}");
            reasons.push(about(name, Code::BuilderChanged, message));
        }
    }
    reasons
}

fn components_changed(name: &str, before: &FileSnapshot, after: &FileSnapshot) -> Option<Reason> {
    let first = |mut components: std::collections::btree_set::Difference<'_, String>| {
        components.next().map(|first| (first.clone(), components.count()))
    };
    let told = |what: &str, found: Option<(String, usize)>| match found {
        None => String::new(),
        Some((first, 0)) => format!("; {what}: {first}"),
        Some((first, more)) => format!("; {what}: {first} and {more} more"),
    };
    let added = first(after.components.difference(&before.components));
    let removed = first(before.components.difference(&after.components));
    if added.is_none() && removed.is_none() {
        return None;
    }
    let message = format!("`{name}` names other components{}{}", told("added", added), told("removed", removed));
    Some(about(name, Code::SbomChanged, message))
}

fn about(name: &str, code: Code, message: String) -> Reason {
    Reason::new(code, message).subject(name).evidence(name)
}

/// What one target came to. A finding is a finding also where the rest could not be looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The target.
    pub target: String,
    /// The decision for it.
    pub decision: Decision,
    /// Why it is not "allow".
    pub reasons: Vec<Reason>,
    /// What should be known and decides nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Reason>,
    /// What was seen; nothing where nothing could be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
}

impl Outcome {
    /// The outcome that these reasons make.
    pub fn new(target: &str, reasons: Vec<Reason>, snapshot: Option<Snapshot>) -> Self {
        let decision = Decision::from_reasons(&reasons);
        Self { target: target.to_owned(), decision, reasons, warnings: Vec::new(), snapshot }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &str) -> FileSnapshot {
        let set = |text: &str| BTreeSet::from([text.to_owned()]);
        FileSnapshot {
            digest: Some(Digest::sha256(bytes.as_bytes())),
            signers: set("key sha256:aa"),
            builders: set("https://builder.example/v1"),
            attestations: set("https://slsa.dev/provenance/v1"),
            components: BTreeSet::new(),
        }
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            target: "o/r@v1".to_owned(),
            commit: Some("aaaa".to_owned()),
            files: BTreeMap::from([("app".to_owned(), file("app")), ("bom.json".to_owned(), file("bom"))]),
            advisories: BTreeSet::from(["OSV-1".to_owned()]),
            policy: None,
            trust_root: None,
            taken_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn codes(change: impl FnOnce(&mut Observation)) -> Vec<String> {
        let mut seen = Observation { snapshot: snapshot(), attestations_known: true, unread: BTreeSet::new() };
        change(&mut seen);
        let mut codes: Vec<_> = drift(&snapshot(), &seen).iter().map(|reason| reason.code.to_string()).collect();
        codes.sort();
        codes
    }

    fn app(seen: &mut Observation) -> &mut FileSnapshot {
        seen.snapshot.files.get_mut("app").unwrap()
    }

    #[test]
    fn nothing_changed_is_no_drift() {
        assert!(codes(|_| ()).is_empty());
        assert!(codes(|seen| app(seen).attestations.extend(["https://more.example".to_owned()])).is_empty());
    }

    #[test]
    fn each_change_has_its_code_and_no_other() {
        let other = || BTreeSet::from(["other".to_owned()]);
        assert_eq!(codes(|seen| seen.snapshot.commit = Some("bbbb".to_owned())), ["tag-moved"]);
        assert_eq!(codes(|seen| app(seen).digest = Some(Digest::sha256(b"x"))), ["asset-replaced"]);
        assert_eq!(codes(|seen| drop(seen.snapshot.files.remove("app"))), ["asset-gone"]);
        assert_eq!(codes(|seen| drop(seen.snapshot.files.insert("new".to_owned(), file("new")))), ["asset-added"]);
        assert_eq!(codes(|seen| app(seen).attestations.clear()), ["attestation-lost"]);
        assert_eq!(codes(|seen| app(seen).signers = other()), ["signer-changed"]);
        assert_eq!(codes(|seen| app(seen).builders = other()), ["builder-changed"]);
        assert_eq!(codes(|seen| seen.snapshot.advisories.extend(["OSV-2".to_owned()])), ["advisory-published"]);
        let sbom = codes(|seen| {
            let bom = seen.snapshot.files.get_mut("bom.json").unwrap();
            bom.digest = Some(Digest::sha256(b"y"));
            bom.components = other();
        });
        assert_eq!(sbom, ["asset-replaced", "sbom-changed"]);
    }

    #[test]
    fn what_could_not_be_looked_at_is_no_finding_and_hides_none() {
        assert!(
            codes(|seen| {
                seen.snapshot.files.remove("app");
                seen.unread.insert("app".to_owned());
            })
            .is_empty()
        );
        assert!(
            codes(|seen| {
                seen.attestations_known = false;
                app(seen).attestations.clear();
                app(seen).signers.clear();
            })
            .is_empty()
        );
        let hidden = codes(|seen| {
            seen.attestations_known = false;
            app(seen).digest = Some(Digest::sha256(b"x"));
            seen.unread.insert("new".to_owned());
        });
        assert_eq!(hidden, ["asset-added", "asset-replaced"]);
    }

    #[test]
    fn a_baseline_is_read_back_as_it_was_written() {
        let written = snapshot();
        assert_eq!(Snapshot::from_predicate(&written.to_predicate()).unwrap(), written);
        let reason = Snapshot::from_predicate(&serde_json::json!({"target": 1})).unwrap_err();
        assert_eq!(reason.code.as_str(), "baseline-invalid");
    }
}
