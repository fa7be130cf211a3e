//! Detached OpenPGP signatures: every line of the threat model, over keys and signatures that are made here.

use std::num::NonZeroUsize;

use debvisor::release::artifact::Sink as _;
use debvisor::release::evidence::openpgp::{ArtifactHasher, DetachedSignatures, Keyring, parse_fingerprint};
use debvisor::release::verify::openpgp::{OpenpgpExpectations, SignatureFile, Validity, judge};
use debvisor::types::Reason;
use serde_json::Value;

mod files;
mod gnupg;
mod hostile;
mod keys;
mod maker;
mod signatures;

/// The day on which every test runs.
const TODAY: &str = "2026-01-01";

/// One run of the verifier.
#[derive(Clone)]
struct Question {
    artifact: Vec<u8>,
    signatures: Vec<Vec<u8>>,
    keyring: Vec<u8>,
    pins: Vec<String>,
    threshold: usize,
    validity: Validity,
    today: &'static str,
}

impl Question {
    /// One signature file over the usual artifact, with one pin, at the signature's own time.
    fn new(signature: impl Into<Vec<u8>>, keyring: impl Into<Vec<u8>>, pin: impl Into<String>) -> Self {
        Self {
            artifact: maker::ARTIFACT.to_vec(),
            signatures: vec![signature.into()],
            keyring: keyring.into(),
            pins: vec![pin.into()],
            threshold: 1,
            validity: Validity::AtSigning,
            today: TODAY,
        }
    }

    fn now(mut self) -> Self {
        self.validity = Validity::Now;
        self
    }

    fn also_pin(mut self, pin: String) -> Self {
        self.pins.push(pin);
        self
    }

    fn threshold(mut self, threshold: usize) -> Self {
        self.threshold = threshold;
        self
    }

    /// The verified signatures in the report's form, or every reason why not.
    fn ask(&self) -> Result<Vec<Value>, Vec<Reason>> {
        let files: Result<Vec<_>, _> = self.signatures.iter().map(|bytes| DetachedSignatures::parse(bytes)).collect();
        let files = files.map_err(|reason| vec![reason])?;
        let keyring = Keyring::parse(&self.keyring).map_err(|reason| vec![reason])?;
        let mut hasher = ArtifactHasher::new(&files);
        hasher.update(&self.artifact);
        let expected = OpenpgpExpectations {
            pins: self.pins.iter().map(|pin| parse_fingerprint(pin).unwrap()).collect(),
            threshold: NonZeroUsize::new(self.threshold).unwrap(),
            validity: self.validity,
            now: maker::day(self.today).try_into().unwrap(),
        };
        let files: Vec<_> =
            files.iter().map(|signatures| SignatureFile { evidence: "artifact.asc", signatures }).collect();
        let (facts, reasons) = judge(&files, Some(&hasher.finish()), &keyring, &expected);
        assert_eq!(facts.is_empty(), !reasons.is_empty(), "either facts or reasons, never both or neither");
        if reasons.is_empty() {
            Ok(facts.iter().map(|fact| serde_json::to_value(fact).unwrap()).collect())
        } else {
            Err(reasons)
        }
    }

    /// Passes, and yields the one signature's signer.
    #[track_caller]
    fn passes(&self) -> Value {
        self.ask().unwrap()[0]["signer"].clone()
    }

    /// Is refused for these reasons, in this order.
    #[track_caller]
    fn fails(&self, codes: &[&str]) -> Vec<Reason> {
        let reasons = self.ask().unwrap_err();
        let found: Vec<_> = reasons.iter().map(|reason| reason.code.as_str()).collect();
        assert_eq!(found, codes, "{reasons:#?}");
        reasons
    }
}
