//! Programs that tell what they are made of: small ELF files that are made here.

use std::io::Write as _;

use serde_json::json;

use super::{Sources, set};

/// An ELF file for x86-64 with these sections, each loaded at its own address.
fn elf(sections: &[(&str, u64, Vec<u8>)]) -> Vec<u8> {
    let mut names = vec![0];
    let mut data: Vec<u8> = Vec::new();
    let mut headers = vec![[0_u64; 6]];
    let mut segments = Vec::new();
    let header_bytes = 64 + 56 * sections.len();
    for (name, address, content) in sections {
        let at = (header_bytes + data.len()) as u64;
        headers.push([names.len() as u64, 1, *address, at, content.len() as u64, 0]);
        segments.push((at, *address, content.len() as u64));
        names.extend(name.as_bytes());
        names.push(0);
        data.extend(content);
    }
    headers.push([names.len() as u64, 3, 0, (header_bytes + data.len()) as u64, 0, 0]);
    names.extend(b".shstrtab\0");
    headers.last_mut().unwrap()[4] = names.len() as u64;
    data.extend(&names);
    let table = (header_bytes + data.len()) as u64;

    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(2_u16.to_le_bytes());
    file.extend(62_u16.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for number in [0, 64, table] {
        file.extend(number.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for number in [64, 56, sections.len(), 64, headers.len(), headers.len() - 1] {
        file.extend(u16::try_from(number).unwrap().to_le_bytes());
    }
    for (at, address, length) in segments {
        file.extend(1_u32.to_le_bytes());
        file.extend(4_u32.to_le_bytes());
        for number in [at, address, address, length, length, 1] {
            file.extend(number.to_le_bytes());
        }
    }
    file.extend(data);
    for [name, kind, address, at, length, _] in headers {
        for number in [name, kind] {
            file.extend(u32::try_from(number).unwrap().to_le_bytes());
        }
        for number in [2, address, at, length, 0, 16, 0] {
            file.extend(number.to_le_bytes());
        }
    }
    file
}

const MODULES: &str = "path\texample.com/tool/cmd\nmod\texample.com/tool\t(devel)\t\ndep\tgithub.com/a/b\tv1.0.0\th1:aa=\ndep\tc.example/d\tv2.0.0\n=>\te.example/f\tv3.0.0\th1:bb=\nbuild\tvcs.revision=0123\n";

fn framed() -> Vec<u8> {
    [&[1; 16], MODULES.as_bytes(), &[2; 16]].concat()
}

/// As Go writes it since 1.18: both strings behind the header.
pub(super) fn go_program() -> Vec<u8> {
    let mut info = b"\xff Go buildinf:\x08\x02".to_vec();
    info.resize(32, 0);
    for text in [b"go1.22.1".to_vec(), framed()] {
        let length = text.len();
        info.extend([u8::try_from(length % 0x80).unwrap() | 0x80, u8::try_from(length / 0x80).unwrap()]);
        info.extend(text);
    }
    elf(&[(".go.buildinfo", 0x1000, info)])
}

/// As Go wrote it before: two addresses of strings.
fn older_go_program() -> Vec<u8> {
    let mut info = b"\xff Go buildinf:\x08\x00".to_vec();
    info.extend(0x2000_u64.to_le_bytes());
    info.extend(0x2010_u64.to_le_bytes());
    let mut data = Vec::new();
    let (go, modules) = (b"go1.16.3".to_vec(), framed());
    for (address, length) in [(0x2020_u64, go.len()), (0x2020 + go.len() as u64, modules.len())] {
        data.extend(address.to_le_bytes());
        data.extend((length as u64).to_le_bytes());
    }
    data.extend(go);
    data.extend(modules);
    elf(&[(".go.buildinfo", 0x1000, info), (".data", 0x2000, data)])
}

fn audited(json: &serde_json::Value) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(json.to_string().as_bytes()).unwrap();
    elf(&[(".dep-v0", 0, encoder.finish().unwrap())])
}

fn program(bytes: &[u8]) -> Sources {
    use std::os::unix::fs::PermissionsExt as _;
    let sources = Sources::new(&[]);
    sources.put("source/program", bytes);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(sources.path("source/program"), mode).unwrap();
    sources
}

#[test]
fn a_go_program_of_either_generation_tells_its_modules_and_its_toolchain() {
    for (bytes, release) in [(go_program(), "1.22.1"), (older_go_program(), "1.16.3")] {
        let sources = program(&bytes);
        for source in ["source", "source/program"] {
            let bill = sources.bill_of(source, &["--source-name", "x"]);
            let stdlib = format!("pkg:golang/stdlib@{release}");
            let expected = [
                "pkg:golang/e.example/f@v3.0.0",
                "pkg:golang/example.com/tool",
                "pkg:golang/github.com/a/b@v1.0.0",
                &stdlib,
            ];
            assert_eq!(bill.listed(), expected.iter().map(|purl| format!("{purl} -")).collect());
            assert!(bill.edges().contains(&format!("pkg:golang/example.com/tool -> {stdlib}")));
            assert!(bill.edges().contains("x -> pkg:golang/example.com/tool"));
        }
    }
}

#[test]
fn a_rust_program_tells_what_cargo_auditable_wrote_into_it() {
    let told = json!({"packages": [
        {"name": "app", "version": "0.1.0", "source": "local", "dependencies": [1, 2], "root": true},
        {"name": "serde", "version": "1.0.0", "source": "crates.io"},
        {"name": "cc", "version": "1.1.0", "source": "crates.io", "kind": "build", "dependencies": [1]},
    ]});
    let bill = program(&audited(&told)).bill_of("source/program", &[]);
    assert_eq!(
        bill.listed(),
        set(&["pkg:cargo/app@0.1.0 -", "pkg:cargo/cc@1.1.0 excluded", "pkg:cargo/serde@1.0.0 required"])
    );
    assert_eq!(
        bill.edges(),
        set(&[
            "pkg:cargo/app@0.1.0 -> pkg:cargo/cc@1.1.0",
            "pkg:cargo/app@0.1.0 -> pkg:cargo/serde@1.0.0",
            "pkg:cargo/cc@1.1.0 -> pkg:cargo/serde@1.0.0",
            "program -> pkg:cargo/app@0.1.0"
        ])
    );
    assert_eq!(bill.described()["hashes"].as_array().unwrap().len(), 2);
}

#[test]
fn what_a_program_tells_is_all_of_it_or_a_reason() {
    let nowhere = json!({"packages": [{"name": "app", "version": "1.0.0", "source": "local", "dependencies": [7]}]});
    let mut cut = go_program();
    let at = cut.windows(8).position(|window| window == b"go1.22.1").unwrap();
    cut[at - 2..at].copy_from_slice(&[0xff, 0x7f]);
    for bytes in [audited(&nowhere), elf(&[(".dep-v0", 0, b"no zlib".to_vec())]), cut] {
        assert_eq!(program(&bytes).refused(&[]), ["sbom-source-malformed"]);
    }
    // A program that tells nothing is no reason.
    assert!(program(&elf(&[(".text", 0x1000, vec![0; 300])])).bill(&[]).components().is_empty());
}
