//! What must not run, by digest, signer or policy, in; which running machines it concerns and what cannot start, out.
//!
//! An entry is in force from when it was made until two people release it, and again once that release ends.
//! Invariant: no I/O and no clock. Who keeps the list and who pauses machines stands elsewhere.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::two_people::{Approved, Person};
use crate::release::trust::revocation::{Revocations, Revoked};
use crate::release::verify::Signer;
use crate::types::vm::VmId;
use crate::types::{Code, Digest, Reason};

/// What is done to a machine that runs something that was put into quarantine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuarantineAction {
    /// Its processors are halted; its memory stays for whoever wants to look at it.
    #[default]
    Pause,
    /// It keeps running, and all of its network cards are unplugged.
    Isolate,
    /// It is stopped.
    Stop,
}

/// What an entry names. Its text form is `KIND:VALUE`; a digest alone is its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// An artifact with this digest.
    Digest(Digest),
    /// Whatever this managed key vouches for; SHA-256 over its SPKI.
    Key(Digest),
    /// Whatever this identity vouches for, byte by byte; by any issuer where none is named.
    Identity {
        /// The subject alternative name.
        identity: String,
        /// The OIDC issuer.
        issuer: Option<String>,
    },
    /// Whatever this OpenPGP key or subkey vouches for; upper-case hex.
    Openpgp(String),
    /// Whatever was decided under the policy with this digest.
    Policy(Digest),
}

/// A text that names nothing that can be put into quarantine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is none of sha256:…, key:sha256:…, identity:ID, identity:ID issuer:URL, openpgp:FINGERPRINT, policy:sha256:…"
)]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || TargetError(text.to_owned());
        if let Some(digest) = text.strip_prefix("policy:") {
            return digest.parse().map(Self::Policy).map_err(|_| refused());
        }
        match text.parse::<Revoked>().map_err(|_| refused())? {
            Revoked::Digest(digest) => Ok(Self::Digest(digest)),
            Revoked::Key(fingerprint) => Ok(Self::Key(fingerprint)),
            Revoked::Openpgp(fingerprint) => Ok(Self::Openpgp(fingerprint)),
            // Neither of the two has a space in it.
            Revoked::Identity(text) => match text.split_once(" issuer:") {
                None => Ok(Self::Identity { identity: text, issuer: None }),
                Some((identity, issuer)) if !identity.is_empty() && !issuer.is_empty() => {
                    Ok(Self::Identity { identity: identity.to_owned(), issuer: Some(issuer.to_owned()) })
                }
                Some(_) => Err(refused()),
            },
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Key(fingerprint) => write!(f, "key:{fingerprint}"),
            Self::Identity { identity, issuer: None } => write!(f, "identity:{identity}"),
            Self::Identity { identity, issuer: Some(issuer) } => write!(f, "identity:{identity} issuer:{issuer}"),
            Self::Openpgp(fingerprint) => write!(f, "openpgp:{fingerprint}"),
            Self::Policy(digest) => write!(f, "policy:{digest}"),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Who vouched for something, in the form that is kept of a running machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SignerId {
    /// A certificate's identity, with the issuer that vouched for it.
    Certificate {
        /// The subject alternative name.
        identity: String,
        /// The OIDC issuer.
        issuer: Option<String>,
    },
    /// A managed key.
    Key {
        /// `sha256:<hex>` over its SPKI.
        fingerprint: String,
    },
    /// An OpenPGP key.
    Openpgp {
        /// The primary key's fingerprint, upper-case hex.
        fingerprint: String,
        /// The fingerprint of the key or subkey that signed.
        signing_key: String,
    },
}

impl From<&Signer> for SignerId {
    fn from(signer: &Signer) -> Self {
        match signer {
            Signer::Certificate { identity, issuer, .. } => {
                Self::Certificate { identity: identity.clone(), issuer: issuer.clone() }
            }
            Signer::Key { fingerprint } => Self::Key { fingerprint: fingerprint.clone() },
            Signer::Openpgp { fingerprint, signing_key, .. } => {
                Self::Openpgp { fingerprint: fingerprint.clone(), signing_key: signing_key.clone() }
            }
        }
    }
}

impl fmt::Display for SignerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate { identity, .. } => f.write_str(identity),
            Self::Key { fingerprint } => write!(f, "the key {fingerprint}"),
            Self::Openpgp { fingerprint, .. } => write!(f, "the OpenPGP key {fingerprint}"),
        }
    }
}

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its identity; a release names it.
    pub id: Uuid,
    /// What must not run.
    pub target: Target,
    /// Why, for people.
    pub why: String,
    /// Who put it there; a person, or `debvisor` where a block that failed its check did.
    pub by: Person,
    /// Since when.
    pub since: Timestamp,
    /// Two people's release of this entry, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Approved<Uuid>>,
}

impl Entry {
    /// Whether it is in force. A release of another entry releases nothing.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        !self.release.as_ref().is_some_and(|release| *release.act() == self.id && release.holds_at(now))
    }
}

/// What must not run, made for asking.
#[derive(Debug, Clone, Default)]
pub struct QuarantineList {
    entries: Vec<Entry>,
    /// By what an entry names, but for identities without an issuer: those are found under that form.
    by_target: HashMap<Target, Vec<usize>>,
}

impl FromIterator<Entry> for QuarantineList {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let mut by_target: HashMap<Target, Vec<usize>> = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            by_target.entry(entry.target.clone()).or_default().push(index);
        }
        Self { entries, by_target }
    }
}

impl QuarantineList {
    /// Every entry, in force or not.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Why an artifact with this digest must not run.
    pub fn check_digest(&self, digest: &Digest, now: Timestamp) -> Option<Reason> {
        let entry = self.in_force(&Target::Digest(digest.clone()), now)?;
        Some(entry_reason(Code::ImageQuarantined, &format!("the artifact {digest}"), entry))
    }

    /// Why nothing that this signer vouches for may run.
    pub fn check_signer(&self, signer: &SignerId, now: Timestamp) -> Option<Reason> {
        let targets = match signer {
            SignerId::Certificate { identity, issuer } => vec![
                Target::Identity { identity: identity.clone(), issuer: None },
                Target::Identity { identity: identity.clone(), issuer: issuer.clone() },
            ],
            SignerId::Key { fingerprint } => fingerprint.parse().ok().map(Target::Key).into_iter().collect(),
            SignerId::Openpgp { fingerprint, signing_key } => {
                vec![Target::Openpgp(fingerprint.clone()), Target::Openpgp(signing_key.clone())]
            }
        };
        let entry = targets.iter().find_map(|target| self.in_force(target, now))?;
        Some(entry_reason(Code::SignerQuarantined, &signer.to_string(), entry))
    }

    /// Why nothing that was decided under the policy with this digest may run.
    pub fn check_policy(&self, digest: &Digest, now: Timestamp) -> Option<Reason> {
        let entry = self.in_force(&Target::Policy(digest.clone()), now)?;
        Some(entry_reason(Code::PolicyQuarantined, &format!("the policy {digest}"), entry))
    }

    fn in_force(&self, target: &Target, now: Timestamp) -> Option<&Entry> {
        let found = self.by_target.get(target)?;
        found.iter().filter_map(|index| self.entries.get(*index)).find(|entry| entry.is_in_force(now))
    }
}

fn entry_reason(code: Code, what: &str, entry: &Entry) -> Reason {
    let Entry { id, why, by, since, .. } = entry;
    Reason::new(code, format!("{what} is in quarantine since {since} by {by}: {why}")).evidence(format!("entry {id}"))
}

/// What one running machine runs, as its permit said when it started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Running {
    /// The machine.
    pub vm: VmId,
    /// The digests of its artifacts.
    pub digests: Vec<Digest>,
    /// Who vouched for them.
    pub signers: Vec<SignerId>,
    /// The policy under which they were allowed.
    pub policy: Digest,
}

/// A running machine that is concerned, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Affected {
    /// The machine.
    pub vm: VmId,
    /// Each of the reasons.
    pub reasons: Vec<Reason>,
}

/// The running machines that the list, or what the trust bundle revokes, concerns now; in their order.
pub fn affected<'a>(
    list: &QuarantineList,
    revocations: &Revocations,
    running: impl IntoIterator<Item = &'a Running>,
    now: Timestamp,
) -> Vec<Affected> {
    let concerned = |machine: &Running| {
        let digests = machine.digests.iter();
        let listed = digests.clone().filter_map(|digest| list.check_digest(digest, now));
        let revoked = digests.filter_map(|digest| revocations.check_digest(digest));
        let signers = machine.signers.iter();
        let quarantined = signers.clone().filter_map(|signer| list.check_signer(signer, now));
        let withdrawn = signers.flat_map(|signer| revoked_signer(signer, revocations));
        let policy = [list.check_policy(&machine.policy, now), revocations.check_digest(&machine.policy)];
        listed.chain(revoked).chain(quarantined).chain(withdrawn).chain(policy.into_iter().flatten()).collect()
    };
    let affected = running.into_iter().map(|machine| Affected { vm: machine.vm, reasons: concerned(machine) });
    affected.filter(|affected| !affected.reasons.is_empty()).collect()
}

fn revoked_signer(signer: &SignerId, revocations: &Revocations) -> Vec<Reason> {
    let found = match signer {
        SignerId::Certificate { identity, .. } => vec![revocations.check_identity(identity)],
        SignerId::Key { fingerprint } => {
            vec![fingerprint.parse().ok().and_then(|digest| revocations.check_key(&digest))]
        }
        SignerId::Openpgp { fingerprint, signing_key } => {
            vec![revocations.check_openpgp(fingerprint), revocations.check_openpgp(signing_key)]
        }
    };
    found.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::super::two_people::Proposal;
    use super::*;
    use crate::release::trust::revocation::Revocation;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + hours * 3600).unwrap()
    }

    fn entry(target: &str) -> Entry {
        Entry {
            id: Uuid::from_u128(7),
            target: target.parse().unwrap(),
            why: "compromised".to_owned(),
            by: "alice".parse().unwrap(),
            since: at(0),
            release: None,
        }
    }

    fn machine(number: u128, image: &[u8]) -> Running {
        Running {
            vm: VmId::new(Uuid::from_u128(number)),
            digests: vec![Digest::sha256(b"kernel"), Digest::sha256(image)],
            signers: vec![
                SignerId::Certificate { identity: "a@example.com".to_owned(), issuer: Some("https://i".to_owned()) },
                SignerId::Key { fingerprint: Digest::sha256(image).to_string() },
                SignerId::Openpgp { fingerprint: "A".repeat(40), signing_key: "B".repeat(40) },
            ],
            policy: Digest::sha256(b"policy"),
        }
    }

    fn codes(target: &str, machine: &Running) -> Vec<Option<Code>> {
        let list = [entry(target)].into_iter().collect();
        let found = affected(&list, &Revocations::default(), [machine], at(1));
        found.iter().flat_map(|affected| &affected.reasons).map(|reason| reason.code.known()).collect()
    }

    #[test]
    fn a_digest_a_signer_or_a_policy_finds_every_machine_that_runs_it() {
        let one = machine(1, b"one");
        let digest = Digest::sha256(b"one");
        assert_eq!(codes(&digest.to_string(), &one), [Some(Code::ImageQuarantined)]);
        for signer in [
            format!("key:{digest}"),
            "identity:a@example.com".to_owned(),
            "identity:a@example.com issuer:https://i".to_owned(),
            format!("openpgp:{}", "a".repeat(40)),
            format!("openpgp:{}", "B".repeat(40)),
        ] {
            assert_eq!(codes(&signer, &one), [Some(Code::SignerQuarantined)], "{signer}");
        }
        let policy = format!("policy:{}", Digest::sha256(b"policy"));
        assert_eq!(codes(&policy, &one), [Some(Code::PolicyQuarantined)]);
    }

    #[test]
    fn what_is_somebody_elses_stays() {
        let one = machine(1, b"one");
        let other = Digest::sha256(b"other");
        for target in [
            other.to_string(),
            format!("key:{other}"),
            format!("policy:{other}"),
            // The machine's own digests, as another kind of thing.
            format!("policy:{}", Digest::sha256(b"one")),
            format!("key:{}", Digest::sha256(b"policy")),
            "identity:b@example.com".to_owned(),
            "identity:A@example.com".to_owned(),
            "identity:a@example.com issuer:https://other".to_owned(),
            format!("openpgp:{}", "C".repeat(40)),
        ] {
            assert!(codes(&target, &one).is_empty(), "{target}");
        }
    }

    #[test]
    fn of_many_machines_the_ones_that_run_it_are_found_in_their_order() {
        let running: Vec<Running> = (0..50).map(|n| machine(n, if n % 10 == 3 { b"bad" } else { b"good" })).collect();
        let list = [entry(&Digest::sha256(b"bad").to_string())].into_iter().collect();
        let found = affected(&list, &Revocations::default(), &running, at(1));
        let numbers: Vec<u128> = found.iter().map(|affected| affected.vm.uuid().as_u128()).collect();
        assert_eq!(numbers, [3, 13, 23, 33, 43]);
    }

    #[test]
    fn what_the_trust_bundle_revokes_counts_as_well() {
        let one = machine(1, b"one");
        for what in [Digest::sha256(b"one").to_string(), "identity:a@example.com".to_owned()] {
            let revocation = Revocation { what: what.parse().unwrap(), reason: None };
            let revocations = [revocation].into_iter().collect();
            let found = affected(&QuarantineList::default(), &revocations, [&one], at(1));
            assert_eq!(found[0].reasons[0].code.known(), Some(Code::Revoked), "{what}");
        }
    }

    #[test]
    fn a_release_by_two_people_holds_until_its_end_and_for_its_own_entry() {
        let digest = Digest::sha256(b"one");
        let release = |id| {
            let longest = jiff::SignedDuration::from_hours(24);
            let asked = Proposal::new(id, "false alarm", "alice".parse().unwrap(), at(0), at(4), longest).unwrap();
            asked.approve("bob".parse().unwrap(), at(1)).unwrap()
        };
        let checked = |id, now| {
            let entry = Entry { release: Some(release(id)), ..entry(&digest.to_string()) };
            QuarantineList::from_iter([entry]).check_digest(&digest, now).is_some()
        };
        let own = Uuid::from_u128(7);
        assert_eq!([at(0), at(1), at(3), at(4)].map(|now| checked(own, now)), [true, false, false, true]);
        assert!(checked(Uuid::from_u128(8), at(2)));
    }

    #[test]
    fn a_second_entry_is_not_hidden_by_the_release_of_a_first() {
        let digest = Digest::sha256(b"one");
        let longest = jiff::SignedDuration::from_hours(24);
        let asked = Proposal::new(Uuid::from_u128(7), "", "alice".parse().unwrap(), at(0), at(4), longest).unwrap();
        let released = Entry {
            release: Some(asked.approve("bob".parse().unwrap(), at(1)).unwrap()),
            ..entry(&digest.to_string())
        };
        let second = Entry { id: Uuid::from_u128(9), ..entry(&digest.to_string()) };
        assert!(QuarantineList::from_iter([released, second]).check_digest(&digest, at(2)).is_some());
    }

    #[test]
    fn texts_are_read_back_and_what_names_nothing_is_refused() {
        let digest = Digest::sha256(b"a");
        for text in [
            digest.to_string(),
            format!("key:{digest}"),
            format!("policy:{digest}"),
            "identity:https://example.com/x@refs/tags/v1".to_owned(),
            "identity:a@example.com issuer:https://i".to_owned(),
            format!("openpgp:{}", "A".repeat(40)),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in ["", "policy:", "policy:x", "identity:", "identity:a issuer:", "openpgp:AAAA", "mallory"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }
}
