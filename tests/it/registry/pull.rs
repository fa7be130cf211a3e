//! Images on their way to disk: every blob with its digest, in as many parts as the connection breaks into.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use debvisor::clients::registry::{Reference, RegistryError, Repository};
use debvisor::release::collect::image::{self, Image, Pulled};
use debvisor::types::{Digest, Reason};
use serde_json::Value;

use super::docker::Docker;
use super::standin::{Flaw, StandIn};
use super::{push_image, push_index, repository, wait};

async fn resolved(host: &str, repository: &Repository) -> Image {
    let reference: Reference = format!("{host}/a:v1").parse().unwrap();
    image::resolve(repository, &reference, "a").await.unwrap()
}

fn pull(host: &str, platform: &str, dir: &std::path::Path) -> Result<Pulled, Reason> {
    wait(async {
        let repository = repository(host).await;
        let image = resolved(host, &repository).await;
        image::pull(&repository, &image, platform, dir).await
    })
}

#[test]
fn a_platform_of_an_index_becomes_a_layout_and_the_second_pull_is_free() {
    let registry = Docker::plain();
    push_index(&registry.host, "v1");
    let dir = tempfile::tempdir().unwrap();
    let pulled = pull(&registry.host, "linux/arm64", dir.path()).unwrap();
    let [(kind, layer)] = pulled.layers.as_slice() else { panic!("{pulled:?}") };
    assert_eq!(
        (kind.as_str(), fs::read(layer).unwrap().as_slice()),
        ("application/vnd.oci.image.layer.v1.tar", &b"arm64"[..])
    );
    let index: Value = serde_json::from_slice(&fs::read(dir.path().join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], format!("{}/a:v1", registry.host));
    let manifest = index["manifests"][0]["digest"].as_str().unwrap();
    assert_eq!(manifest, pulled.manifest.to_string());
    let bytes = fs::read(dir.path().join("blobs").join(manifest.replace(':', "/"))).unwrap();
    assert_eq!(Digest::sha256(&bytes), pulled.manifest);
    assert!(dir.path().join("oci-layout").is_file());
    assert!(pulled.bytes > 0);
    assert_eq!(pull(&registry.host, "linux/arm64", dir.path()).unwrap().bytes, 0);
    // What was damaged on disk since is fetched again.
    fs::write(layer, b"damaged").unwrap();
    assert_eq!(pull(&registry.host, "linux/arm64", dir.path()).unwrap().bytes, 5);
    let refused = pull(&registry.host, "linux/s390x", dir.path()).unwrap_err();
    assert_eq!(refused.code.as_str(), "image-missing", "{refused}");
}

/// A registry whose connections break after so many bytes of a blob; the ranges that it was asked for.
fn breaking(layer: Vec<u8>, after: usize) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let ranges = Arc::<Mutex<Vec<String>>>::default();
    let asked = Arc::clone(&ranges);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let lines: Vec<String> =
                reader.by_ref().lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            // What is no request is the attempt at TLS.
            let Some(path) = lines.first().and_then(|line| line.split(' ').nth(1)) else { continue };
            let range =
                lines.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
            let from = range.map_or(0, |range| {
                asked.lock().unwrap().push(range.clone());
                range.trim_end_matches('-').parse::<usize>().unwrap()
            });
            let rest = if path == "/v2/" { &[][..] } else { &layer[from..] };
            let (status, length) = (if from > 0 { 206 } else { 200 }, rest.len());
            let head = format!(
                "HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nContent-Range: bytes {from}-\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&rest[..length.min(after)]));
        }
    });
    (host, ranges)
}

#[test]
fn a_layer_goes_on_where_its_connection_broke() {
    let layer: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
    let (host, ranges) = breaking(layer.clone(), 600_000);
    let digest = Digest::sha256(&layer);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("layer");
    let came = wait(async { repository(&host).await.download(&digest, 1_000_000, &path).await.unwrap() });
    assert_eq!((came, fs::read(&path).unwrap()), (1_000_000, layer.clone()));
    assert_eq!(ranges.lock().unwrap().as_slice(), ["600000-"]);
    // So does a second run.
    let second = dir.path().join("second");
    fs::write(dir.path().join("second.part"), &layer[..999_000]).unwrap();
    let came = wait(async { repository(&host).await.download(&digest, 1_000_000, &second).await.unwrap() });
    assert_eq!((came, fs::read(&second).unwrap()), (1_000, layer));
}

#[test]
fn other_bytes_never_come_into_a_layers_place() {
    let registry = StandIn::new(&[]);
    push_image(&registry.host, "v1", b"layer");
    let digest = Digest::sha256(b"layer");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("layer");
    let download = |size| wait(async { repository(&registry.host).await.download(&digest, size, &path).await });
    registry.flaw(Flaw::Gives(digest.to_string(), b"LAYER".to_vec()));
    assert!(matches!(download(5), Err(RegistryError::OtherDigest { .. })));
    assert!(matches!(download(4), Err(RegistryError::TooLarge { .. })), "longer than it was said to be");
    assert!(!path.exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing but the part that is not finished");
    fs::remove_file(dir.path().join("layer.part")).unwrap();
    let reason = pull(&registry.host, "linux/amd64", dir.path()).unwrap_err();
    assert_eq!(reason.code.as_str(), "registry-digest");
    assert!(matches!(download(u64::MAX), Err(RegistryError::TooLarge { .. })));
}
