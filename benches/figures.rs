//! The part of `make bench` that must be in process: makes the inputs, and times what no program can be asked for.
//! A subcommand in, one JSON document out; `scripts/bench.py` drives it and writes docs/BENCHMARKS.md.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a measurement that cannot go on says so by panicking, as a test does"
)]

#[path = "../tests/it/world/mod.rs"]
#[expect(unused, reason = "the bench makes honest bundles only, and the world can do more")]
mod world;

mod fleet;
mod machine;
mod writes;

use std::fs;
use std::path::Path;
use std::time::Instant;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ParsedPublicKey, VerificationAlgorithm};
use debvisor::node::images::{Expected, ImageRecord, ImageStore, SocketAt};
use debvisor::node::key::NodeKey;
use debvisor::release::artifact::{Hasher, Sink as _};
use debvisor::types::DigestAlgorithm;
use debvisor::types::vm::ArtifactKind;
use rayon::prelude::*;
use serde_json::{Value, json};

use world::{Identity, Key, World};

/// As in the program that is measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let answer = match words.as_slice() {
        ["prepare", directory, count] => prepare(Path::new(directory), count.parse().unwrap()),
        ["signatures", count] => signatures(count.parse().unwrap()),
        ["hash", mebibytes] => hash(mebibytes.parse().unwrap()),
        ["images-import", image, folder] => images_import(Path::new(image), Path::new(folder)),
        ["images-serve", image, folder] => return images_serve(Path::new(image), Path::new(folder)),
        ["machine", kernel, initrd, rounds] => {
            machine::machine(Path::new(kernel), Path::new(initrd), rounds.parse().unwrap())
        }
        ["writes", database, clients, seconds] => {
            writes::writes(Path::new(database), clients.parse().unwrap(), seconds.parse().unwrap())
        }
        ["fleet", folder, nodes] => fleet::fleet(Path::new(folder), nodes.parse().unwrap()),
        // `cargo test --benches` runs every bench once, to see that it runs.
        _ => json!({ "signatures": signatures(2), "hash": hash(1) }),
    };
    println!("{answer}");
}

/// Writes a trust root, `count` artifacts and a bundle for each: a keyless signature, certified by a P-384 authority,
/// logged by Rekor v1 with a signed entry timestamp, an inclusion proof and a checkpoint of its own.
fn prepare(directory: &Path, count: usize) -> Value {
    let world = World::shared();
    let identity = Identity::github("acme/hyperdeck", "release.yml", "refs/tags/v1.4.2");
    fs::create_dir_all(directory).unwrap();
    let root = world.trusted_root();
    fs::write(directory.join("trusted_root.json"), root.to_string()).unwrap();
    // sigstore-python takes a trust root only inside a client's whole configuration.
    let configuration = json!({
        "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
        "trustedRoot": root,
        "signingConfig": {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": [], "oidcUrls": [], "rekorTlogUrls": [], "tsaUrls": [],
            "rekorTlogConfig": { "selector": "ANY" }, "tsaConfig": { "selector": "ANY" },
        },
    });
    fs::write(directory.join("trust_config.json"), configuration.to_string()).unwrap();
    let bundles: Vec<Value> = (0..count)
        .into_par_iter()
        .map(|number| {
            let artifact = format!("artifact {number} of a batch\n").repeat(64);
            // Each stands in a log of another size, so that no two checkpoints are the same.
            let draft = world
                .blob(artifact.as_bytes(), &identity)
                .entry(|entry| (entry.index, entry.tree_size) = (number as u64, 4_096 + number as u64));
            let bundle = draft.bundle();
            fs::write(directory.join(format!("{number}.bin")), artifact).unwrap();
            fs::write(directory.join(format!("{number}.sigstore.json")), bundle.to_string()).unwrap();
            bundle
        })
        .collect();
    let lines: Vec<String> = bundles.iter().map(Value::to_string).collect();
    fs::write(directory.join("all.sigstore.jsonl"), lines.join("\n") + "\n").unwrap();
    json!({ "identity": identity.text(), "issuer": world::ca::GITHUB_ISSUER, "count": count })
}

/// Times the bare signature checks of `count` such bundles and nothing else: no parsing, no proofs, no policy.
/// Each bundle has five: its certificate (P-384), its SCT, entry timestamp, checkpoint and content (P-256).
fn signatures(count: usize) -> Value {
    let (authority, ct, rekor) = (Key::p384(), Key::p256(), Key::p256());
    let checks: Vec<[Check; 5]> = (0..count)
        .into_par_iter()
        .map(|number| {
            let leaf = Key::p256();
            let message =
                |length: usize| -> Vec<u8> { number.to_le_bytes().iter().copied().cycle().take(length).collect() };
            [
                Check::new(&authority, &ECDSA_P384_SHA384_ASN1, message(700)),
                Check::new(&ct, &ECDSA_P256_SHA256_ASN1, message(650)),
                Check::new(&rekor, &ECDSA_P256_SHA256_ASN1, message(1_600)),
                Check::new(&rekor, &ECDSA_P256_SHA256_ASN1, message(100)),
                Check::new(&leaf, &ECDSA_P256_SHA256_ASN1, message(1_800)),
            ]
        })
        .collect();
    let mut one_core = Vec::new();
    let mut all_cores = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        checks.iter().flatten().for_each(Check::verify);
        one_core.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        checks.par_iter().flatten().for_each(Check::verify);
        all_cores.push(start.elapsed().as_secs_f64());
    }
    json!({
        "bundles": count,
        "checks": count * 5,
        "one_core_seconds": median(one_core),
        "all_cores_seconds": median(all_cores),
        "threads": rayon::current_num_threads(),
    })
}

/// One signature that is known to be good, with its key ready for use.
struct Check {
    key: ParsedPublicKey,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Check {
    fn new(key: &Key, algorithm: &'static dyn VerificationAlgorithm, message: Vec<u8>) -> Self {
        let signature = key.sign(&message);
        Self { key: ParsedPublicKey::new(algorithm, key.spki()).unwrap(), message, signature }
    }

    fn verify(&self) {
        self.key.verify_sig(&self.message, &self.signature).unwrap();
    }
}

/// Times the library's SHA-256 over memory, in chunks as files are read.
fn hash(mebibytes: usize) -> Value {
    const CHUNK_BYTES: usize = 1024 * 1024;
    let chunk: Vec<u8> = (0..CHUNK_BYTES).map(|at| at.wrapping_mul(31) as u8).collect();
    let run = || {
        let mut hasher = Hasher::new(&[DigestAlgorithm::Sha256]);
        (0..mebibytes).for_each(|_| hasher.update(&chunk));
        hasher.finish()
    };
    let cores = rayon::current_num_threads();
    let gigabytes = (mebibytes * CHUNK_BYTES) as f64 / 1e9;
    let mut one_core = Vec::new();
    let mut all_cores = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        std::hint::black_box(run());
        one_core.push(gigabytes / start.elapsed().as_secs_f64());
        let start = Instant::now();
        (0..cores).into_par_iter().for_each(|_| drop(std::hint::black_box(run())));
        all_cores.push(gigabytes * cores as f64 / start.elapsed().as_secs_f64());
    }
    json!({ "one_core_gb_per_second": median(one_core), "all_cores_gb_per_second": median(all_cores), "threads": cores })
}

/// Times one import into a new store below `folder`, the bytes on the disk when it ends.
fn images_import(image: &Path, folder: &Path) -> Value {
    let (store, record, seconds) = imported(image, folder);
    store.delete(&record.digest).unwrap();
    json!({ "seconds": seconds, "bytes": record.bytes, "digest": record.digest })
}

/// Serves an image at `folder/socket`, says so in one line, and ends when its standard input does.
fn images_serve(image: &Path, folder: &Path) {
    let (store, record, _) = imported(image, folder);
    let (alarms, _listening) = tokio::sync::mpsc::channel(16);
    let at = SocketAt { path: folder.join("socket"), owner: None };
    let server = store.serve(&record.digest, &record.tree_root, &at, alarms).unwrap();
    println!("{}", json!({ "socket": server.socket(), "bytes": record.bytes }));
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    drop(server);
    store.delete(&record.digest).unwrap();
}

fn imported(image: &Path, folder: &Path) -> (ImageStore, ImageRecord, f64) {
    let store = ImageStore::open(&folder.join("images"), NodeKey::ephemeral().unwrap()).unwrap();
    let file = fs::File::open(image).unwrap();
    let bytes = file.metadata().unwrap().len();
    let said = Expected { kind: ArtifactKind::Disk, name: "bench".to_owned(), digest: None, bytes: Some(bytes) };
    let start = Instant::now();
    let record = store.import(file, said, jiff::Timestamp::UNIX_EPOCH, &|_| ()).unwrap().record;
    let seconds = start.elapsed().as_secs_f64();
    (store, record, seconds)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
