//! Archives written byte by byte, so that any one of them can be wrong.

use std::io::Write as _;

/// A member of a tar archive before its checksum is made.
#[derive(Clone)]
pub(crate) struct TarMember {
    pub(crate) header: [u8; 512],
    pub(crate) content: Vec<u8>,
}

impl TarMember {
    pub(crate) fn new(kind: u8, name: &str, content: &[u8]) -> Self {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[136..148].copy_from_slice(b"00000000000\0");
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        Self { header, content: content.to_vec() }.size(content.len() as u64)
    }

    pub(crate) fn file(name: &str, content: &[u8]) -> Self {
        Self::new(b'0', name, content)
    }

    pub(crate) fn directory(name: &str) -> Self {
        Self::new(b'5', name, b"")
    }

    pub(crate) fn symbolic_link(name: &str, target: &str) -> Self {
        Self::new(b'2', name, b"").field(157, target.as_bytes())
    }

    pub(crate) fn hard_link(name: &str, target: &str) -> Self {
        Self::new(b'1', name, b"").field(157, target.as_bytes())
    }

    /// A pax header for the next member.
    pub(crate) fn pax(records: &[(&str, &str)]) -> Self {
        Self::new(b'x', "pax", &pax_records(records))
    }

    pub(crate) fn field(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.header[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn size(self, size: u64) -> Self {
        self.field(124, format!("{size:011o}\0").as_bytes())
    }

    pub(crate) fn gnu(self) -> Self {
        self.field(257, b"ustar  \0")
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut header = self.header;
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut bytes = [&header, self.content.as_slice()].concat();
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

pub(crate) fn pax_records(records: &[(&str, &str)]) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length += 1;
        }
        content.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
    }
    content
}

pub(crate) fn tar(members: &[TarMember]) -> Vec<u8> {
    let mut bytes: Vec<u8> = members.iter().flat_map(TarMember::bytes).collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// A member of a zip archive, with what its local header shall say where that is something else.
#[derive(Clone)]
pub(crate) struct ZipMember {
    pub(crate) name: Vec<u8>,
    pub(crate) local_name: Option<Vec<u8>>,
    /// As it is stored.
    pub(crate) data: Vec<u8>,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    pub(crate) crc: u32,
    pub(crate) size: u32,
    pub(crate) local_size: Option<u32>,
    pub(crate) mode: u32,
    pub(crate) extra: Vec<u8>,
    /// Behind the data: a descriptor, or what should not be there.
    pub(crate) behind: Vec<u8>,
}

impl ZipMember {
    pub(crate) fn stored(name: &str, content: &[u8]) -> Self {
        let mut crc = flate2::Crc::new();
        crc.update(content);
        Self {
            name: name.as_bytes().to_vec(),
            local_name: None,
            data: content.to_vec(),
            method: 0,
            flags: 0,
            crc: crc.sum(),
            size: u32::try_from(content.len()).unwrap(),
            local_size: None,
            mode: 0o10_0644,
            extra: Vec::new(),
            behind: Vec::new(),
        }
    }

    pub(crate) fn deflated(name: &str, content: &[u8]) -> Self {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).unwrap();
        Self { data: encoder.finish().unwrap(), method: 8, ..Self::stored(name, content) }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(crate) fn mode(self, mode: u32) -> Self {
        self.with(|member| member.mode = mode)
    }

    /// Measured behind the data instead of in front of it.
    pub(crate) fn streamed(self) -> Self {
        self.with(|member| {
            member.flags |= 1 << 3;
            member.behind = [
                b"PK\x07\x08".as_slice(),
                &member.crc.to_le_bytes(),
                &u32::try_from(member.data.len()).unwrap().to_le_bytes(),
                &member.size.to_le_bytes(),
            ]
            .concat();
        })
    }
}

fn numbers(parts: &[(u64, usize)]) -> Vec<u8> {
    parts.iter().flat_map(|(number, width)| number.to_le_bytes()[..*width].to_vec()).collect()
}

pub(crate) fn zip(members: &[ZipMember]) -> Vec<u8> {
    zip_with(members, b"", |_| ())
}

/// `edit` changes the end record's fields: disk, directory's disk, entries here, entries, size, offset.
pub(crate) fn zip_with(members: &[ZipMember], comment: &[u8], edit: impl FnOnce(&mut [u64; 6])) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut directory = Vec::new();
    for member in members {
        let offset = bytes.len() as u64;
        let is_streamed = member.flags & 8 != 0;
        let measure = |value: u32| if is_streamed { 0 } else { u64::from(value) };
        let compressed = u32::try_from(member.data.len()).unwrap();
        let local_name = member.local_name.as_ref().unwrap_or(&member.name);
        bytes.extend(b"PK\x03\x04");
        bytes.extend(numbers(&[
            (20, 2),
            (member.flags.into(), 2),
            (member.method.into(), 2),
            (0x5821_0000, 4),
            (measure(member.crc), 4),
            (measure(compressed), 4),
            (measure(member.local_size.unwrap_or(member.size)), 4),
            (local_name.len() as u64, 2),
            (member.extra.len() as u64, 2),
        ]));
        bytes.extend(local_name);
        bytes.extend(&member.extra);
        bytes.extend(&member.data);
        bytes.extend(&member.behind);

        directory.extend(b"PK\x01\x02");
        directory.extend(numbers(&[
            (0x0314, 2),
            (20, 2),
            (member.flags.into(), 2),
            (member.method.into(), 2),
            (0x5821_0000, 4),
            (member.crc.into(), 4),
            (compressed.into(), 4),
            (member.size.into(), 4),
            (member.name.len() as u64, 2),
            (member.extra.len() as u64, 2),
            (0, 2),
            (0, 2),
            (0, 2),
            (u64::from(member.mode) << 16, 4),
            (offset, 4),
        ]));
        directory.extend(&member.name);
        directory.extend(&member.extra);
    }
    let count = members.len() as u64;
    let mut end = [0, 0, count, count, directory.len() as u64, bytes.len() as u64];
    edit(&mut end);
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06");
    let widths = [2, 2, 2, 2, 4, 4];
    bytes.extend(numbers(&end.into_iter().zip(widths).collect::<Vec<_>>()));
    bytes.extend(numbers(&[(comment.len() as u64, 2)]));
    bytes.extend(comment);
    bytes
}
