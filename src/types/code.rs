//! The reason codes: every "no" that DebVisor can say, each with its meaning, its source and its mend.
//!
//! A code never changes its meaning and is never reused. `docs/reference/reason-codes.md` is generated from this table.

/// What a reason does to a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The evidence says no: exit code 1.
    Deny,
    /// The question could not be answered: exit code 2.
    Undecided,
}

/// What `debvisor explain` says of a code.
#[derive(Debug, Clone, Copy)]
pub struct CodeInfo {
    /// The stable kebab-case name.
    pub name: &'static str,
    /// What it does to a decision.
    pub outcome: Outcome,
    /// What it means, in a sentence or two.
    pub meaning: &'static str,
    /// The rule or clause it comes from.
    pub source: &'static str,
    /// How it is usually mended.
    pub fix: &'static str,
}

macro_rules! codes {
    ($($variant:ident $name:literal $outcome:ident { $meaning:literal } from $source:literal fix $fix:literal)*) => {
        /// A stable reason code. The text form is what scripts match on.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $(
                #[doc = $meaning]
                $variant,
            )*
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// What the code means.
            pub const fn info(self) -> CodeInfo {
                match self {
                    $(Self::$variant => CodeInfo {
                        name: $name,
                        outcome: Outcome::$outcome,
                        meaning: $meaning,
                        source: $source,
                        fix: $fix,
                    },)*
                }
            }
        }
    };
}

codes! {
    // Input and bounds
    InputTooLarge "input-too-large" Deny { "A file, member, list or field is larger than its limit." }
        from "docs/reference/limits.md" fix "check that the file is what you meant; limits are listed in docs/reference/limits.md"
    InputTooDeep "input-too-deep" Deny { "A document is nested deeper than its limit." }
        from "docs/reference/limits.md" fix "regenerate the document with a sane tool; nothing legitimate nests this deep"
    MalformedJson "malformed-json" Deny { "A JSON document does not parse, or has trailing data." }
        from "RFC 8259" fix "fetch the file again; it is damaged or not JSON"
    DuplicateKey "duplicate-key" Deny { "A JSON object has the same member twice; two readers may see two different documents." }
        from "RFC 8259 section 4" fix "regenerate the document; no honest tool writes a member twice"
    EvidenceMissing "evidence-missing" Undecided { "Evidence that the question needs was not given or not found." }
        from "docs/how-to/verify.md" fix "name the evidence with --bundle, --signature or a policy that needs none"
    EvidenceUnjudged "evidence-unjudged" Undecided { "Evidence is there of a kind for which nobody was named; it was not judged and counts for nothing." }
        from "docs/how-to/gate.md" fix "name the signer: --key, --certificate-identity, or --openpgp-fingerprint"
    EvidenceUnreadable "evidence-unreadable" Undecided { "A file or address could not be read." }
        from "docs/how-to/verify.md" fix "check the path and its permissions, or that the service is up, and run again"
    SubjectUnreadable "subject-unreadable" Undecided { "The artifact itself could not be read." }
        from "docs/how-to/verify.md" fix "check the path and its permissions"

    // Bundle
    MalformedBundle "malformed-bundle" Deny { "A Sigstore bundle lacks a field, has one of the wrong form, or carries both or neither of the two contents." }
        from "sigstore protobuf-specs, sigstore_bundle.proto" fix "fetch the bundle again or sign again with a current client"
    UnknownMediaType "unknown-media-type" Deny { "The bundle's media type is not one of v0.1, v0.2 or v0.3." }
        from "sigstore protobuf-specs, sigstore_bundle.proto" fix "use a bundle of a known version, or a newer DebVisor"
    BundleRootCertificate "bundle-root-certificate" Deny { "The bundle carries a self-signed root certificate in its chain; roots come from the trust root alone." }
        from "sigstore protobuf-specs, X509CertificateChain" fix "sign again with a client that leaves the root out"
    MaterialMismatch "material-mismatch" Deny { "The bundle has a certificate where a key was asked for, or the reverse." }
        from "docs/reference/cli.md" fix "use --key for a key-signed bundle, --certificate-identity for a keyless one"

    // Signature
    SignatureInvalid "signature-invalid" Deny { "The signature does not fit the content and the key." }
        from "FIPS 186-5; DSSE protocol" fix "the artifact or the signature was changed: fetch both again from their source"
    SignatureMissing "signature-missing" Deny { "The evidence holds no signature, or an empty one." }
        from "DSSE protocol" fix "sign the artifact, or fetch the whole bundle"
    SignatureCount "signature-count" Deny { "An envelope must carry exactly one signature." }
        from "sigstore client specification" fix "sign again; a bundle holds one signature"
    DigestMismatch "digest-mismatch" Deny { "The artifact's bytes are not the ones that were signed." }
        from "sigstore client specification" fix "fetch the artifact again; if it still differs, it was replaced"
    UnsupportedAlgorithm "unsupported-algorithm" Deny { "A key, signature or digest uses an algorithm that is not accepted." }
        from "sigstore algorithm registry" fix "sign again with ECDSA P-256 or P-384, Ed25519 or RSA of 2048 bits or more"
    ArtifactBytesRequired "artifact-bytes-required" Undecided { "This signature covers the artifact's bytes; a digest alone does not answer." }
        from "RFC 8032" fix "give the file itself instead of its digest"

    // Identity
    IdentityMismatch "identity-mismatch" Deny { "The certificate was issued to another identity than the one asked for. Nothing is normalised; a regexp must match the whole." }
        from "docs/threat-model.md, identity" fix "compare the identity in the report with the one you expect, byte by byte"
    IssuerMismatch "issuer-mismatch" Deny { "The certificate's OIDC issuer is another one than the one asked for." }
        from "Fulcio OID 1.3.6.1.4.1.57264.1.8" fix "compare the issuer in the report with the one you expect, byte by byte"
    IssuerConflict "issuer-conflict" Deny { "The two issuer extensions of the certificate disagree." }
        from "Fulcio OID 1.3.6.1.4.1.57264.1.1 and .1.8" fix "do not use this certificate; report it to the authority that issued it"
    IdentityRequired "identity-required" Deny { "A keyless signature proves nothing until somebody says who was expected to sign." }
        from "docs/threat-model.md, identity" fix "give --certificate-identity and --certificate-oidc-issuer, or --source-uri with a trusted builder"
    KeyMismatch "key-mismatch" Deny { "The signature was made by another key than the one given." }
        from "docs/threat-model.md, identity" fix "check that --key names the publisher's current key"

    // Certificate
    CertificateMalformed "certificate-malformed" Deny { "A certificate does not parse as DER, or has extra bytes or repeated extensions." }
        from "RFC 5280" fix "fetch the bundle again"
    CertificateUntrusted "certificate-untrusted" Deny { "The certificate does not chain to an authority of the trust root." }
        from "RFC 5280 section 6" fix "check that --trusted-root is the root of the instance that signed"
    CertificateExpired "certificate-expired" Deny { "The signing time lies outside the certificate's validity." }
        from "RFC 5280 section 4.1.2.5" fix "sign again; a signature made after expiry cannot be mended"
    CertificateUsage "certificate-usage" Deny { "The certificate is not for code signing, or is an authority's." }
        from "RFC 5280 sections 4.2.1.9 and 4.2.1.12" fix "sign with a code-signing certificate"
    CertificateProfile "certificate-profile" Deny { "The certificate names no or several identities, or lacks what Fulcio's profile demands." }
        from "Fulcio certificate specification" fix "sign with a certificate from Fulcio"
    SctMissing "sct-missing" Deny { "The certificate carries no signed certificate timestamp." }
        from "RFC 6962 section 3.3" fix "sign with a certificate that was logged"
    SctUntrusted "sct-untrusted" Deny { "The certificate's timestamp is from a log that the trust root does not name, or not for that time." }
        from "RFC 6962 section 3.2" fix "update the trust root: debvisor trust update"
    SctInvalid "sct-invalid" Deny { "The certificate's timestamp is forged, damaged or for another certificate." }
        from "RFC 6962 section 3.2" fix "do not use this certificate"

    // Time
    TimeMissing "time-missing" Deny { "No trusted clock says when the signature was made." }
        from "sigstore client specification, establishing a time" fix "sign again with a timestamp authority or a log that gives a signed time"
    TimeInvalid "time-invalid" Deny { "A time in the evidence is out of range or in the future." }
        from "sigstore client specification" fix "sign again with a correct clock"
    TimestampInvalid "timestamp-invalid" Deny { "An RFC 3161 timestamp is damaged, forged or over other bytes." }
        from "RFC 3161; RFC 5652" fix "fetch the bundle again"
    TimestampUntrusted "timestamp-untrusted" Deny { "An RFC 3161 timestamp is from an authority that the trust root does not name, or not for that time." }
        from "RFC 3161 section 2.3" fix "update the trust root: debvisor trust update"
    TimestampCount "timestamp-count" Deny { "The same timestamp twice, or more than 32 of them." }
        from "docs/reference/limits.md" fix "sign again with one timestamp per authority"
    AuthorityWindow "authority-window" Deny { "The trust root's window for a CA, log or timestamp authority does not cover the event." }
        from "sigstore protobuf-specs, trusted_root.proto" fix "update the trust root: debvisor trust update"

    // Transparency log
    LogEntryMissing "log-entry-missing" Deny { "The bundle has no transparency log entry." }
        from "sigstore client specification" fix "sign again with a log"
    LogUnknown "log-unknown" Deny { "The entry names a log that the trust root does not have." }
        from "sigstore protobuf-specs, trusted_root.proto" fix "update the trust root: debvisor trust update"
    LogEntryMalformed "log-entry-malformed" Deny { "A log entry has a bad index, size, body, kind or version." }
        from "rekor types" fix "fetch the bundle again"
    LogEntryMismatch "log-entry-mismatch" Deny { "The log entry is about another signature, certificate, digest or algorithm than the bundle." }
        from "CVE-2022-36056" fix "sign again; the bundle was assembled from parts of others"
    InclusionMissing "inclusion-missing" Deny { "The entry has no inclusion proof, only a promise or nothing." }
        from "sigstore client specification" fix "sign again with a current client, or fetch the proof from the log"
    InclusionInvalid "inclusion-invalid" Deny { "The inclusion proof does not lead to the log's root." }
        from "RFC 6962 section 2.1.1" fix "fetch the bundle again"
    ConsistencyInvalid "consistency-invalid" Deny { "The consistency proof does not join the two roots: the log was rewritten, or the proof is damaged." }
        from "RFC 6962 section 2.1.2" fix "fetch both checkpoints again; if they still disagree, the log forked"
    ProofMalformed "proof-malformed" Deny { "A Merkle proof file lacks a field, or has an index, size or hash out of range." }
        from "RFC 6962 section 2.1" fix "see debvisor log inclusion --help for the form"
    CheckpointMalformed "checkpoint-malformed" Deny { "A checkpoint is not a signed note with origin, size and root." }
        from "C2SP tlog-checkpoint and signed-note" fix "fetch the bundle again"
    CheckpointInvalid "checkpoint-invalid" Deny { "No signature on the checkpoint is the log's own." }
        from "C2SP signed-note" fix "fetch the bundle again"
    SetInvalid "set-invalid" Deny { "The log's signed entry timestamp is forged or about another entry." }
        from "rekor, signed entry timestamp" fix "fetch the bundle again"

    // DSSE and in-toto
    PayloadType "payload-type" Deny { "The envelope's payload type is not in-toto's." }
        from "in-toto attestation framework, envelope" fix "attest again with payload type application/vnd.in-toto+json"
    StatementMalformed "statement-malformed" Deny { "The in-toto statement lacks a field, has an unknown type, or no subject." }
        from "in-toto attestation framework, statement" fix "attest again"
    SubjectMismatch "subject-mismatch" Deny { "No subject of the statement is this artifact." }
        from "in-toto attestation framework, statement" fix "use the attestation that was made for this artifact"
    SubjectDigest "subject-digest" Deny { "A subject has no digest that binds, or digests that contradict." }
        from "in-toto attestation framework, digest set" fix "attest again with sha256 or sha512 digests"
    PredicateTypeMismatch "predicate-type-mismatch" Deny { "The attestation is of another predicate type than the one asked for." }
        from "in-toto attestation framework, statement" fix "compare the type in the report with --predicate-type, byte by byte"
    PredicateMalformed "predicate-malformed" Deny { "The predicate does not have the form that its type demands." }
        from "SLSA provenance" fix "attest again with a predicate of the declared type"
    AttestationMissing "attestation-missing" Deny { "No attestation of the type asked for was given." }
        from "docs/reference/cli.md" fix "add the attestation with --bundle"

    // Provenance
    ProvenanceMissing "provenance-missing" Deny { "Something was asked of the provenance, and no SLSA provenance was given." }
        from "SLSA verifying artifacts" fix "add the provenance with --bundle"
    ProvenanceConflict "provenance-conflict" Deny { "The predicate says something else than the signing certificate." }
        from "docs/threat-model.md, provenance" fix "do not use this artifact; somebody wrote a predicate that the build platform does not confirm"
    SourceMismatch "source-mismatch" Deny { "The artifact was built from another source repository." }
        from "SLSA verifying artifacts" fix "compare the source in the report with --source-uri"
    BranchMismatch "branch-mismatch" Deny { "The artifact was built from another branch, or from none." }
        from "slsa-verifier --source-branch" fix "compare the ref in the report with --source-branch"
    TagMismatch "tag-mismatch" Deny { "The artifact was built from another tag, or from none." }
        from "slsa-verifier --source-tag" fix "compare the ref in the report with --source-tag; a branch of the same name is not the tag"
    VersionedTagMismatch "versioned-tag-mismatch" Deny { "The tag is not a release of the version asked for." }
        from "slsa-verifier --source-versioned-tag" fix "compare the ref in the report with --source-versioned-tag"
    BuilderMismatch "builder-mismatch" Deny { "The artifact was built by another builder than the one asked for." }
        from "SLSA verifying artifacts" fix "compare the builder in the report with --builder-id"
    BuilderUntrusted "builder-untrusted" Deny { "The builder is not on the list of trusted builders." }
        from "policies/builders.rego" fix "name the builder with --builder-id, or add it to the builders policy"
    BuilderRef "builder-ref" Deny { "A trusted builder was used at a branch or commit instead of a release tag." }
        from "slsa-verifier, reusable workflow reference" fix "call the builder at a release tag: @vX.Y.Z"
    SelfHostedRunner "self-hosted-runner" Deny { "The build ran on a self-hosted runner, or does not say on which." }
        from "Fulcio OID 1.3.6.1.4.1.57264.1.11" fix "build on a hosted runner"
    PackageMismatch "package-mismatch" Deny { "The provenance is for another package name or version." }
        from "slsa-verifier --package-name, --package-version" fix "compare the subject in the report with --package-name and --package-version"

    // Checksums and archives
    ChecksumListMalformed "checksum-list-malformed" Deny { "A line of the checksum list is malformed, or the list is empty." }
        from "coreutils sha256sum" fix "write the list again: debvisor checksum create"
    ChecksumNameUnsafe "checksum-name-unsafe" Deny { "A name in the checksum list is absolute, leaves the directory or has a NUL." }
        from "docs/threat-model.md, files" fix "do not use this list; no honest tool writes such names"
    ChecksumConflict "checksum-conflict" Deny { "The list gives two digests for one name." }
        from "docs/threat-model.md, files" fix "write the list again: debvisor checksum create"
    ChecksumMismatch "checksum-mismatch" Deny { "A file does not have the listed digest." }
        from "coreutils sha256sum" fix "fetch the file again; if it still differs, it was replaced"
    FileMissing "file-missing" Deny { "A listed file is absent." }
        from "coreutils sha256sum" fix "fetch the missing file"
    FileUnlisted "file-unlisted" Deny { "A file is there that nobody listed." }
        from "docs/threat-model.md, files" fix "remove the file, or list it and sign the list again"
    ChecksumMissing "checksum-missing" Deny { "The release has no checksum list." }
        from "docs/reference/release-layout.md" fix "write one: debvisor checksum create"
    FileUnsafe "file-unsafe" Deny { "A release holds a link or special file where a regular file was expected." }
        from "docs/threat-model.md, files" fix "replace it by a regular file"
    ArchiveMalformed "archive-malformed" Deny { "The archive is damaged or of no known form." }
        from "POSIX pax; PKWARE APPNOTE" fix "fetch the archive again"
    ArchiveEscape "archive-escape" Deny { "A member's name or link leaves the directory it would be unpacked into." }
        from "CWE-22" fix "do not unpack this archive"
    ArchiveSpecial "archive-special" Deny { "A member is a device, a socket or a pipe." }
        from "docs/threat-model.md, files" fix "do not unpack this archive"
    ArchiveCollision "archive-collision" Deny { "Two members have the same name, or names that one file system would make one." }
        from "docs/threat-model.md, files" fix "pack the archive again"
    ArchiveTooLarge "archive-too-large" Deny { "The archive unpacks to more than the limit." }
        from "CWE-409" fix "raise --max-unpacked-size if the size is honest"

    // Disk images
    DiskMalformed "disk-malformed" Deny { "A disk image, its partition table or its file system is damaged, cut short or contradicts itself." }
        from "QEMU qcow2 format; UEFI specification, GPT; Linux ext4 disk layout" fix "fetch the image again; if it was made like that, repair it where it was made"
    DiskBackingFile "disk-backing-file" Deny { "A qcow2 image names a backing file: who opens it opens any path of the host that it says." }
        from "QEMU qcow2 format, backing file" fix "flatten it where it was made: qemu-img convert -O qcow2"
    DiskExternalData "disk-external-data" Deny { "A qcow2 image keeps its data in another file: who opens it opens any path of the host that it says." }
        from "QEMU qcow2 format, external data file" fix "flatten it where it was made: qemu-img convert -O qcow2"
    DiskEncrypted "disk-encrypted" Deny { "A disk image is encrypted, so that nothing can be said of what is in it." }
        from "QEMU qcow2 format, encryption method; LUKS" fix "decrypt the image where its key is"
    DiskOversized "disk-oversized" Deny { "A disk image claims a size, or tables, beyond the limit." }
        from "docs/reference/limits.md" fix "make the disk as large as it must be; a size of zeros costs its maker nothing"
    DiskUnsupported "disk-unsupported" Deny { "A disk image is in a format, or needs a feature, that is not read." }
        from "docs/reference/sbom.md" fix "convert it: qemu-img convert -O qcow2 or -O raw"

    // OpenPGP
    OpenpgpMalformed "openpgp-malformed" Deny { "The signature file is damaged, cut short, or no OpenPGP signature." }
        from "RFC 9580" fix "fetch the signature again"
    OpenpgpNotDetached "openpgp-not-detached" Deny { "The file is a message that carries its own text, not a detached signature." }
        from "RFC 9580 section 10.4" fix "sign with --detach-sign"
    OpenpgpKeyUnknown "openpgp-key-unknown" Deny { "The signing key is not in the keyring." }
        from "RFC 9580 section 5.2" fix "add the publisher's key to --openpgp-keyring"
    OpenpgpKeyNotPinned "openpgp-key-not-pinned" Deny { "The signing key is none of the pinned ones; a user id proves nothing." }
        from "docs/threat-model.md, OpenPGP" fix "pin the publisher's fingerprint with --openpgp-fingerprint"
    OpenpgpSignatureBad "openpgp-signature-bad" Deny { "The signature does not fit the artifact." }
        from "RFC 9580 section 5.2.4" fix "fetch the artifact and the signature again"
    OpenpgpSignatureExpired "openpgp-signature-expired" Deny { "The signature itself carries an expiry that has passed." }
        from "RFC 9580 section 5.2.3.18" fix "ask the publisher to sign again"
    OpenpgpSignatureTime "openpgp-signature-time" Deny { "The signature is older than its key, or from the future." }
        from "RFC 9580 section 5.2.3.11" fix "ask the publisher to sign again with a correct clock"
    OpenpgpKeyExpired "openpgp-key-expired" Deny { "The key had expired when it signed, or has since, and validity now was asked for." }
        from "RFC 9580 section 5.2.3.13" fix "refresh the key, or accept validity at signing: --openpgp-validity at-signing"
    OpenpgpKeyRevoked "openpgp-key-revoked" Deny { "The key or subkey was revoked." }
        from "RFC 9580 section 5.2.3.31" fix "use the publisher's new key; a compromised key's signatures are void"
    OpenpgpAlgorithm "openpgp-algorithm" Deny { "The signature or key uses SHA-1, MD5, short RSA or another weak algorithm." }
        from "RFC 9580 section 9; NIST SP 800-131A" fix "ask the publisher to sign again with SHA-256 and a modern key"
    OpenpgpSignatureType "openpgp-signature-type" Deny { "The signature is in text mode or of a type that is not for files." }
        from "RFC 9580 section 5.2.1" fix "sign in binary mode"
    OpenpgpNotation "openpgp-notation" Deny { "The signature has a critical notation or subpacket that is not understood." }
        from "RFC 9580 section 5.2.3.7" fix "sign without it, or use a newer DebVisor"
    OpenpgpThreshold "openpgp-threshold" Deny { "Fewer distinct pinned keys signed than the threshold demands." }
        from "docs/threat-model.md, OpenPGP" fix "collect the missing signatures"
    OpenpgpKeyUnusable "openpgp-key-unusable" Deny { "The key may not sign, or its self-signature is not valid." }
        from "RFC 9580 section 5.2.3.29" fix "use a key with the signing capability"
    OpenpgpKeyringUnreadable "openpgp-keyring-unreadable" Undecided { "The keyring cannot be read or holds no key." }
        from "RFC 9580 section 10.1" fix "export the publisher's keys again: gpg --export --armor"

    // Trust roots
    TrustRootUnreadable "trust-root-unreadable" Undecided { "The trust root cannot be read or is not a trusted_root.json." }
        from "sigstore protobuf-specs, trusted_root.proto" fix "fetch it again: debvisor trust update"
    TrustRootTooOld "trust-root-too-old" Undecided { "The trust root is older than --max-trust-root-age allows." }
        from "docs/how-to/trust-roots.md" fix "debvisor trust update"
    TrustRootUnmatched "trust-root-unmatched" Undecided { "The trust root cannot answer for this kind of evidence." }
        from "sigstore protobuf-specs, trusted_root.proto" fix "name the root of the instance that signed: --trusted-root"
    TufRejected "tuf-rejected" Deny { "The TUF repository's metadata is forged, expired, rolled back or inconsistent." }
        from "TUF specification section 5" fix "check the mirror's address and the bootstrap root; a rollback may be an attack"
    TufUnreachable "tuf-unreachable" Undecided { "The TUF repository could not be reached." }
        from "TUF specification section 5" fix "check the address and the network, or use an offline bundle"
    TrustBundleInvalid "trust-bundle-invalid" Deny { "The offline trust bundle is damaged, expired or lacks signatures." }
        from "docs/how-to/trust-roots.md" fix "fetch the bundle again"
    TrustBundleRollback "trust-bundle-rollback" Deny { "The offline trust bundle is older than the one in use." }
        from "docs/how-to/trust-roots.md" fix "fetch the newest bundle"
    Revoked "revoked" Deny { "The digest, key, identity or policy was revoked by the trust bundle." }
        from "docs/how-to/trust-roots.md" fix "do not use it; ask its publisher for a new release"

    // Policy
    PolicyDenied "policy-denied" Deny { "A policy rule said no." }
        from "the policy that the message names" fix "satisfy the rule, or change the policy"
    PolicyUnmatched "policy-unmatched" Deny { "No policy matched: nothing said yes." }
        from "docs/threat-model.md, admission" fix "name a policy that has rules for this input"
    PolicyUnreadable "policy-unreadable" Deny { "The policy cannot be read or does not compile." }
        from "docs/how-to/policy.md" fix "run debvisor policy test on it"
    PolicyFailed "policy-failed" Deny { "The policy's evaluation failed or took too long; an evaluator that fails says no." }
        from "docs/how-to/policy.md" fix "run debvisor policy eval on the same input"
    PolicyTestFailed "policy-test-failed" Deny { "A test that stands beside a policy did not pass." }
        from "docs/how-to/policy.md" fix "mend the policy, or the test where it asks for the wrong thing"
    SignatureRequired "signature-required" Deny { "The policy wants a verified signature, and there is none." }
        from "policies/release.rego" fix "sign the file: debvisor sign, or debvisor seal for the whole release"
    SbomRequired "sbom-required" Deny { "The policy wants an SBOM, and there is none." }
        from "policies/release.rego" fix "debvisor sbom generate, then sign it with the release"
    ProvenanceRequired "provenance-required" Deny { "The policy wants SLSA provenance, and there is none." }
        from "policies/release.rego" fix "attest the build: debvisor provenance generate"
    VexRequired "vex-required" Deny { "The policy wants a VEX document, and there is none." }
        from "policies/release.rego" fix "debvisor vex generate, then sign it with the release"

    DocumentMalformed "document-malformed" Deny { "An SBOM or VEX document is of no known format." }
        from "CycloneDX; SPDX; OpenVEX; CSAF" fix "write the document again, in JSON of one of these formats"
    DocumentMismatch "document-mismatch" Deny { "An SBOM or VEX document that is named after an artifact describes other bytes." }
        from "docs/reference/release-layout.md" fix "write the document again for this artifact, then sign it with the release"

    // Manifest
    ManifestMalformed "manifest-malformed" Deny { "The manifest of a sealed release is not of the documented form, or names a file twice." }
        from "docs/reference/release-layout.md" fix "seal the release again: debvisor seal DIR"
    ManifestMismatch "manifest-mismatch" Deny { "The manifest of a sealed release and the release itself disagree: about a digest, a role, or whether a file is there." }
        from "docs/reference/release-layout.md" fix "fetch the release again; if you changed it yourself, seal it again"

    // VEX
    VexInvalid "vex-invalid" Deny { "A VEX document is not valid by the OpenVEX schema, or contradicts itself." }
        from "OpenVEX specification 0.2.0" fix "write it with debvisor vex generate, or mend the place that is named"
    VexUnexplained "vex-unexplained" Deny { "A scanner's finding is explained by no VEX statement." }
        from "docs/how-to/vex.md" fix "mend the component, or decide about the finding in the triage file"
    VexExpired "vex-expired" Deny { "What was decided about a finding held until a day that has passed." }
        from "policies/vex.rego" fix "look at the finding again, and give the decision in the triage file a new last day"
    VexIncomplete "vex-incomplete" Deny { "A VEX statement lacks what its status needs: `not_affected` a justification, `affected` an action." }
        from "OpenVEX specification 0.2.0, Status Labels" fix "complete the decision in the triage file and write the document again"

    // SBOM
    SbomUnknownFormat "sbom-unknown-format" Deny { "The document does not say that it is CycloneDX 1.2 to 1.7 or SPDX 2.x or 3.0 in JSON, or says it twice." }
        from "docs/reference/sbom.md" fix "export the SBOM as CycloneDX or SPDX JSON"
    SbomSchema "sbom-schema" Deny { "The document does not follow the official JSON Schema of its format and version." }
        from "ECMA-424; ISO/IEC 5962" fix "make the SBOM again with a current tool: debvisor sbom generate"
    SbomReference "sbom-reference" Deny { "A dependency or relationship names an element that the document does not have." }
        from "CycloneDX dependencies; SPDX relationships" fix "make the SBOM again; parts of it were removed or renamed"
    SbomDuplicate "sbom-duplicate" Deny { "Two elements have the same id, or one has two names, so that a reference means neither." }
        from "CycloneDX bom-ref; SPDX SPDXID" fix "make the SBOM again; documents that were joined need new ids"
    SbomCycleSelf "sbom-cycle-self" Deny { "A component depends on itself or contains itself." }
        from "docs/threat-model.md, SBOM" fix "remove the reference; it hides what the component really depends on"
    SbomHash "sbom-hash" Deny { "A digest is not hexadecimal or not as long as its algorithm makes it." }
        from "FIPS 180-4; FIPS 202" fix "make the SBOM again from the files themselves"
    SbomHashConflict "sbom-hash-conflict" Deny { "One package URL has two different digests of one algorithm." }
        from "docs/threat-model.md, SBOM" fix "find out which of the two was shipped; the other is another file"
    SbomUnbound "sbom-unbound" Deny { "The document does not describe the artifact: its root component has no SHA-256, SHA-384 or SHA-512 of it." }
        from "docs/threat-model.md, SBOM" fix "make the SBOM from the artifact itself, so that its digest stands on the described component"
    SbomTooFew "sbom-too-few" Deny { "The document has fewer distinct components than asked for; duplicates and variants of one package URL count once." }
        from "docs/reference/sbom.md" fix "make the SBOM again with a tool that sees the whole artifact"
    SbomInconsistent "sbom-inconsistent" Deny { "Two documents about one artifact disagree on a component, a digest or what they describe." }
        from "docs/threat-model.md, SBOM" fix "make both documents again in one run: debvisor sbom generate with two output formats"
    SbomQuality "sbom-quality" Deny { "The document's score is lower than asked for, or a profile's demand is not met." }
        from "docs/reference/sbom.md" fix "debvisor sbom score names the parts and the components that lack something"
    ImageDigest "image-digest" Deny { "A part of a container image is not what its digest, or the image's configuration, says." }
        from "OCI image specification 1.1, descriptor and DiffID" fix "fetch or export the image again; a part of it was exchanged"
    SbomUnsupported "sbom-unsupported" Deny { "The source holds something that would have to be read for a whole bill of materials, and cannot be." }
        from "docs/reference/sbom.md" fix "convert it to a form that docs/reference/sbom.md lists"
    SbomSourceMalformed "sbom-source-malformed" Deny { "A lock file, manifest or package database does not have the form that its name promises; a bill of materials without it would leave out what it lists." }
        from "docs/reference/sbom.md" fix "mend the file, or leave it out by name with --exclude"
    SbomTimestamp "sbom-timestamp" Deny { "The policy wants the time at which the SBOM was made." }
        from "NTIA minimum elements, timestamp" fix "make the SBOM again with a tool that writes the time"
    SbomAuthor "sbom-author" Deny { "The policy wants to know who or what made the SBOM." }
        from "NTIA minimum elements, author of SBOM data" fix "name the authors or the tools in the SBOM's metadata"
    SbomSubject "sbom-subject" Deny { "The policy wants the SBOM to say what it describes." }
        from "BSI TR-03183-2, primary component" fix "give the SBOM a root component"
    SbomComponentMissing "sbom-component-missing" Deny { "The policy wants components, and the SBOM has none." }
        from "NTIA minimum elements" fix "make the SBOM again with a tool that sees the whole artifact"
    SbomVersionMissing "sbom-version-missing" Deny { "A component has no version." }
        from "NTIA minimum elements, version of the component" fix "name the component's version, or its date of change"
    SbomIdentifierMissing "sbom-identifier-missing" Deny { "A component has no package URL, CPE or other identifier by which it could be looked up." }
        from "NTIA minimum elements, other unique identifiers" fix "give the component a package URL"
    SbomSupplierMissing "sbom-supplier-missing" Deny { "A component has no supplier, or a placeholder in its place." }
        from "NTIA minimum elements, supplier name" fix "name who supplies the component"
    SbomSupplierUnapproved "sbom-supplier-unapproved" Deny { "A component's supplier is not on the policy's list." }
        from "policies/sbom.rego" fix "add the supplier to the list once somebody has looked at them"
    SbomChecksumMissing "sbom-checksum-missing" Deny { "A component has no digest of a strong algorithm." }
        from "BSI TR-03183-2, hash value of the deployable component" fix "add the component's SHA-256 or SHA-512"
    SbomSourceMissing "sbom-source-missing" Deny { "A component does not say where it is downloaded from." }
        from "BSI TR-03183-2, URI of the deployable form" fix "add a distribution or vcs reference to the component"
    SbomPrerelease "sbom-prerelease" Deny { "A component is a snapshot or a pre-release." }
        from "policies/sbom.rego" fix "use a released version of the component"
    SbomDependenciesMissing "sbom-dependencies-missing" Deny { "The policy wants the dependency graph, and the SBOM has none." }
        from "NTIA minimum elements, dependency relationship" fix "make the SBOM again with a tool that writes dependencies"

    // Licences
    LicenseMissing "license-missing" Deny { "A component has no licence statement." }
        from "policies/licenses.rego" fix "find out the component's licence, or add an exception to the policy"
    LicenseUnknown "license-unknown" Deny { "A licence is not an SPDX expression of listed licences." }
        from "policies/licenses.rego" fix "write the licence as an SPDX expression, or allow its LicenseRef in the policy"
    LicenseProprietary "license-proprietary" Deny { "A licence says of itself that it is proprietary or commercial." }
        from "policies/licenses.rego" fix "make sure that there is a contract, then add an exception to the policy"
    LicenseDenied "license-denied" Deny { "Every way to fulfil a component's licence needs one that the policy denies." }
        from "policies/licenses.rego" fix "replace the component, or add an exception with its reason to the policy"
    LicenseNotAllowed "license-not-allowed" Deny { "No way to fulfil a component's licence needs only licences that the policy allows." }
        from "policies/licenses.rego" fix "add the licence to the policy's list once somebody has read it"

    // Admission
    TicketMissing "ticket-missing" Undecided { "The machine has no ticket: its server did not say that it may run here." }
        from "docs/adr/0005-tickets-and-permits.md" fix "let the server issue one; a node that cannot reach it runs what it has tickets for"
    TicketMalformed "ticket-malformed" Deny { "The ticket does not have the form of an admission statement, or its subjects are not its artifacts." }
        from "docs/reference/admission.md" fix "let the server issue it again"
    TicketUntrusted "ticket-untrusted" Deny { "The ticket is signed by no key that this node pins, or was changed." }
        from "docs/reference/admission.md" fix "pin the server's key on the node: ticket-keys in [admission]"
    TicketExpired "ticket-expired" Deny { "The ticket's time has passed, or it claims more time than this node grants." }
        from "docs/reference/admission.md" fix "let the server issue it again; max-validity in [admission] is the longest that is granted"
    TicketMismatch "ticket-mismatch" Deny { "The ticket is for another machine, node, artifact or policy than the one at hand." }
        from "docs/reference/admission.md" fix "let the server issue one for what the machine is made of now"
    TicketSuperseded "ticket-superseded" Deny { "The ticket is older than one that this node has seen for the machine." }
        from "docs/reference/admission.md" fix "use the latest ticket; an older one may permit what was taken away since"
    ImageUnadmitted "image-unadmitted" Deny { "The node has not itself allowed an artifact of the machine, here and now." }
        from "docs/adr/0005-tickets-and-permits.md" fix "see the reasons beside this one; debvisor admit IMAGE says the same before anything is started"
    SignerQuarantined "signer-quarantined" Deny { "Somebody who vouches for the artifact is in quarantine." }
        from "docs/how-to/admit.md" fix "have the artifact signed by somebody else; two people together can release the signer"
    PolicyQuarantined "policy-quarantined" Deny { "The policy that decided is in quarantine." }
        from "docs/how-to/admit.md" fix "decide again under another policy; two people together can release it"
    KindNotAdmitted "kind-not-admitted" Deny { "Nothing of this kind may go into a machine here." }
        from "policies/admission.rego" fix "add the kind to kinds in [admission] if machines here need it"
    BreakGlassInvalid "break-glass-invalid" Deny { "The override is malformed, or not signed by two of the people whom this node pins for it." }
        from "docs/adr/0005-tickets-and-permits.md" fix "have two people sign the same statement, each with a key named in [[admission.break-glass]]"
    BreakGlassExpired "break-glass-expired" Deny { "The override's time has passed, or it claims more time than this node grants." }
        from "docs/adr/0005-tickets-and-permits.md" fix "have two people sign a new one; break-glass-validity in [admission] is the longest that is granted"
    BreakGlassMismatch "break-glass-mismatch" Deny { "The override is for another machine or other artifacts." }
        from "docs/adr/0005-tickets-and-permits.md" fix "an override names its machine and each digest; have two people sign one for this case"
    CredentialMissing "credential-missing" Deny { "The request says nothing of who asks." }
        from "RFC 9110 section 15.5.2" fix "log in with debvisor login, or send an API key in Authorization: Bearer"
    CredentialMalformed "credential-malformed" Deny { "A key, a service or an identity is described in a way that is not possible here." }
        from "docs/how-to/keys.md" fix "mend what the message names and ask again"
    KeyMalformed "key-malformed" Deny { "What was sent begins as an API key and is none: a digit is missing or another one." }
        from "docs/how-to/keys.md" fix "send the key whole, as it was shown when it was made"
    KeyUnknown "key-unknown" Deny { "There is no such API key." }
        from "docs/how-to/keys.md" fix "make a key: debvisor token create"
    KeyRevoked "key-revoked" Deny { "The API key was revoked, or its owner may no longer log in." }
        from "docs/how-to/keys.md" fix "make a new key: debvisor token create"
    KeyExpired "key-expired" Deny { "The API key's time is over, or it was rotated and the overlap is over." }
        from "docs/how-to/keys.md" fix "use the key that took its place, or make a new one: debvisor token create"
    KeyAddress "key-address" Deny { "The API key may not be used from this address." }
        from "docs/how-to/keys.md" fix "use it from where it is meant for, or make a key for this address"
    KeyForKeys "key-for-keys" Deny { "An API key makes no other keys, and touches none but itself." }
        from "docs/how-to/keys.md" fix "log in as the key's owner, or let the key rotate or revoke itself"
    OidcUnreachable "oidc-unreachable" Undecided { "The OpenID provider does not answer, or says what makes no sense." }
        from "OpenID Connect Discovery 1.0" fix "try again later; check issuer in [[oidc]] and that the provider is up"
    OidcState "oidc-state" Deny { "A browser came back from an OpenID provider, or a program with a code, with no login of its own, with one that has ended, or too late." }
        from "RFC 9700 section 4.7" fix "begin the login again, in one browser, and finish it within ten minutes"
    OidcRefused "oidc-refused" Deny { "The OpenID provider said no: to the person, or to the code that the browser brought." }
        from "RFC 6749 sections 4.1.2.1 and 5.2" fix "begin the login again; where it fails again, look at the provider's log"
    OidcIssuer "oidc-issuer" Deny { "The answer or the ID token names another issuer than the one that is configured, byte by byte." }
        from "OpenID Connect Core 1.0 section 3.1.3.7; RFC 9207" fix "use a token of the configured issuer; compare it with issuer in [[oidc]], slash by slash"
    OidcAudience "oidc-audience" Deny { "The ID token was made for another party." }
        from "OpenID Connect Core 1.0 section 3.1.3.7" fix "ask the provider for a token for the client-id of [[oidc]]"
    OidcNonce "oidc-nonce" Deny { "The ID token was not made for this login." }
        from "OpenID Connect Core 1.0 section 3.1.3.7" fix "begin the login again"
    OidcTokenTime "oidc-token-time" Deny { "The ID token is not valid at this time, or is too old or too new to be believed." }
        from "OpenID Connect Core 1.0 section 3.1.3.7" fix "get a new token; check both clocks"
    OidcAlgorithm "oidc-algorithm" Deny { "The ID token is not signed with RS256 or ES256." }
        from "RFC 8725 section 3.1" fix "have the provider sign ID tokens for this client with RS256 or ES256"
    OidcKeyUnknown "oidc-key-unknown" Deny { "The ID token is signed with a key that the provider does not publish." }
        from "OpenID Connect Core 1.0 section 10.1.1" fix "get a new token from the provider itself"
    OidcSignature "oidc-signature" Deny { "The ID token's signature does not fit." }
        from "OpenID Connect Core 1.0 section 3.1.3.7" fix "get a new token from the provider itself"
    OidcTokenMalformed "oidc-token-malformed" Deny { "That is no ID token, or one that lacks what it must have." }
        from "OpenID Connect Core 1.0 section 2" fix "send the ID token itself, not the access token"
    OidcReplayed "oidc-replayed" Deny { "This ID token has opened a session already." }
        from "docs/how-to/keys.md" fix "get a new token from the provider"
    OidcDomain "oidc-domain" Deny { "The provider verified no e-mail address of a domain that is let in." }
        from "docs/how-to/keys.md" fix "use an account of your organisation, or add the domain to domains in [[oidc]]"
    OidcUserUnknown "oidc-user-unknown" Deny { "Nobody here is linked with this person of the OpenID provider." }
        from "docs/how-to/keys.md" fix "have an administrator link you: debvisor identity link"
    OidcUserName "oidc-user-name" Deny { "A user cannot be made of this person of the OpenID provider: the name is taken, or is none." }
        from "docs/how-to/keys.md" fix "have an administrator link you with your user: debvisor identity link"
    OidcRoleUnknown "oidc-role-unknown" Deny { "The OpenID provider gives this person a role that is not there." }
        from "docs/how-to/keys.md" fix "make the role: debvisor role create; or mend roles in [[oidc]]"
    ServiceUnknown "service-unknown" Deny { "No service is known by the certificate that was shown." }
        from "docs/how-to/keys.md" fix "register it: debvisor service create NAME --mark ..., with the mark that the message names"
    ServiceExpired "service-expired" Deny { "The certificate's own time is over, or has not come." }
        from "RFC 5280 section 4.1.2.5" fix "get the service a new certificate and connect anew"
    CredentialInvalid "credential-invalid" Deny { "What the request says of who asks is not known here, has ended, or was revoked." }
        from "RFC 6750 section 3.1; docs/how-to/users.md" fix "log in again with debvisor login, or make a new key"
    CsrfRefused "csrf-refused" Deny { "A request came with a browser's cookie, and from another site or without the session's token." }
        from "docs/how-to/users.md" fix "send x-csrf-token with the value that the login and GET /v1/session answer"
    LoginDelayed "login-delayed" Undecided { "There were too many logins; they are taken again after a while." }
        from "docs/how-to/users.md" fix "wait as long as Retry-After says; from an address where you logged in before nobody else can make you wait"
    LoginRefused "login-refused" Deny { "The name, the password or the code is wrong, or the user is kept out. Which of them is not told." }
        from "docs/how-to/users.md" fix "check the name and the password; an administrator sees more: debvisor user show"
    LoginRequired "login-required" Deny { "What is about a person takes that person, logged in, and no key, service or user of the host." }
        from "docs/how-to/users.md" fix "log in as the user whom it is about"
    PasswordChangeRequired "password-change-required" Deny { "The user has to choose another password before anything else." }
        from "docs/how-to/users.md" fix "choose one: PUT /v1/me/password"
    PasswordRefused "password-refused" Deny { "The password is too short, too long, the one that there is, or one that others would try." }
        from "NIST SP 800-63B section 3.1.1.2" fix "choose 12 to 128 characters that are nobody's first guess; four words will do"
    TooManyRequests "too-many-requests" Undecided { "There were more requests than one address or one user may send." }
        from "RFC 6585 section 4; docs/how-to/users.md" fix "wait as long as Retry-After says; RateLimit tells how many are left"
    TotpRequired "totp-required" Deny { "The password is right, and the user is asked for a one-time code as well." }
        from "docs/how-to/users.md" fix "send the code, or a recovery code, in the field code"
    UserNameMalformed "user-name-malformed" Deny { "A name is none that a user may have." }
        from "docs/how-to/users.md" fix "take 1 to 64 letters, digits and . _ - @ +, and begin with a letter or a digit"
    AccessDenied "access-denied" Deny { "Who asks may not do this here; nothing is allowed that no grant allows." }
        from "docs/how-to/access.md" fix "ask an administrator for a role that has the permission which the message names"
    AccessEscalation "access-escalation" Deny { "Whoever gives a role away must hold everything in it themselves, there, and without conditions." }
        from "docs/how-to/access.md" fix "leave out of the role what the message names, or ask somebody who holds it"
    AccessMalformed "access-malformed" Deny { "A tenant, project, role or grant is not of the form that it must have." }
        from "docs/how-to/access.md" fix "mend what the message names"
    QuotaExceeded "quota-exceeded" Deny { "The tenant or the project may not have so much." }
        from "docs/how-to/access.md" fix "remove machines, make them smaller, or ask whoever set the quota for more"
    SecondPersonRequired "second-person-required" Deny { "Whoever asks for an act that needs two people cannot approve it." }
        from "docs/how-to/admit.md" fix "let somebody else approve it"
    ProposalExpired "proposal-expired" Deny { "The act that was to be approved has no time left, or asks for more time than is granted." }
        from "docs/how-to/admit.md" fix "ask again, for a shorter time"

    // Registries
    RegistryUnreachable "registry-unreachable" Undecided { "The registry could not be reached, or failed." }
        from "OCI distribution specification 1.1" fix "check the address and the network; --registry-cacert names a private authority"
    RegistryRefused "registry-refused" Undecided { "The registry refused the credentials, or gave none access to this repository." }
        from "OCI distribution specification 1.1, authentication" fix "log in with docker login, or give --registry-username and --registry-password"
    ImageMissing "image-missing" Undecided { "The registry has no such repository, tag, manifest or blob." }
        from "OCI distribution specification 1.1, pull" fix "check the reference; a private registry hides what you may not read"
    RegistryDigest "registry-digest" Deny { "The registry gave other bytes than the digest names." }
        from "OCI image specification 1.1, descriptor" fix "do not use this registry until it is known why; fetch the image from another"
    ImageMalformed "image-malformed" Deny { "A manifest, an index or a list of referrers has not the form of its kind." }
        from "OCI image specification 1.1" fix "push the image or the attachment again with a current tool"
    SimpleSigningMalformed "simple-signing-malformed" Deny { "A cosign signature's payload, certificate or log entry has not its form." }
        from "cosign, SIGNATURE_SPEC.md" fix "sign the image again: debvisor sign oci://REF"

    // Decisions
    DecisionExpired "decision-expired" Deny { "The summary attestation's own time limit has passed." }
        from "SLSA verification summary; docs/how-to/decisions.md" fix "decide again and write a new one with --vsa-out"
    DecisionDenied "decision-denied" Deny { "The summary attestation records a no." }
        from "SLSA verification summary" fix "mend what the summary's own report names"
    DecisionPolicy "decision-policy" Deny { "The summary attestation was made under another policy than the one asked for." }
        from "SLSA verification summary" fix "decide again under the policy in force"

    // The interface of the control plane
    RequestMalformed "request-malformed" Deny { "A request to the control plane is not of the form that it must have." }
        from "docs/reference/api.md" fix "compare the request with the description of the interface"
    ImageNotByDigest "image-not-by-digest" Deny { "A container image is named by a tag, or by nothing that can be read; a tag may mean another image tomorrow." }
        from "docs/how-to/kubernetes.md" fix "name it as REGISTRY/REPOSITORY@sha256:HEX"
    RegistryNotAllowed "registry-not-allowed" Deny { "A container image is in a registry that the configuration does not name, and no other is asked." }
        from "docs/how-to/kubernetes.md" fix "name the registry in `allowed` of the table [registries]"
    AdmissionTimeout "admission-timeout" Undecided { "What speaks for a container image was not here before the answer had to be given." }
        from "docs/how-to/kubernetes.md" fix "see that the registry answers; raise the webhook's timeoutSeconds"
    WorkloadUnknown "workload-unknown" Deny { "Kubernetes asks about an object whose images are not known, or that names none where they must stand." }
        from "docs/how-to/kubernetes.md" fix "let the webhook's rules match pods and the kinds that have templates of pods"
    RequestTimeout "request-timeout" Undecided { "A request to the control plane took too long and was given up; whether it was done is not known." }
        from "docs/reference/api.md" fix "look at the state of what it was about, then ask again; a POST under its Idempotency-Key"
    ResourceUnknown "resource-unknown" Deny { "There is no machine, image, operation or other thing of this name." }
        from "RFC 9110 section 15.5.5" fix "list what there is: debvisor vm list, debvisor image list, debvisor project list, and so on"
    ResourceConflict "resource-conflict" Deny { "The request does not fit the state of what it is about." }
        from "RFC 9110 section 15.5.10" fix "look at its state first, then ask again"
    ResourceStale "resource-stale" Deny { "Somebody else changed it after it was read." }
        from "RFC 9110 section 13.1.1" fix "read it again, apply the change to what it is now, and send that"
    LiveConnections "live-connections" Undecided { "There are as many live connections as there may be, of this caller or of all." }
        from "docs/reference/limits.md" fix "close one that nobody looks at, or ask again later"
    CursorUnknown "cursor-unknown" Undecided { "The cursor is ahead of every event: it is of another log, or of one that was restored from a backup." }
        from "docs/how-to/remote.md" fix "read the state anew, and follow from now on: leave the cursor out"
    OriginForeign "origin-foreign" Deny { "A page of another site would open a live connection with the credentials of whoever looks at it." }
        from "RFC 6455 section 10.2" fix "open it from the server's own pages, or outside a browser with Authorization: Bearer"
    IdempotencyKeyReused "idempotency-key-reused" Deny { "An idempotency key was sent before with another request." }
        from "docs/reference/api.md" fix "choose a new key for each new request"

    // The audit log and the state
    AuditRecordMissing "audit-record-missing" Deny { "A record of the audit log is not there: it was deleted, or the log was cut off." }
        from "docs/how-to/audit.md" fix "keep the database as it is, find out who wrote to it, and compare it with the last backup"
    AuditRecordAltered "audit-record-altered" Deny { "A record of the audit log is not the one that was written." }
        from "docs/how-to/audit.md" fix "keep the database as it is, find out who wrote to it, and compare it with the last backup"
    AuditRecordReordered "audit-record-reordered" Deny { "A record of the audit log does not follow the one before it: one of them was exchanged, moved or put in." }
        from "docs/how-to/audit.md" fix "keep the database as it is, find out who wrote to it, and compare it with the last backup"
    AuditRewritten "audit-rewritten" Deny { "The records of the audit log agree with each other and not with a checkpoint that was signed: history was written anew." }
        from "docs/how-to/audit.md" fix "keep the database as it is, find out who wrote to it, and compare it with the last backup"
    AuditHashAltered "audit-hash-altered" Deny { "A hash that is kept over records of the audit log is not theirs, though the records are right: proofs that are made of it prove nothing." }
        from "docs/how-to/audit.md" fix "keep the database as it is, find out who wrote to it, and compare it with the last backup"
    AuditKeyMissing "audit-key-missing" Undecided { "Whether a checkpoint is the server's cannot be said without the key that its readers know it by." }
        from "docs/how-to/audit.md" fix "give --key with what `debvisor audit key` printed when the server was set up"
    AuditUnreadable "audit-unreadable" Deny { "An export of the audit log is not of the form that it must have." }
        from "docs/how-to/audit.md" fix "export it again: debvisor audit export"
    BackupMalformed "backup-malformed" Deny { "A backup is not of the form that it must have, or was cut off." }
        from "docs/how-to/backup.md" fix "use another backup"
    BackupDigest "backup-digest" Deny { "A file in a backup has other bytes than its manifest says." }
        from "docs/how-to/backup.md" fix "use another backup, and find out who changed this one"
    BackupKey "backup-key" Undecided { "None of the identities or the passphrase that were given opens the backup." }
        from "docs/how-to/backup.md" fix "give the identity of a recipient that it was made for: --identity FILE, or its passphrase"
    StateRestored "state-restored" Undecided { "The state was restored from a backup: whether another host still runs the machine is not known." }
        from "docs/how-to/backup.md" fix "see that no other host runs it, then start it: debvisor vm start"

    // Machines
    BootPermitMismatch "boot-permit-mismatch" Deny { "A permit is for another machine, node or path than the one that it was used for." }
        from "docs/adr/0010-qemu-driver.md" fix "ask for a permit for this machine, on this node, by this path"
    BootPermitExpired "boot-permit-expired" Deny { "A permit to boot has ended." }
        from "docs/adr/0010-qemu-driver.md" fix "ask for a permit again; the decision is made anew"
    BootUncovered "boot-uncovered" Deny { "An artifact would enter a machine that the permit does not cover." }
        from "docs/adr/0010-qemu-driver.md" fix "have the artifact decided about: debvisor admit"
    BootIncomplete "boot-incomplete" Deny { "What is at hand for a start is not what the machine's description names: something lacks, differs or is too much." }
        from "docs/adr/0010-qemu-driver.md" fix "import the artifact that the description names"
    BootUnsealed "boot-unsealed" Deny { "Code for a machine lies in memory that could still be changed." }
        from "docs/adr/0010-qemu-driver.md" fix "please report it; the node seals what it copies"
    MachineUnknown "machine-unknown" Deny { "The node has no such machine, or the machine no such snapshot or device." }
        from "docs/reference/machine.md" fix "list what there is: debvisor vm list"
    MachineState "machine-state" Deny { "The machine is in a state in which this cannot be done." }
        from "docs/reference/machine.md" fix "look at its state, and start, resume or stop it first"
    MachineMalformed "machine-malformed" Deny { "A machine's description is not of the form that it must have." }
        from "docs/reference/machine.md" fix "mend what the message names"
    MachineUnsupported "machine-unsupported" Deny { "This node lacks something that the machine needs." }
        from "docs/reference/machine.md" fix "install what the message names, or use another node"
    // Images of a node
    ImageUnknown "image-unknown" Undecided { "The node has no image with this digest." }
        from "docs/how-to/images.md" fix "import it: debvisor image import"
    ImageChanged "image-changed" Deny { "The bytes in the image store are not the ones that were imported." }
        from "docs/threat-model.md, images" fix "find out who wrote to the store; then delete the image and import it again from its source"
    ImageReceiptInvalid "image-receipt-invalid" Deny { "The node's own receipt for an image is missing, changed, forged, or another image's." }
        from "docs/threat-model.md, images" fix "find out who wrote to the store; then delete the image and import it again from its source"
    ImageQuarantined "image-quarantined" Deny { "The image is quarantined on this node; nothing starts from it." }
        from "docs/how-to/images.md" fix "debvisor image show says why; two people release it, or it is deleted"
    ImageInUse "image-in-use" Deny { "A machine reads from the image, so it cannot be deleted." }
        from "docs/how-to/images.md" fix "stop the machines that use it and delete it then"
    ImageKind "image-kind" Deny { "The image was imported as something else than it is asked for, or is not what it was imported as." }
        from "docs/how-to/images.md" fix "debvisor image show says what it is; delete it and import it as what it is"
    UploadUnknown "upload-unknown" Undecided { "There is no upload of this name, or it was given up." }
        from "docs/how-to/images.md" fix "begin the upload again"
    UploadOffset "upload-offset" Undecided { "The bytes do not continue where the upload stands." }
        from "docs/how-to/images.md" fix "ask how far the upload is and go on from there"
    StoreFull "store-full" Undecided { "The file system of the image store has no room for the image." }
        from "docs/how-to/images.md" fix "delete images that nothing uses, or give the store a larger file system"
    StoreFailed "store-failed" Undecided { "The image store could not be read or written." }
        from "docs/how-to/images.md" fix "check the store's folder, its owner and its disk, and run again"
    // Watching releases
    BaselineMissing "baseline-missing" Undecided { "Nobody has decided about this release before: there is nothing to compare it with." }
        from "docs/how-to/reverify.md" fix "look at the release, and record it: debvisor reverify --write-baseline"
    BaselineInvalid "baseline-invalid" Deny { "The baseline is damaged, forged, or signed by somebody else than --baseline-key names." }
        from "docs/how-to/reverify.md" fix "take the baseline from where it is kept under version control, and find out who changed it"
    AssetReplaced "asset-replaced" Deny { "A published file has other bytes than when it was decided about, whoever signed them." }
        from "docs/threat-model.md, reverify" fix "find out who replaced it; a published release never changes: publish a new one"
    AssetAdded "asset-added" Deny { "A published release has a file that it did not have when it was decided about." }
        from "docs/threat-model.md, reverify" fix "find out who added it; if it is honest, decide anew and write a new baseline"
    AssetGone "asset-gone" Deny { "A file of a published release is gone." }
        from "docs/threat-model.md, reverify" fix "find out who removed it, and publish it again from a copy with the same digest"
    ReleaseGone "release-gone" Deny { "A release that was decided about is no longer published." }
        from "docs/threat-model.md, reverify" fix "find out who withdrew it; if that is meant, take it out of the baseline"
    TagMoved "tag-moved" Deny { "A release's tag points to another commit than when it was decided about." }
        from "docs/threat-model.md, reverify" fix "point the tag back, and protect tags from being moved"
    AttestationLost "attestation-lost" Deny { "An attestation that a file had is no longer there, or no longer holds." }
        from "docs/threat-model.md, reverify" fix "publish the attestation again, or find out why it is gone"
    SignerChanged "signer-changed" Deny { "A file with the same bytes is signed by somebody else than before." }
        from "docs/threat-model.md, reverify" fix "find out who signed it anew; if that is meant, decide anew and write a new baseline"
    BuilderChanged "builder-changed" Deny { "The provenance of a file with the same bytes names another builder than before." }
        from "docs/threat-model.md, reverify" fix "find out who attested anew; the same bytes have one build"
    SbomChanged "sbom-changed" Deny { "A bill of materials names other components than when it was decided about." }
        from "docs/threat-model.md, reverify" fix "find out who replaced it; a corrected one belongs to a new release"
    AdvisoryPublished "advisory-published" Deny { "An advisory that was published since the decision concerns a component of the release." }
        from "OSV schema, evaluation" fix "say in the release's VEX document what it means, or publish a release with the fixed component"
    AdvisoryUnjudged "advisory-unjudged" Undecided { "An advisory names a component of the release, and its versions have no order that is known here." }
        from "OSV schema, evaluation" fix "look at the advisory by hand, and say in the release's VEX document what it means"
    AdvisoryMalformed "advisory-malformed" Undecided { "A file of the advisory export is no advisory; without it nobody knows what it would have said." }
        from "OSV schema; RustSec advisory format" fix "export the database again"
    RateLimited "rate-limited" Undecided { "The service allows no more requests for now." }
        from "docs.github.com, rate limits" fix "run again later, or give a token: GITHUB_TOKEN"

    // Workflows, and what a release consists of
    ActionUnpinned "action-unpinned" Deny { "A workflow runs an action that is not named by a full commit, or an image that is not named by its digest." }
        from "docs/how-to/actions.md" fix "name the action by its full commit, with the version as a comment; the image by its digest"
    ActionComment "action-comment" Deny { "The comment beside an action's commit names no version, or another one than the commit has." }
        from "docs/how-to/actions.md" fix "write the version that the commit has behind it: # v1.2.3"
    ActionOutdated "action-outdated" Deny { "An action is pinned to an older version than the table knows." }
        from "docs/how-to/actions.md" fix "read what has changed in the action and pin the newer commit"
    WorkflowMalformed "workflow-malformed" Deny { "A file is neither a workflow nor the description of an action." }
        from "docs.github.com, workflow syntax and metadata syntax" fix "mend the file; actionlint tells more about it"
    ComponentMissing "component-missing" Deny { "A release has fewer files of a name than its manifest asks for." }
        from "docs/how-to/components.md" fix "build and add what is missing, or mend the manifest"
    ComponentExtra "component-extra" Deny { "A release has a file that its manifest does not name, or more of a name than it allows." }
        from "docs/how-to/components.md" fix "take it out of the release, or name it in the manifest"
    ComponentEmpty "component-empty" Deny { "A file of a release has no content." }
        from "docs/how-to/components.md" fix "find out why the build made an empty file"
    ComponentTooLarge "component-too-large" Deny { "A file of a release is larger than its manifest allows." }
        from "docs/how-to/components.md" fix "find out what made it grow, or raise max-bytes in the manifest"
    ComponentKind "component-kind" Deny { "A file of a release is of another kind than its manifest says." }
        from "docs/how-to/components.md" fix "look at what the build put there in its place"

    // Ours
    InternalError "internal-error" Undecided { "DebVisor itself failed; the answer is unknown and therefore not yes." }
        from "docs/ARCHITECTURE.md" fix "please report it with the message"
}

impl Code {
    /// The stable kebab-case name.
    pub const fn name(self) -> &'static str {
        self.info().name
    }

    /// The code with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }
}
