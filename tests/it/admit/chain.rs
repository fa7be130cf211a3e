//! The whole way by the library: evidence, trust and a store's measure in; a permit out for every path and kind, and
//! none where one byte of anything was changed.

use debvisor::release::admit::quarantine::Entry;
use debvisor::release::admit::ticket::TicketTerms;
use debvisor::release::admit::{
    AdmissionTrust, BootArtifact, BootPermit, BootRequest, Evidence, EvidenceFile, Judged, Measured, Presented,
    QuarantineList, SignedTicket, Standing, issue, judge, permit,
};
use debvisor::release::artifact::Artifact;
use debvisor::release::attest::key::{self, PrivateKey};
use debvisor::release::trust::revocation::{Revocation, Revocations};
use debvisor::types::vm::{ArtifactKind, BootPath, VmId};
use debvisor::types::{Code, Digest, Reason};
use jiff::{SignedDuration, Timestamp};

use super::publisher;
use crate::world::{World, after};

/// Six artifacts, one of each kind, each signed by the publisher.
struct Host {
    trust: AdmissionTrust,
    server: PrivateKey,
    images: Vec<(ArtifactKind, Vec<u8>)>,
    bundles: Vec<Vec<u8>>,
    revocations: Revocations,
    quarantine: QuarantineList,
}

fn now() -> Timestamp {
    after(3600)
}

fn vm() -> VmId {
    VmId::new(uuid::Uuid::from_u128(1))
}

impl Host {
    fn new() -> Self {
        let files = key::generate(b"").unwrap();
        let server = PrivateKey::load(files.private_pem.as_bytes(), Some(b"")).unwrap();
        let root = World::shared().trusted_root().to_string();
        let text = format!(
            "[admission]\ntrusted-root = \"root.json\"\nticket-keys = [\"server.pub\"]\n[[admission.signers]]\n\
             name = \"ours\"\ncertificate-identity = \"{}\"\ncertificate-oidc-issuer = \"{}\"\n",
            super::WHO,
            super::ISSUER
        );
        let read =
            |name: &str, _: u64| Ok(if name == "root.json" { root.clone() } else { files.public_pem.clone() }.into());
        let images: Vec<_> = ArtifactKind::ALL.map(|kind| (kind, kind.name().as_bytes().to_vec())).into();
        let sign = |(_, bytes): &(ArtifactKind, Vec<u8>)| {
            World::shared().blob(bytes, &publisher()).bundle().to_string().into_bytes()
        };
        Self {
            trust: AdmissionTrust::parse(&text, &read).unwrap(),
            server,
            bundles: images.iter().map(sign).collect(),
            images,
            revocations: Revocations::default(),
            quarantine: QuarantineList::default(),
        }
    }

    fn artifacts(&self) -> Vec<BootArtifact> {
        let artifact = |(kind, bytes): &(ArtifactKind, Vec<u8>)| BootArtifact {
            slot: kind.name().to_owned(),
            kind: *kind,
            digest: Digest::sha256(bytes),
            tree_root: kind.is_block_device().then(|| Digest::sha256(&[bytes.as_slice(), b"tree"].concat())),
            bytes: bytes.len() as u64,
        };
        self.images.iter().map(artifact).collect()
    }

    fn judged(&self) -> Vec<Judged> {
        let judge = |((kind, bytes), bundle): (&(ArtifactKind, Vec<u8>), &Vec<u8>)| {
            let artifact = Artifact::from_bytes(kind.name(), bytes);
            let file = EvidenceFile { name: format!("{}.sigstore.json", kind.name()), bytes: bundle.clone() };
            let presented = Presented { artifact: &artifact, kind: *kind, openpgp: None };
            judge(presented, &Evidence::parse(&[file]), &self.trust, &self.revocations, now())
        };
        self.images.iter().zip(&self.bundles).map(judge).collect()
    }

    fn measured(&self) -> Vec<Measured> {
        let measured = |artifact: BootArtifact| Measured {
            digest: artifact.digest,
            others: Vec::new(),
            tree_root: artifact.tree_root,
            bytes: artifact.bytes,
        };
        self.artifacts().into_iter().map(measured).collect()
    }

    /// The ticket that the server issued when all was well.
    fn ticket(&self) -> Vec<u8> {
        let (judged, measured) = (self.judged(), self.measured());
        let terms = TicketTerms {
            vm: vm(),
            node: "node-a".to_owned(),
            artifacts: self.artifacts(),
            policy: self.trust.policy_digest().unwrap(),
            trust_root: self.trust.trust_root_digest().cloned(),
            issued_at: now(),
            expires_at: now() + SignedDuration::from_hours(1),
            generation: 1,
            nonce: uuid::Uuid::from_u128(2),
        };
        issue(&terms, &self.server, &self.standing(&judged, &measured)).unwrap()
    }

    fn standing<'a>(&'a self, judged: &'a [Judged], measured: &'a [Measured]) -> Standing<'a> {
        Standing { trust: &self.trust, judged, measured, quarantine: &self.quarantine, overrides: &[], now: now() }
    }

    fn start(&self, path: BootPath, ticket: &[u8]) -> Result<BootPermit, Vec<Reason>> {
        let ticket = SignedTicket::parse(ticket).and_then(|ticket| ticket.verify(&self.trust, now()));
        let ticket = ticket.map_err(|reason| vec![reason])?;
        let request =
            BootRequest { vm: vm(), node: "node-a".to_owned(), path, artifacts: self.artifacts(), seen_generation: 1 };
        let (judged, measured) = (self.judged(), self.measured());
        permit(&request, Some(&ticket), &self.standing(&judged, &measured))
    }
}

fn codes(outcome: Result<BootPermit, Vec<Reason>>) -> Vec<Code> {
    outcome.unwrap_err().iter().map(|reason| reason.code.known().unwrap()).collect()
}

#[test]
fn every_path_starts_sound_and_is_refused_where_one_artifact_was_replaced() {
    let mut host = Host::new();
    let ticket = host.ticket();
    for path in BootPath::ALL {
        let permit = host.start(path, &ticket).unwrap();
        assert_eq!((permit.path(), permit.artifacts().len(), permit.signers().len()), (path, 6, 1));
    }
    for index in 0..host.images.len() {
        let sound = host.images[index].1.clone();
        host.images[index].1[0] ^= 1;
        for path in BootPath::ALL {
            let codes = codes(host.start(path, &ticket));
            assert!(codes.contains(&Code::TicketMismatch), "{path:?} {index}: {codes:?}");
            assert!(codes.contains(&Code::ImageUnadmitted), "{path:?} {index}: {codes:?}");
            assert!(codes.contains(&Code::DigestMismatch), "{path:?} {index}: {codes:?}");
        }
        host.images[index].1 = sound;
    }
}

#[test]
fn evidence_that_was_changed_or_taken_away_permits_nothing() {
    let mut host = Host::new();
    let ticket = host.ticket();
    let sound = host.bundles[0].clone();
    host.bundles[0] = b"{}".to_vec();
    assert!(codes(host.start(BootPath::Start, &ticket)).contains(&Code::ImageUnadmitted));
    host.bundles[0] = host.bundles[1].clone();
    assert!(codes(host.start(BootPath::Start, &ticket)).contains(&Code::DigestMismatch));
    host.bundles[0] = sound;
    assert!(host.start(BootPath::Start, &ticket).is_ok());
}

#[test]
fn what_is_revoked_or_in_quarantine_starts_by_no_path() {
    let mut host = Host::new();
    let ticket = host.ticket();
    let what = [Digest::sha256(b"disk").to_string(), format!("identity:{}", super::WHO)];
    for target in &what {
        let entry = Entry {
            id: uuid::Uuid::from_u128(3),
            target: target.parse().unwrap(),
            why: "compromised".to_owned(),
            by: "alice".parse().unwrap(),
            since: now(),
            release: None,
        };
        host.quarantine = [entry].into_iter().collect();
        for path in BootPath::ALL {
            let codes = codes(host.start(path, &ticket));
            let expected = [Code::ImageQuarantined, Code::SignerQuarantined];
            assert!(codes.iter().any(|code| expected.contains(code)), "{path:?}: {codes:?}");
        }
    }
    host.quarantine = QuarantineList::default();
    for target in &what {
        let revocation = Revocation { what: target.parse().unwrap(), reason: None };
        host.revocations = [revocation].into_iter().collect();
        assert!(codes(host.start(BootPath::Start, &ticket)).contains(&Code::Revoked), "{target}");
    }
}

#[test]
fn what_runs_is_found_when_its_signer_is_put_into_quarantine() {
    use debvisor::release::admit::affected;
    let host = Host::new();
    let running = host.start(BootPath::Start, &host.ticket()).unwrap().running();
    let kept = serde_json::to_string(&running).unwrap();
    let running = serde_json::from_str(&kept).unwrap();
    let entry = Entry {
        id: uuid::Uuid::from_u128(3),
        target: format!("identity:{} issuer:{}", super::WHO, super::ISSUER).parse().unwrap(),
        why: "compromised".to_owned(),
        by: "alice".parse().unwrap(),
        since: now(),
        release: None,
    };
    let list = [entry].into_iter().collect();
    let found = affected(&list, &Revocations::default(), [&running], now());
    assert_eq!(found[0].vm, vm());
    assert_eq!(found[0].reasons[0].code.known(), Some(Code::SignerQuarantined));
}
