//! Documents made by code: sound ones that a test then breaks in one place.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

/// The digest of the component of this name, in hex.
pub(super) fn sha256(name: &str) -> String {
    debvisor::types::Digest::sha256(name.as_bytes()).to_hex()
}

/// The names and versions that every document below has.
pub(super) const COMPONENTS: [(&str, &str); 5] =
    [("serde", "1.0.0"), ("tokio", "1.1.0"), ("rustls", "1.2.0"), ("ring", "1.3.0"), ("time", "1.4.0")];

/// A CycloneDX component.
pub(super) fn component(name: &str, version: &str) -> Value {
    let purl = format!("pkg:cargo/{name}@{version}");
    json!({
        "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
        "hashes": [{ "alg": "SHA-256", "content": sha256(&format!("{name}-{version}")) }],
        "licenses": [{ "expression": "MIT OR Apache-2.0" }],
        "supplier": { "name": "The developers" },
        "externalReferences": [{ "type": "vcs", "url": format!("https://git.example/{name}") }],
    })
}

/// A CycloneDX 1.6 document with five components and a graph, about an artifact with these bytes.
pub(super) fn cyclonedx(artifact: &[u8]) -> Value {
    let components: Vec<Value> = COMPONENTS.iter().map(|(name, version)| component(name, version)).collect();
    let refs: Vec<Value> = components.iter().map(|component| component["bom-ref"].clone()).collect();
    let mut dependencies = vec![json!({ "ref": "root", "dependsOn": refs })];
    dependencies.extend(components.iter().map(|component| json!({ "ref": component["bom-ref"] })));
    json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "serialNumber": "urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79",
        "metadata": {
            "timestamp": "2026-01-02T03:04:05Z",
            "authors": [{ "name": "Release team", "email": "release@acme.example" }],
            "component": {
                "type": "application", "bom-ref": "root", "name": "hyperdeck", "version": "1.4.2",
                "purl": "pkg:generic/hyperdeck@1.4.2",
                "supplier": { "name": "Acme" },
                "licenses": [{ "license": { "id": "Apache-2.0" } }],
                "hashes": [{ "alg": "SHA-256", "content": debvisor::types::Digest::sha256(artifact).to_hex() }],
            },
        },
        "components": components,
        "dependencies": dependencies,
    })
}

/// An SPDX 2.3 package.
pub(super) fn package(name: &str, version: &str) -> Value {
    json!({
        "SPDXID": format!("SPDXRef-{name}"), "name": name, "versionInfo": version,
        "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
        "licenseDeclared": "MIT OR Apache-2.0", "licenseConcluded": "NOASSERTION", "copyrightText": "NOASSERTION",
        "supplier": "Organization: The developers",
        "externalRefs": [{
            "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
            "referenceLocator": format!("pkg:cargo/{name}@{version}"),
        }],
        "checksums": [{ "algorithm": "SHA256", "checksumValue": sha256(&format!("{name}-{version}")) }],
    })
}

/// The same content as [`cyclonedx`], as SPDX 2.3.
pub(super) fn spdx(artifact: &[u8]) -> Value {
    let mut root = package("hyperdeck", "1.4.2");
    root["SPDXID"] = json!("SPDXRef-root");
    root["externalRefs"] = json!([]);
    root["checksums"][0]["checksumValue"] = json!(debvisor::types::Digest::sha256(artifact).to_hex());
    let mut packages = vec![root];
    packages.extend(COMPONENTS.iter().map(|(name, version)| package(name, version)));
    let mut relationships = vec![relationship("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-root")];
    relationships.extend(
        COMPONENTS.iter().map(|(name, _)| relationship("SPDXRef-root", "DEPENDS_ON", &format!("SPDXRef-{name}"))),
    );
    json!({
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": "hyperdeck",
        "documentNamespace": "https://acme.example/sbom/hyperdeck-1.4.2",
        "creationInfo": { "created": "2026-01-02T03:04:05Z", "creators": ["Tool: maker-1", "Organization: Acme"] },
        "packages": packages,
        "relationships": relationships,
    })
}

/// An SPDX 2.3 relationship.
pub(super) fn relationship(from: &str, kind: &str, to: &str) -> Value {
    json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to })
}

/// The same content again, as SPDX 3.0.1.
pub(super) fn spdx3(artifact: &[u8]) -> Value {
    let iri = |name: &str| format!("https://acme.example/sbom/{name}");
    let hash = |value: String| json!([{ "type": "Hash", "algorithm": "sha256", "hashValue": value }]);
    let info = "_:creation";
    let mut graph = vec![
        json!({ "@id": info, "type": "CreationInfo", "specVersion": "3.0.1", "created": "2026-01-02T03:04:05Z",
                "createdBy": [iri("acme")] }),
        json!({ "spdxId": iri("acme"), "type": "Organization", "name": "Acme", "creationInfo": info }),
        json!({ "spdxId": iri("document"), "type": "SpdxDocument", "name": "hyperdeck", "creationInfo": info,
                "rootElement": [iri("sbom")] }),
        json!({ "spdxId": iri("sbom"), "type": "software_Sbom", "creationInfo": info, "rootElement": [iri("root")] }),
        json!({ "spdxId": iri("root"), "type": "software_Package", "name": "hyperdeck", "creationInfo": info,
                "software_packageVersion": "1.4.2",
                "verifiedUsing": hash(debvisor::types::Digest::sha256(artifact).to_hex()) }),
        json!({ "spdxId": iri("license"), "type": "simplelicensing_LicenseExpression", "creationInfo": info,
                "simplelicensing_licenseExpression": "MIT OR Apache-2.0" }),
    ];
    for (name, version) in COMPONENTS {
        graph.push(json!({
            "spdxId": iri(name), "type": "software_Package", "name": name, "creationInfo": info,
            "software_packageVersion": version, "software_packageUrl": format!("pkg:cargo/{name}@{version}"),
            "verifiedUsing": hash(sha256(&format!("{name}-{version}"))),
        }));
        graph.push(json!({
            "spdxId": iri(&format!("{name}-license")), "type": "Relationship", "creationInfo": info,
            "relationshipType": "hasDeclaredLicense", "from": iri(name), "to": [iri("license")],
        }));
    }
    graph.push(json!({
        "spdxId": iri("depends"), "type": "Relationship", "creationInfo": info, "relationshipType": "dependsOn",
        "from": iri("root"), "to": COMPONENTS.map(|(name, _)| iri(name)),
    }));
    json!({ "@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld", "@graph": graph })
}

/// A folder with files, and the binary to run in it.
pub(super) struct Desk {
    dir: tempfile::TempDir,
}

/// How a run of the binary ended.
pub(super) struct Run {
    pub(super) exit: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// Puts a document down; its path.
    pub(super) fn put(&self, name: &str, document: &Value) -> PathBuf {
        self.bytes(name, document.to_string().as_bytes())
    }

    /// Puts bytes down; their path.
    pub(super) fn bytes(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs `debvisor sbom …` with names of this folder.
    pub(super) fn run(&self, args: &[&str]) -> Run {
        let run = Command::new(env!("CARGO_BIN_EXE_debvisor"))
            .arg("sbom")
            .args(args)
            .current_dir(self.dir.path())
            .env("XDG_CONFIG_HOME", self.dir.path().join("config"))
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Run { exit: run.status.code().unwrap(), stdout: text(run.stdout), stderr: text(run.stderr) }
    }
}

impl Run {
    /// The report in JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", self.stdout, self.stderr))
    }

    /// The codes of the reasons, in order and once.
    pub(super) fn codes(&self) -> Vec<String> {
        let mut codes: Vec<String> = self.json()["reasons"]
            .as_array()
            .unwrap()
            .iter()
            .map(|reason| reason["code"].as_str().unwrap().to_owned())
            .collect();
        codes.sort();
        codes.dedup();
        codes
    }
}

/// Validates one document through the binary.
pub(super) fn validate(document: &Value, more: &[&str]) -> Run {
    let desk = Desk::new();
    desk.put("sbom.json", document);
    let mut args = vec!["validate", "sbom.json", "--format", "json"];
    args.extend(more);
    desk.run(&args)
}

/// Asserts that a document is refused for exactly these reasons.
pub(super) fn refused(document: &Value, more: &[&str], codes: &[&str]) {
    let run = validate(document, more);
    assert_eq!((run.exit, run.codes()), (1, codes.iter().map(|code| (*code).to_owned()).collect()), "{}", run.stdout);
}

/// Asserts that a document is accepted; its warnings' codes.
pub(super) fn accepted(document: &Value, more: &[&str]) -> Vec<String> {
    let run = validate(document, more);
    assert_eq!((run.exit, run.codes().len()), (0, 0), "{}", run.stdout);
    let report = run.json();
    let warnings = report["warnings"].as_array().map_or(&[][..], Vec::as_slice);
    warnings.iter().map(|warning| warning["code"].as_str().unwrap().to_owned()).collect()
}
