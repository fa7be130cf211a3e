//! The seeds of the fuzz targets, made by our own generators. Each is a sound document of its kind, which its parser
//! must accept: a target whose seeds are refused at the door would fuzz nothing but the door.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use debvisor::release::attest::key::{PrivateKey, generate};
use debvisor::release::evidence::archive::{Limits, check};
use debvisor::release::evidence::bundle::{Bundle, LogEntry, parse_file};
use debvisor::release::evidence::certificate::Certificate;
use debvisor::release::evidence::checkpoint::Checkpoint;
use debvisor::release::evidence::checksums::ChecksumList;
use debvisor::release::evidence::document::{Document, Kind as DocumentKind};
use debvisor::release::evidence::key::PublicKey;
use debvisor::release::evidence::log_entry::LoggedBody;
use debvisor::release::evidence::merkle::{leaf_hash, node_hash, proof_file};
use debvisor::release::evidence::openpgp::{DetachedSignatures, Keyring};
use debvisor::release::evidence::statement::Statement;
use debvisor::release::evidence::timestamp::SignedTimestamp;
use debvisor::release::evidence::{bundle, json};
use debvisor::release::policy::PolicySet;
use debvisor::release::trust::bundle::{Contents, Item, SCHEMA, SignedBundle, Signers, read_installed};
use debvisor::release::trust::embedded_tuf_root;
use debvisor::release::trust::root::TrustRoot;
use debvisor::release::trust::tuf::check_bootstrap;
use sequoia_openpgp::cert::CertBuilder;
use sequoia_openpgp::serialize::SerializeInto as _;
use serde_json::json;

use crate::archive::make::{TarMember, ZipMember, gzip, pax_records, tar, zip, zstd};
use crate::world::{Identity, Key, Kind, Version, World, private_blob, statement};

/// Target to seeds. Every one of them was accepted.
fn seeds() -> BTreeMap<&'static str, Vec<Vec<u8>>> {
    let mut seeds = BTreeMap::new();
    let bundles = bundles();
    check_bootstrap(embedded_tuf_root()).unwrap();
    let mut certificates = Vec::new();
    let mut checkpoints = Vec::new();
    let mut bodies = Vec::new();
    let mut timestamps = Vec::new();
    let mut statements = Vec::new();
    for bytes in &bundles {
        let Bundle { material, entries, timestamps: stamps, content, .. } = Bundle::parse(bytes).unwrap();
        if let bundle::Material::Certificate { leaf, .. } = material {
            Certificate::parse(&leaf).unwrap();
            certificates.push(leaf);
        }
        for entry in entries {
            if let Some(text) = entry.proof.as_ref().and_then(|proof| proof.checkpoint.clone()) {
                Checkpoint::parse(&text).unwrap();
                checkpoints.push(text.into_bytes());
            }
            bodies.push(log_entry_seed(&entry));
        }
        for stamp in stamps {
            SignedTimestamp::parse(&stamp).unwrap();
            timestamps.push(stamp);
        }
        if let bundle::Content::Envelope(envelope) = content {
            Statement::parse(&envelope.payload).unwrap();
            statements.push(envelope.payload);
        }
    }
    let roots = trust_roots();
    let questions = bundles.iter().flat_map(|bundle| roots.iter().map(|root| [root, bundle.as_slice()].join(&0)));
    seeds.insert("verify", questions.collect());
    let lines = bundles.join(&b'\n');
    assert_eq!(parse_file(&lines).unwrap().len(), bundles.len());
    seeds.insert("json", bundles.clone());
    seeds.insert("bundle", [bundles, vec![lines]].concat());
    seeds.insert("certificate", certificates);
    seeds.insert("checkpoint", checkpoints);
    seeds.insert("log_entry", bodies);
    seeds.insert("timestamp", timestamps);
    seeds.insert("statement", statements);
    seeds.insert("archive", archives());
    seeds.insert("archive_tar", vec![every_kind_of_tar_member()]);
    seeds.insert("checksum_list", checksum_lists());
    seeds.insert("merkle", vec![merkle()]);
    seeds.insert("proof_file", proof_files());
    seeds.insert("trust_root", roots);
    let (public, private) = keys();
    seeds.insert("public_key", public);
    seeds.insert("private_key", private);
    let (signatures, keyrings) = openpgp();
    seeds.insert("openpgp_signature", signatures);
    seeds.insert("openpgp_keyring", keyrings);
    seeds.insert("policy_source", policy_sources());
    seeds.insert("policy_input", policy_inputs());
    seeds.insert("disk", crate::disk::seeds());
    seeds.insert("document", documents());
    seeds.insert("manifest", manifests());
    seeds.insert("sbom", crate::sbom::seeds());
    seeds.insert("image", crate::registry::manifests());
    seeds.insert("simple_signing", crate::registry::simple_signing());
    seeds.insert("sbom_source", crate::sbom::source_seeds());
    seeds.insert("trust_bundle", trust_bundles());
    seeds.insert("tuf_root", vec![embedded_tuf_root().to_vec()]);
    seeds
}

#[test]
fn fuzz_seeds_are_accepted_by_their_parsers() {
    let seeds = seeds();
    let targets = include_str!("../../fuzz/Cargo.toml")
        .split("[[bin]]")
        .skip(1)
        .map(|bin| bin.split('"').nth(1).unwrap())
        .collect::<Vec<_>>();
    assert_eq!(seeds.keys().copied().collect::<Vec<_>>(), targets, "each target has seeds, and each seed a target");
    assert!(seeds.values().all(|seeds| !seeds.is_empty()));

    #[expect(clippy::disallowed_methods, reason = "a switch of the tests, not of the program")]
    let Some(corpus) = std::env::var_os("DEBVISOR_FUZZ_SEEDS").map(PathBuf::from) else { return };
    for (target, seeds) in seeds {
        let dir = corpus.join(target);
        std::fs::create_dir_all(&dir).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(dir.join(format!("seed-{number:02}")), seed).unwrap();
        }
    }
}

fn bundles() -> Vec<Vec<u8>> {
    let world = World::shared();
    let artifact = b"artifact";
    let identity = Identity::github("owner/repository", "release.yml", "refs/tags/v1.0.0");
    let email = Identity::email("someone@example.com", "https://accounts.example.com");
    let slsa = statement::slsa_v1(artifact, &identity);
    let older_slsa = statement::slsa_v02(artifact, &identity);
    let keys = [Key::p256(), Key::p384(), Key::ed25519()];
    let mut bundles = vec![
        world.blob(artifact, &identity).bundle(),
        world.blob(artifact, &email).stamped(world).bundle(),
        world.blob(artifact, &identity).rekor2(world).bundle(),
        world.blob(artifact, &identity).with(|draft| draft.version = Version::V01).bundle(),
        world.blob(artifact, &identity).with(|draft| draft.version = Version::V02).bundle(),
        world.attest(&slsa, &identity).bundle(),
        world.attest(&older_slsa, &identity).rekor2(world).bundle(),
        private_blob(world, artifact, &identity).bundle(),
    ];
    bundles.extend(keys.iter().map(|key| world.key_blob(artifact, key).bundle()));
    for kind in [Kind::Intoto001, Kind::Intoto002] {
        bundles.push(world.attest(&slsa, &identity).entry(|entry| entry.kind = kind).bundle());
    }
    bundles.iter().map(|bundle| serde_json::to_vec(bundle).unwrap()).collect()
}

/// The target's first byte chooses the kind.
fn log_entry_seed(entry: &LogEntry) -> Vec<u8> {
    LoggedBody::parse(entry).unwrap();
    let kinds = ["hashedrekord", "dsse", "intoto"];
    let kind = kinds.iter().position(|kind| *kind == entry.kind).unwrap() * 2;
    let choice = kind + usize::from(entry.version == "0.0.2");
    [&[u8::try_from(choice).unwrap()], entry.body.as_slice()].concat()
}

fn archives() -> Vec<Vec<u8>> {
    let plain = tar(&[
        TarMember::directory("d/"),
        TarMember::file("d/a", b"content"),
        TarMember::symbolic_link("d/l", "a"),
        TarMember::hard_link("h", "d/a"),
    ]);
    let zipped = zip(&[
        ZipMember::stored("d/", b"").mode(0o04_0755),
        ZipMember::deflated("d/a", b"content, content, content"),
        ZipMember::stored("d/b", b"content").streamed(),
        ZipMember::stored("d/l", b"a").mode(0o12_0777),
    ]);
    let archives = vec![gzip(&plain), zstd(&plain), zipped, every_kind_of_tar_member(), plain];
    for archive in &archives {
        check(std::io::Cursor::new(archive), &Limits::default()).unwrap();
    }
    archives
}

fn every_kind_of_tar_member() -> Vec<u8> {
    let number = |n: u64| format!("{n:011o}\0").into_bytes();
    let long = |kind, text: &[u8]| TarMember::new(kind, "././@LongLink", text).gnu();
    let sparse = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "sparse"),
        ("GNU.sparse.realsize", "4099"),
    ];
    let mut map = b"1\n4096\n3\n".to_vec();
    map.resize(512, 0);
    map.extend_from_slice(b"abc");
    tar(&[
        TarMember::new(b'g', "pax_global_header", &pax_records(&[("comment", "a commit")])),
        TarMember::pax(&[("path", "d/pax"), ("size", "7"), ("mtime", "1.5")]),
        TarMember::file("cut", b"content"),
        long(b'L', b"d/long\0"),
        long(b'K', b"pax\0"),
        TarMember::symbolic_link("cut", "cut").gnu(),
        TarMember::pax(&sparse),
        TarMember::file("GNUSparseFile.0/sparse", &map),
        TarMember::new(b'S', "old-sparse", b"abc")
            .gnu()
            .field(386, &number(4096))
            .field(398, &number(3))
            .field(410, &number(5000))
            .field(422, &number(0))
            .field(483, &number(5000)),
        TarMember::file("old", b"content").field(257, &[0; 8]).field(156, b"\0"),
    ])
}

fn checksum_lists() -> Vec<Vec<u8>> {
    let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let lists = [
        format!("# sums\n{hex}  a\n{hex} *./d/b\r\n\\{hex}  new\\nline\\\\x\n\n"),
        format!("SHA256 (a) = {hex}\nSHA512 (a) = {hex}{hex}\n"),
    ];
    for list in &lists {
        ChecksumList::parse(list.as_bytes(), "checksums.txt").unwrap();
    }
    lists.map(String::into_bytes).to_vec()
}

/// Index 2 in a tree of 3, as the target reads it.
fn merkle() -> Vec<u8> {
    let [a, b, c] = [b"a", b"b", b"c"].map(|leaf| leaf_hash(leaf));
    [&2_u64.to_le_bytes(), &3_u64.to_le_bytes(), c.as_slice(), &node_hash(&a, &b)].concat()
}

fn proof_files() -> Vec<Vec<u8>> {
    let [a, b, c] = [b"a", b"b", b"c"].map(|leaf| leaf_hash(leaf));
    let left = node_hash(&a, &b);
    let root = node_hash(&left, &c);
    let [a, b, c, left, root] = [a, b, c, left, root].map(|hash| BASE64.encode(hash));
    let inclusion = json!({"leafIdx": 0, "treeSize": 3, "root": root, "leafHash": a, "proof": [b, c]}).to_string();
    let consistency = json!({"size1": 2, "size2": 3, "root1": left, "root2": root, "proof": [c]}).to_string();
    proof_file::check_inclusion(inclusion.as_bytes()).unwrap();
    proof_file::check_consistency(consistency.as_bytes()).unwrap();
    vec![inclusion.into_bytes(), consistency.into_bytes()]
}

fn trust_roots() -> Vec<Vec<u8>> {
    let world = World::shared();
    let roots = [world.trusted_root(), world.private_root()].map(|root| serde_json::to_vec(&root).unwrap());
    for root in &roots {
        TrustRoot::parse(root).unwrap();
    }
    roots.to_vec()
}

fn keys() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut public = Vec::new();
    for key in [Key::p256(), Key::p384(), Key::ed25519(), Key::rsa()] {
        PublicKey::from_spki(key.spki()).unwrap();
        PublicKey::from_pem(key.pem().as_bytes()).unwrap();
        public.extend([key.spki().to_vec(), key.pem().into_bytes()]);
    }
    // Under a password that the target does not try: deriving a key takes most of a second.
    let sealed = generate(b"a password").unwrap();
    PrivateKey::load(sealed.private_pem.as_bytes(), Some(b"a password")).unwrap();
    let plain = aws_lc_rs::signature::EcdsaKeyPair::generate_pkcs8(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1_SIGNING,
        &aws_lc_rs::rand::SystemRandom::new(),
    )
    .unwrap();
    PrivateKey::from_pkcs8(plain.as_ref()).unwrap();
    let pem = pem_rfc7468::encode_string("PRIVATE KEY", pem_rfc7468::LineEnding::LF, plain.as_ref()).unwrap();
    PrivateKey::load(pem.as_bytes(), None).unwrap();
    let cheap = sealed.private_pem.to_string().into_bytes();
    (public, vec![plain.as_ref().to_vec(), pem.into_bytes(), cheap])
}

fn openpgp() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (cert, revocation) = CertBuilder::new()
        .add_userid("Someone <someone@example.com>")
        .add_signing_subkey()
        .add_transport_encryption_subkey()
        .generate()
        .unwrap();
    let key = cert.primary_key().key().clone().parts_into_secret().unwrap();
    let mut signer = key.into_keypair().unwrap();
    let signature =
        sequoia_openpgp::packet::signature::SignatureBuilder::new(sequoia_openpgp::types::SignatureType::Binary)
            .sign_message(&mut signer, b"artifact")
            .unwrap();
    let binary = sequoia_openpgp::Packet::from(signature).to_vec().unwrap();
    let armored = armor(sequoia_openpgp::armor::Kind::Signature, &binary);
    let public = cert.strip_secret_key_material();
    let revoked = public.clone().insert_packets(revocation).unwrap().0;
    let keyrings = vec![public.to_vec().unwrap(), public.armored().to_vec().unwrap(), revoked.to_vec().unwrap()];
    for keyring in &keyrings {
        Keyring::parse(keyring).unwrap();
    }
    let signatures = vec![binary, armored];
    for signature in &signatures {
        DetachedSignatures::parse(signature).unwrap();
    }
    (signatures, keyrings)
}

fn armor(kind: sequoia_openpgp::armor::Kind, bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut writer = sequoia_openpgp::armor::Writer::new(Vec::new(), kind).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finalize().unwrap()
}

fn documents() -> Vec<Vec<u8>> {
    let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let sboms = [
        json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "metadata": {"component": {"type": "file", "name": "a",
            "hashes": [{"alg": "SHA-256", "content": hex}, {"alg": "SHA-1", "content": "00"}]}}}),
        json!({"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "documentDescribes": ["SPDXRef-a"],
            "packages": [{"SPDXID": "SPDXRef-a", "name": "a", "checksums": [{"algorithm": "SHA256", "checksumValue": hex}]}],
            "relationships": [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
                "relatedSpdxElement": "SPDXRef-a"}]}),
    ];
    let vex = json!({"@context": "https://openvex.dev/ns/v0.2.0", "@id": "a", "author": "a", "version": 1,
        "timestamp": "2026-01-01T00:00:00Z", "statements": [{"vulnerability": {"name": "CVE-2026-0001"},
            "products": [{"@id": "pkg:generic/a", "hashes": {"sha-256": hex}}], "status": "fixed"}]});
    let sboms = sboms.map(|document| document.to_string().into_bytes());
    for sbom in &sboms {
        Document::parse(DocumentKind::Sbom, sbom).unwrap();
    }
    let vex = vex.to_string().into_bytes();
    Document::parse(DocumentKind::Vex, &vex).unwrap();
    [sboms.to_vec(), vec![vex]].concat()
}

fn manifests() -> Vec<Vec<u8>> {
    let digest = json!({"sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"});
    let manifest = json!({"schema": debvisor::release::evidence::manifest::SCHEMA, "name": "a", "version": "1",
        "sealed_at": "2026-01-01T00:00:00Z", "tool": "debvisor/0", "files": [
            {"name": "a", "role": "artifact", "bytes": 0, "digest": digest, "origin": "given",
                "sealed_at": "2026-01-01T00:00:00Z"},
            {"name": "a.cdx.json", "role": "sbom", "about": "a", "bytes": 0, "digest": digest, "origin": "made"}]});
    let bytes = manifest.to_string().into_bytes();
    debvisor::release::evidence::manifest::Manifest::parse(&bytes).unwrap();
    vec![bytes]
}

fn trust_bundles() -> Vec<Vec<u8>> {
    let [key, managed] = [Key::p256(), Key::p256()];
    let item = |name: &str, content: &[u8]| Item { name: name.to_owned(), content: content.to_vec() };
    let mut bundle = SignedBundle::new(Contents {
        schema: SCHEMA,
        version: 7,
        created_at: "2026-01-01T00:00:00Z".parse().unwrap(),
        expires_at: "2036-01-01T00:00:00Z".parse().unwrap(),
        signers: None,
        roots: vec![item("world", &trust_roots()[1])],
        policies: Vec::new(),
        keys: vec![item("managed", managed.pem().as_bytes())],
        openpgp_keyrings: Vec::new(),
        revocations: Vec::new(),
    })
    .unwrap();
    let public = PublicKey::from_spki(key.spki()).unwrap();
    bundle.add_signature(&public, key.sign(&bundle.message())).unwrap();
    let travelling = bundle.to_json().unwrap();
    let signers = Signers::new(1, vec![public]).unwrap();
    let verified = bundle.verify(&signers, None, "2026-02-01T00:00:00Z".parse().unwrap()).unwrap();
    let installed = verified.to_installed().unwrap();
    read_installed(&installed).unwrap();
    vec![travelling, installed]
}

fn policy_sources() -> Vec<Vec<u8>> {
    let policies = [
        "package main\n\nimport rego.v1\n\ndeny contains msg if {\n  input.subject.name == \"a\"\n  msg := sprintf(\"no %v\", [input.subject.name])\n}\n",
        "package main\n\ndeny[msg] {\n  some i\n  input.facts.list[i] > 3\n  msg = \"too many\"\n}\n",
        "package main\n\nimport rego.v1\n\ndefault allow := false\n\nallow if count([x | some x in object.keys(input)]) == 3\n\nwarn contains {\"msg\": \"w\", \"code\": \"a-code\"} if regex.match(\"^a+$\", input.subject.name)\n",
    ];
    for policy in policies {
        PolicySet::from_sources("seed", vec![("policy.rego".to_owned(), policy.to_owned())]).unwrap();
    }
    policies.map(|policy| policy.as_bytes().to_vec()).to_vec()
}

fn policy_inputs() -> Vec<Vec<u8>> {
    let input = json!({
        "subject": {"name": "a", "digest": {"sha256": "00"}},
        "expected": {"certificate_identity": null, "require": ["signature"], "openpgp": false, "key": false},
        "facts": {"signer": {"identity": "a", "issuer": "b"}, "signatures": [], "attestations": [], "provenance": null},
        "trust_root": {"digest": "sha256:00", "age_days": 3},
        "now": "2026-01-01T00:00:00Z",
    })
    .to_string();
    json::parse_value(input.as_bytes()).unwrap();
    vec![input.into_bytes()]
}
