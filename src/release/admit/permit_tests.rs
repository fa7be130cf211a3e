//! The gate by itself: every path with every kind of artifact, sound and with each single flaw; and, for any number of
//! flaws at random, that only full agreement permits.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

use super::break_glass::{Override, OverrideTerms};
use super::permit::{BootRequest, IssueError, Measured, Standing, issue, permit};
use super::quarantine::{Entry, QuarantineList};
use super::ticket::{SignedTicket, Ticket, TicketTerms};
use super::trust::{AdmissionTrust, Root};
use super::{BootArtifact, BootPermit, Judged};
use crate::release::attest::key::PrivateKey;
use crate::release::decision::Decision;
use crate::release::policy::PolicySet;
use crate::release::trust::embedded;
use crate::types::vm::{ArtifactKind, BootPath, VmId};
use crate::types::{Code, Digest, Reason};

fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + minutes * 60).unwrap()
}

fn vm(number: u128) -> VmId {
    VmId::new(Uuid::from_u128(number))
}

fn trust() -> AdmissionTrust {
    let policy = PolicySet::builtin("admission").unwrap();
    AdmissionTrust::new(Ok(policy), Root::parse(embedded().json, false), Vec::new())
}

/// Everything that a permit is asked with.
struct Scene {
    request: BootRequest,
    terms: Option<TicketTerms>,
    judged: Vec<Judged>,
    measured: Vec<Measured>,
    quarantine: Vec<Entry>,
    overrides: Vec<Override>,
    trust: AdmissionTrust,
    now: Timestamp,
}

impl Scene {
    /// A machine with one artifact of this kind and a second of another, everything in agreement.
    fn sound(path: BootPath, kind: ArtifactKind) -> Self {
        let trust = trust();
        let policy = trust.policy_digest().unwrap();
        let other = if kind == ArtifactKind::Disk { ArtifactKind::Kernel } else { ArtifactKind::Disk };
        let artifacts = vec![artifact("one", kind, b"one"), artifact("two", other, b"two")];
        let judged = artifacts
            .iter()
            .map(|artifact| Judged::for_tests(artifact.digest.clone(), artifact.kind, policy.clone(), at(9)))
            .collect();
        let measured = artifacts
            .iter()
            .map(|artifact| Measured {
                digest: artifact.digest.clone(),
                others: Vec::new(),
                tree_root: artifact.tree_root.clone(),
                bytes: artifact.bytes,
            })
            .collect();
        let terms = TicketTerms {
            vm: vm(1),
            node: "node-a".to_owned(),
            artifacts: artifacts.clone(),
            policy,
            trust_root: None,
            issued_at: at(0),
            expires_at: at(60),
            generation: 3,
            nonce: Uuid::from_u128(99),
        };
        let request = BootRequest { vm: vm(1), node: "node-a".to_owned(), path, artifacts, seen_generation: 3 };
        Self {
            request,
            terms: Some(terms),
            judged,
            measured,
            quarantine: Vec::new(),
            overrides: Vec::new(),
            trust,
            now: at(10),
        }
    }

    fn terms(&mut self) -> &mut TicketTerms {
        self.terms.as_mut().unwrap()
    }

    /// The same change in the request, the ticket and the store, so that only the answer about it is missing.
    fn everywhere(&mut self, change: impl Fn(&mut BootArtifact)) {
        change(&mut self.request.artifacts[0]);
        change(&mut self.terms().artifacts[0]);
        let artifact = &self.request.artifacts[0];
        self.measured[0] = Measured {
            digest: artifact.digest.clone(),
            others: Vec::new(),
            tree_root: artifact.tree_root.clone(),
            bytes: artifact.bytes,
        };
    }

    fn put_into_quarantine(&mut self, target: &str) {
        self.quarantine.push(Entry {
            id: Uuid::from_u128(5),
            target: target.parse().unwrap(),
            why: "compromised".to_owned(),
            by: "alice".parse().unwrap(),
            since: at(0),
            release: None,
        });
    }

    fn unadmit(&mut self, code: Code) {
        let report = &mut self.judged[0].report;
        report.reasons.push(Reason::new(code, "no"));
        report.decision = Decision::from_reasons(&report.reasons);
    }

    fn ask(&self) -> Result<BootPermit, Vec<Reason>> {
        let quarantine: QuarantineList = self.quarantine.iter().cloned().collect();
        let standing = Standing {
            trust: &self.trust,
            judged: &self.judged,
            measured: &self.measured,
            quarantine: &quarantine,
            overrides: &self.overrides,
            now: self.now,
        };
        let ticket = self.terms.clone().map(Ticket::for_tests);
        permit(&self.request, ticket.as_ref(), &standing)
    }

    fn codes(&self) -> Vec<Code> {
        self.ask().unwrap_err().iter().map(|reason| reason.code.known().unwrap()).collect()
    }
}

fn artifact(slot: &str, kind: ArtifactKind, bytes: &[u8]) -> BootArtifact {
    let tree_root = kind.is_block_device().then(|| Digest::sha256(&[bytes, b"tree"].concat()));
    BootArtifact { slot: slot.to_owned(), kind, digest: Digest::sha256(bytes), tree_root, bytes: bytes.len() as u64 }
}

fn other_kind(kind: ArtifactKind) -> ArtifactKind {
    if kind == ArtifactKind::Firmware { ArtifactKind::Initrd } else { ArtifactKind::Firmware }
}

type Flaw = (&'static str, Code, fn(&mut Scene));

/// Every single thing that can be wrong, each in a way of its own so that no two make up for each other, with the code that must be among the reasons.
const FLAWS: &[Flaw] = &[
    ("no ticket", Code::TicketMissing, |scene| scene.terms = None),
    ("a ticket for another machine", Code::TicketMismatch, |scene| scene.terms().vm = vm(2)),
    ("another machine asks", Code::TicketMismatch, |scene| scene.request.vm = vm(3)),
    ("a ticket for another node", Code::TicketMismatch, |scene| scene.terms().node = "node-b".to_owned()),
    ("another node asks", Code::TicketMismatch, |scene| scene.request.node = "NODE-A".to_owned()),
    ("a ticket under another policy", Code::TicketMismatch, |scene| scene.terms().policy = Digest::sha256(b"x")),
    ("a ticket that ended", Code::TicketExpired, |scene| scene.terms().expires_at = at(10)),
    ("a ticket that lasts too long", Code::TicketExpired, |scene| scene.terms().expires_at = at(8 * 24 * 60)),
    ("a ticket from the future", Code::TimeInvalid, |scene| scene.terms().issued_at = at(16)),
    ("an earlier ticket", Code::TicketSuperseded, |scene| scene.terms().generation = 2),
    ("a later ticket was seen", Code::TicketSuperseded, |scene| scene.request.seen_generation = 4),
    ("the ticket's digest", Code::TicketMismatch, |scene| scene.terms().artifacts[0].digest = Digest::sha256(b"x")),
    ("the ticket's slot", Code::TicketMismatch, |scene| scene.terms().artifacts[0].slot = "three".to_owned()),
    ("the ticket's kind", Code::TicketMismatch, |scene| {
        let artifact = &mut scene.terms().artifacts[0];
        artifact.kind = other_kind(artifact.kind);
    }),
    ("the ticket's length", Code::TicketMismatch, |scene| scene.terms().artifacts[0].bytes += 1),
    ("the ticket's tree", Code::TicketMismatch, |scene| {
        scene.terms().artifacts[0].tree_root = Some(Digest::sha256(b"x"));
    }),
    ("the ticket lacks an artifact", Code::TicketMismatch, |scene| _ = scene.terms().artifacts.remove(1)),
    ("the ticket has an artifact more", Code::TicketMismatch, |scene| {
        scene.terms().artifacts.push(artifact("three", ArtifactKind::Iso, b"three"));
    }),
    ("the ticket names a slot twice", Code::TicketMismatch, |scene| {
        let twice = scene.terms().artifacts[0].clone();
        scene.terms().artifacts.push(twice);
    }),
    ("the request's digest", Code::TicketMismatch, |scene| {
        scene.request.artifacts[0].digest = Digest::sha256(b"y");
    }),
    ("the request's slot", Code::TicketMismatch, |scene| scene.request.artifacts[0].slot = "two".to_owned()),
    ("the request's kind", Code::TicketMismatch, |scene| {
        let artifact = &mut scene.request.artifacts[0];
        artifact.kind = other_kind(other_kind(artifact.kind));
        artifact.tree_root = None;
        artifact.bytes += 4;
    }),
    ("the request's length", Code::TicketMismatch, |scene| scene.request.artifacts[0].bytes += 2),
    ("an artifact more than the ticket has", Code::TicketMismatch, |scene| {
        scene.request.artifacts.push(artifact("three", ArtifactKind::Iso, b"three"));
    }),
    ("a machine of nothing", Code::ImageUnadmitted, |scene| {
        scene.request.artifacts.clear();
        scene.terms().artifacts.clear();
    }),
    ("the store has nothing", Code::ImageChanged, |scene| _ = scene.measured.remove(0)),
    ("the store has other bytes", Code::ImageChanged, |scene| scene.measured[0].digest = Digest::sha256(b"v")),
    ("the store has more bytes", Code::ImageChanged, |scene| scene.measured[0].bytes += 3),
    ("nobody judged it", Code::ImageUnadmitted, |scene| _ = scene.judged.remove(0)),
    ("other bytes were judged", Code::ImageUnadmitted, |scene| {
        scene.judged[0].digest = Some(Digest::sha256(b"z"));
    }),
    ("it was judged without a digest", Code::ImageUnadmitted, |scene| scene.judged[0].digest = None),
    ("it was judged as something else", Code::ImageUnadmitted, |scene| {
        let is_rom = scene.judged[0].kind == ArtifactKind::OptionRom;
        scene.judged[0].kind = if is_rom { ArtifactKind::Iso } else { ArtifactKind::OptionRom };
    }),
    ("all bytes were replaced alike", Code::ImageUnadmitted, |scene| {
        scene.everywhere(|artifact| artifact.digest = Digest::sha256(b"w"));
    }),
    ("its kind was replaced alike", Code::ImageUnadmitted, |scene| {
        scene.everywhere(|artifact| {
            artifact.kind = other_kind(artifact.kind);
            artifact.tree_root = None;
        });
    }),
    ("it was refused", Code::ImageUnadmitted, |scene| scene.unadmit(Code::SignatureInvalid)),
    ("it is an open question", Code::ImageUnadmitted, |scene| scene.unadmit(Code::EvidenceMissing)),
    ("it was judged under another policy", Code::ImageUnadmitted, |scene| {
        scene.judged[0].policy = Some(Digest::sha256(b"u"));
    }),
    ("it was judged under no policy", Code::ImageUnadmitted, |scene| scene.judged[0].policy = None),
    ("it was judged long ago", Code::ImageUnadmitted, |scene| scene.judged[0].decided_at = at(4)),
    ("it was judged in the future", Code::ImageUnadmitted, |scene| scene.judged[0].decided_at = at(11)),
    ("the decision that it rests on ended", Code::ImageUnadmitted, |scene| {
        scene.judged[0].holds_until = Some(at(10));
    }),
    ("the digest is in quarantine", Code::ImageQuarantined, |scene| {
        let digest = scene.request.artifacts[0].digest.to_string();
        scene.put_into_quarantine(&digest);
    }),
    ("the signer is in quarantine", Code::SignerQuarantined, |scene| {
        scene.put_into_quarantine(&format!("key:{}", Digest::sha256(b"key")));
    }),
    ("the policy is in quarantine", Code::PolicyQuarantined, |scene| {
        let policy = scene.trust.policy_digest().unwrap();
        scene.put_into_quarantine(&format!("policy:{policy}"));
    }),
    ("the node's policy cannot be read", Code::PolicyUnreadable, |scene| {
        scene.trust.policy = Err(Reason::new(Code::PolicyUnreadable, "it is gone"));
    }),
];

/// Flaws that only what is read block by block can have.
const BLOCK_FLAWS: &[Flaw] = &[
    ("the request's tree", Code::TicketMismatch, |scene| {
        scene.request.artifacts[0].tree_root = Some(Digest::sha256(b"x"));
    }),
    ("the store's tree", Code::ImageChanged, |scene| scene.measured[0].tree_root = Some(Digest::sha256(b"x"))),
    ("the store has no tree", Code::ImageChanged, |scene| scene.measured[0].tree_root = None),
    ("nobody has a tree", Code::ImageChanged, |scene| scene.everywhere(|artifact| artifact.tree_root = None)),
];

#[test]
fn every_path_with_every_kind_is_permitted_sound_and_refused_with_any_single_flaw() {
    for path in BootPath::ALL {
        for kind in ArtifactKind::ALL {
            let scene = Scene::sound(path, kind);
            let permit = scene.ask().unwrap_or_else(|reasons| panic!("{path:?} {kind:?}: {reasons:#?}"));
            assert_eq!((permit.vm(), permit.node(), permit.path()), (vm(1), "node-a", path));
            assert_eq!(permit.artifacts(), scene.request.artifacts);
            assert_eq!(permit.expires_at(), at(60));
            assert!(!permit.is_override());
            let block_flaws = if kind.is_block_device() { BLOCK_FLAWS } else { &[] };
            for (name, code, tamper) in FLAWS.iter().chain(block_flaws) {
                let mut scene = Scene::sound(path, kind);
                tamper(&mut scene);
                let codes = scene.codes();
                assert!(codes.contains(code), "{path:?} {kind:?}, {name}: {codes:?}");
            }
        }
    }
}

proptest! {
    #[test]
    fn only_full_agreement_permits(
        path in prop::sample::select(&BootPath::ALL[..]),
        kind in prop::sample::select(&ArtifactKind::ALL[..]),
        flaws in prop::collection::vec(prop::sample::select(FLAWS), 0..4),
    ) {
        let mut scene = Scene::sound(path, kind);
        // A flaw that needs a ticket cannot follow the one that takes it away; the rest commute.
        let mut flaws: Vec<Flaw> = flaws;
        flaws.sort_by_key(|(name, ..)| (*name == "no ticket", *name == "a machine of nothing", *name));
        flaws.dedup_by_key(|(name, ..)| *name);
        for (_, _, tamper) in &flaws {
            // What an earlier flaw removed, a later one cannot damage any more.
            if scene.measured.len() < 2 || scene.judged.len() < 2 || scene.trust.policy.is_err() {
                break;
            }
            tamper(&mut scene);
        }
        prop_assert_eq!(scene.ask().is_ok(), flaws.is_empty());
    }
}

#[test]
fn a_permit_ends_with_the_first_decision_that_it_rests_on() {
    let mut scene = Scene::sound(BootPath::Start, ArtifactKind::Disk);
    scene.judged[1].holds_until = Some(at(30));
    assert_eq!(scene.ask().unwrap().expires_at(), at(30));
}

#[test]
fn what_a_machine_runs_is_kept_so_that_a_quarantine_finds_it() {
    let running = Scene::sound(BootPath::Start, ArtifactKind::Disk).ask().unwrap().running();
    let digests: BTreeSet<Digest> = running.digests.iter().cloned().collect();
    assert_eq!(digests, BTreeSet::from([Digest::sha256(b"one"), Digest::sha256(b"two")]));
    assert_eq!(running.digests.len(), 2, "each of them once");
    assert_eq!(running.signers.len(), 1);
    assert_eq!(running.policy, trust().policy_digest().unwrap());
}

#[test]
fn a_refusal_tells_everything_and_names_the_slot() {
    let mut scene = Scene::sound(BootPath::Start, ArtifactKind::Disk);
    scene.terms = None;
    scene.measured.clear();
    scene.unadmit(Code::SignatureInvalid);
    let codes = scene.codes();
    let expected =
        [Code::TicketMissing, Code::ImageChanged, Code::ImageUnadmitted, Code::SignatureInvalid, Code::ImageChanged];
    assert_eq!(codes, expected);
    assert_eq!(scene.ask().unwrap_err()[1].subject.as_deref(), Some("one"));
}

// Tickets, by real signatures.

fn signed() -> (Scene, PrivateKey, Vec<u8>) {
    let scene = Scene::sound(BootPath::Start, ArtifactKind::Disk);
    let key = PrivateKey::ephemeral().unwrap();
    let quarantine = QuarantineList::default();
    let standing = Standing {
        trust: &scene.trust,
        judged: &scene.judged,
        measured: &scene.measured,
        quarantine: &quarantine,
        overrides: &[],
        now: scene.now,
    };
    let bytes = issue(scene.terms.as_ref().unwrap(), &key, &standing).unwrap();
    (scene, key, bytes)
}

fn pinning(keys: &[&PrivateKey]) -> AdmissionTrust {
    let mut trust = trust();
    trust.ticket_keys = keys.iter().map(|key| key.public().clone()).collect();
    trust
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Reason>) -> Option<Code> {
    outcome.unwrap_err().code.known()
}

#[test]
fn a_ticket_is_believed_as_it_was_issued() {
    let (scene, key, bytes) = signed();
    let other = PrivateKey::ephemeral().unwrap();
    let ticket = SignedTicket::parse(&bytes).unwrap().verify(&pinning(&[&other, &key]), scene.now).unwrap();
    assert_eq!(Some(ticket.terms()), scene.terms.as_ref());
    assert_eq!(*ticket.signed_by(), key.public().fingerprint());
}

#[test]
fn a_ticket_by_another_server_or_with_another_word_is_not_believed() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let (scene, key, bytes) = signed();
    let other = PrivateKey::ephemeral().unwrap();
    for pinned in [vec![], vec![&other]] {
        let ticket = SignedTicket::parse(&bytes).unwrap();
        assert_eq!(code(ticket.verify(&pinning(&pinned), scene.now)), Some(Code::TicketUntrusted));
    }
    let mut bundle: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap();
    let forged = String::from_utf8(payload).unwrap().replace("node-a", "node-b");
    bundle["dsseEnvelope"]["payload"] = STANDARD.encode(forged).into();
    let ticket = SignedTicket::parse(bundle.to_string().as_bytes()).unwrap();
    assert_eq!(code(ticket.verify(&pinning(&[&key]), scene.now)), Some(Code::TicketUntrusted));
}

#[test]
fn a_ticket_is_believed_in_its_time_alone() {
    let (_, key, bytes) = signed();
    let trust = pinning(&[&key]);
    let at_time = |now| SignedTicket::parse(&bytes).unwrap().verify(&trust, now);
    assert!(at_time(at(59)).is_ok());
    assert_eq!(code(at_time(at(60))), Some(Code::TicketExpired));
    assert_eq!(code(at_time(at(-6))), Some(Code::TimeInvalid));
}

#[test]
fn another_statement_by_the_same_key_is_no_ticket() {
    let (scene, key, _) = signed();
    let terms = serde_json::json!(scene.terms.as_ref().unwrap());
    let artifacts = &scene.request.artifacts;
    let subjects: Vec<_> = artifacts.iter().map(|artifact| (artifact.slot.as_str(), &artifact.digest)).collect();
    let sign = |subjects: &[(&str, &Digest)], kind: &str, terms: &serde_json::Value| {
        SignedTicket::parse(&super::ticket::sign_statement(subjects, kind, terms, &key).unwrap())
    };
    let kind = super::ticket::PREDICATE_TYPE;
    assert!(sign(&subjects, kind, &terms).is_ok());
    assert_eq!(code(sign(&subjects, "https://slsa.dev/provenance/v1", &terms)), Some(Code::TicketMalformed));
    assert_eq!(code(sign(&subjects[..1], kind, &terms)), Some(Code::TicketMalformed));
    let mut more = terms.clone();
    more["root"] = true.into();
    assert_eq!(code(sign(&subjects, kind, &more)), Some(Code::TicketMalformed));
    let swapped: Vec<_> = subjects.iter().rev().copied().collect();
    assert_eq!(code(sign(&swapped, kind, &terms)), Some(Code::TicketMalformed));
}

#[test]
fn a_server_issues_nothing_that_it_would_not_permit_itself() {
    let key = PrivateKey::ephemeral().unwrap();
    let refused = |tamper: fn(&mut Scene)| {
        let mut scene = Scene::sound(BootPath::Create, ArtifactKind::Disk);
        tamper(&mut scene);
        let quarantine: QuarantineList = scene.quarantine.iter().cloned().collect();
        let standing = Standing {
            trust: &scene.trust,
            judged: &scene.judged,
            measured: &scene.measured,
            quarantine: &quarantine,
            overrides: &[],
            now: scene.now,
        };
        match issue(scene.terms.as_ref().unwrap(), &key, &standing) {
            Err(IssueError::Refused(reasons)) => reasons[0].code.known(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(|scene| scene.unadmit(Code::SignatureInvalid)), Some(Code::ImageUnadmitted));
    assert_eq!(refused(|scene| scene.judged.clear()), Some(Code::ImageUnadmitted));
    assert_eq!(refused(|scene| scene.measured[0].bytes += 1), Some(Code::ImageChanged));
    assert_eq!(refused(|scene| scene.terms().policy = Digest::sha256(b"x")), Some(Code::TicketMismatch));
    assert_eq!(refused(|scene| scene.terms().expires_at = at(9)), Some(Code::TicketExpired));
    let quarantined = |scene: &mut Scene| {
        let digest = scene.request.artifacts[0].digest.to_string();
        scene.put_into_quarantine(&digest);
    };
    assert_eq!(refused(quarantined), Some(Code::ImageQuarantined));
}

proptest! {
    #[test]
    fn hostile_tickets_and_overrides_are_a_reason_and_never_a_panic(
        at_byte in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        noise in prop::collection::vec(any::<u8>(), 0..256),
    ) {
        prop_assert!(SignedTicket::parse(&noise).is_err());
        prop_assert!(Override::verify(&noise, &trust(), at(0)).is_err());
        static SIGNED: std::sync::OnceLock<(Timestamp, AdmissionTrust, TicketTerms, Vec<u8>)> = std::sync::OnceLock::new();
        let (now, trust, terms, bytes) = SIGNED.get_or_init(|| {
            let (scene, key, bytes) = signed();
            (scene.now, pinning(&[&key]), scene.terms.unwrap(), bytes)
        });
        let mut damaged = bytes.clone();
        let place = at_byte.index(damaged.len());
        damaged[place] = byte;
        // An ECDSA signature has a twin, and the hint is nobody's word: what is believed still says the same.
        if let Ok(ticket) = SignedTicket::parse(&damaged).and_then(|ticket| ticket.verify(trust, *now)) {
            prop_assert_eq!(ticket.terms(), terms);
        }
    }
}

// Break-glass, by real signatures.

struct People {
    trust: AdmissionTrust,
    alice: PrivateKey,
    bob: PrivateKey,
    alices_other: PrivateKey,
}

fn people() -> People {
    let key = || PrivateKey::ephemeral().unwrap();
    let (alice, bob, alices_other) = (key(), key(), key());
    let mut trust = trust();
    for (name, key) in [("alice", &alice), ("bob", &bob), ("Alice", &alices_other)] {
        trust.break_glass.push((name.parse().unwrap(), key.public().clone()));
    }
    People { trust, alice, bob, alices_other }
}

fn terms() -> OverrideTerms {
    OverrideTerms { vm: vm(1), why: "outage".to_owned(), issued_at: at(0), expires_at: at(20) }
}

fn line(terms: &OverrideTerms, digest: &[u8], key: &PrivateKey) -> Vec<u8> {
    Override::sign(terms, &[Digest::sha256(digest)], key).unwrap()
}

#[test]
fn two_people_let_a_named_machine_run_named_bytes_for_a_while() {
    let People { trust, alice, bob, .. } = people();
    let file = [line(&terms(), b"one", &alice), line(&terms(), b"one", &bob)].concat();
    let by_both = Override::verify(&file, &trust, at(10)).unwrap();
    let mut scene = Scene::sound(BootPath::Start, ArtifactKind::Kernel);
    scene.unadmit(Code::EvidenceMissing);
    assert!(scene.ask().is_err());
    scene.overrides.push(by_both);
    let permit = scene.ask().unwrap();
    assert!(permit.is_override());
    assert_eq!(permit.overridden_by().iter().map(|person| person.as_str()).collect::<Vec<_>>(), ["alice", "bob"]);
    assert_eq!(permit.expires_at(), at(20));
    scene.now = at(20);
    assert!(scene.codes().contains(&Code::BreakGlassExpired));
}

#[test]
fn an_override_is_for_its_machine_and_digests_alone() {
    let People { trust, alice, bob, .. } = people();
    let both = |terms: &OverrideTerms, digest: &[u8]| {
        let file = [line(terms, digest, &alice), line(terms, digest, &bob)].concat();
        Override::verify(&file, &trust, at(10)).unwrap()
    };
    for found in [both(&OverrideTerms { vm: vm(2), ..terms() }, b"one"), both(&terms(), b"two")] {
        let mut scene = Scene::sound(BootPath::Start, ArtifactKind::Kernel);
        scene.unadmit(Code::SignatureInvalid);
        scene.overrides.push(found);
        assert!(scene.codes().contains(&Code::BreakGlassMismatch));
    }
}

#[test]
fn an_override_excuses_the_answer_and_nothing_else() {
    type Still = (Code, fn(&mut Scene));
    let People { trust, alice, bob, .. } = people();
    let file = [line(&terms(), b"one", &alice), line(&terms(), b"one", &bob)].concat();
    let by_both = Override::verify(&file, &trust, at(10)).unwrap();
    let still: [Still; 5] = [
        (Code::TicketMissing, |scene| scene.terms = None),
        (Code::TicketExpired, |scene| scene.terms().expires_at = at(10)),
        (Code::ImageChanged, |scene| scene.measured[0].bytes += 1),
        (Code::ImageQuarantined, |scene| scene.put_into_quarantine(&Digest::sha256(b"one").to_string())),
        (Code::Revoked, |scene| scene.unadmit(Code::Revoked)),
    ];
    for (code, tamper) in still {
        let mut scene = Scene::sound(BootPath::Start, ArtifactKind::Kernel);
        scene.overrides.push(by_both.clone());
        scene.unadmit(Code::SignatureInvalid);
        assert!(scene.ask().is_ok());
        tamper(&mut scene);
        assert!(scene.codes().contains(&code), "{code:?}");
    }
}

#[test]
fn one_person_alone_breaks_no_glass_by_however_many_keys() {
    let People { trust, alice, bob, alices_other } = people();
    let stranger = PrivateKey::ephemeral().unwrap();
    let of = |keys: &[&PrivateKey]| -> Vec<u8> { keys.iter().flat_map(|key| line(&terms(), b"one", key)).collect() };
    let invalid = Some(Code::BreakGlassInvalid);
    assert_eq!(code(Override::verify(&of(&[&alice]), &trust, at(10))), invalid);
    assert_eq!(code(Override::verify(&of(&[&alice, &alice]), &trust, at(10))), invalid);
    assert_eq!(code(Override::verify(&of(&[&alice, &alices_other]), &trust, at(10))), invalid);
    assert_eq!(code(Override::verify(&of(&[&alice, &stranger]), &trust, at(10))), invalid);
    assert_eq!(code(Override::verify(&of(&[&alice, &bob, &stranger]), &trust, at(10))), invalid);
    assert_eq!(code(Override::verify(b"", &trust, at(10))), invalid);
    assert!(Override::verify(&of(&[&alice, &bob]), &trust, at(10)).is_ok());
}

#[test]
fn two_people_who_signed_different_things_agreed_to_neither() {
    let People { trust, alice, bob, .. } = people();
    let longer = OverrideTerms { expires_at: at(30), ..terms() };
    for second in [line(&longer, b"one", &bob), line(&terms(), b"two", &bob)] {
        let file = [line(&terms(), b"one", &alice), second].concat();
        assert_eq!(code(Override::verify(&file, &trust, at(10))), Some(Code::BreakGlassInvalid));
    }
}

#[test]
fn an_override_has_its_time() {
    let People { trust, alice, bob, .. } = people();
    let verify = |terms: &OverrideTerms, now| {
        Override::verify(&[line(terms, b"one", &alice), line(terms, b"one", &bob)].concat(), &trust, now)
    };
    assert_eq!(code(verify(&terms(), at(20))), Some(Code::BreakGlassExpired));
    assert_eq!(code(verify(&terms(), at(-6))), Some(Code::TimeInvalid));
    let days = at(0) + SignedDuration::from_hours(25);
    let endless = OverrideTerms { expires_at: days, ..terms() };
    assert_eq!(code(verify(&endless, at(10))), Some(Code::BreakGlassExpired));
}
