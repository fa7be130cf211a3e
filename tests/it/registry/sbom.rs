//! The bill of materials of an image in a registry, by the real binary.

use debvisor::release::evidence::sbom::{compare, read};

use super::docker::Docker;
use super::push_image;
use crate::archive::make::{TarMember, tar};
use crate::signing::Desk;

#[test]
fn an_image_in_a_registry_is_what_its_layers_hold_in_both_formats() {
    let registry = Docker::plain();
    let stanza = b"Package: base\nVersion: 1.0-1\nArchitecture: amd64\n";
    let layer = tar(&[
        TarMember::file("etc/os-release", b"ID=debian\nVERSION_ID=12\n"),
        TarMember::file("var/lib/dpkg/status.d/base", stanza),
    ]);
    let digest = push_image(&registry.host, "v1", &layer);
    let desk = Desk::new();
    let image = format!("oci://{}/a:v1", registry.host);
    let generate = |name: &str| {
        let outputs = [format!("cyclonedx-json={name}.cdx.json"), format!("spdx-json={name}.spdx.json")];
        let arguments = ["sbom", "generate", &image, "-o", &outputs[0], "-o", &outputs[1]];
        desk.run_with(&arguments, &[("SOURCE_DATE_EPOCH", "1700000000")]).succeeds();
        outputs.map(|output| std::fs::read(desk.path(output.split_once('=').unwrap().1)).unwrap())
    };
    let [cyclonedx, spdx] = generate("one");
    assert_eq!([cyclonedx.as_slice(), &spdx], generate("two").each_ref().map(Vec::as_slice), "the same bytes");
    let documents = [cyclonedx, spdx].map(|bytes| read(&bytes).unwrap());
    for document in &documents {
        assert!(document.findings.errors.is_empty(), "{:?}", document.findings.errors);
        let described = &document.sbom.described[0];
        assert_eq!(
            (described.name.as_str(), described.version.as_deref()),
            (&*format!("{}/a", registry.host), Some("v1"))
        );
        assert_eq!(format!("sha256:{}", described.hashes[0].value), digest);
        let purls: Vec<&str> = document.sbom.components.iter().filter_map(|one| one.purl.as_deref()).collect();
        assert_eq!(purls, ["pkg:deb/debian/base@1.0-1?arch=amd64&distro=debian-12"]);
    }
    assert!(compare::compare(&documents[0].sbom, &documents[1].sbom).reasons.is_empty());
    let missing = format!("oci://{}/a:v2", registry.host);
    let ran = desk.run_with(&["sbom", "generate", &missing], &[]);
    assert_eq!(ran.exit, 2);
    assert!(format!("{}{}", ran.stdout, ran.stderr).contains("image-missing"));
}
