//! Values in, DER out. Written by hand and without a schema, because a forger must be able to write what
//! no honest library would: extra bytes, repeated extensions, empty lists. It never reads DER.

use jiff::Timestamp;

pub(crate) const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
pub(crate) const P256: &str = "1.2.840.10045.3.1.7";
pub(crate) const P384: &str = "1.3.132.0.34";
pub(crate) const ED25519: &str = "1.3.101.112";
pub(crate) const RSA_SHA256: &str = "1.2.840.113549.1.1.11";
pub(crate) const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";
pub(crate) const ECDSA_SHA384: &str = "1.2.840.10045.4.3.3";
pub(crate) const SHA256: &str = "2.16.840.1.101.3.4.2.1";

/// One value: tag, length, content.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        length @ 0..=0x7f => out.push(narrow(length)),
        length => {
            let bytes = length.to_be_bytes();
            let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
            out.push(0x80 | narrow(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
    out.extend_from_slice(content);
    out
}

fn narrow(length: usize) -> u8 {
    u8::try_from(length).unwrap()
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// A SET OF: DER wants its members in the order of their encodings.
pub(crate) fn set_of(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x31, &sorted(parts))
}

/// The members of a SET OF, for those that are tagged implicitly.
pub(crate) fn sorted(parts: &[&[u8]]) -> Vec<u8> {
    let mut parts = parts.to_vec();
    parts.sort_unstable();
    parts.concat()
}

/// A constructed value under a context-specific tag.
pub(crate) fn context(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0xa0 | number, content)
}

/// A primitive value under a context-specific tag.
pub(crate) fn context_primitive(number: u8, content: &[u8]) -> Vec<u8> {
    tlv(0x80 | number, content)
}

pub(crate) fn oid(dotted: &str) -> Vec<u8> {
    tlv(0x06, const_oid::ObjectIdentifier::new(dotted).unwrap().as_bytes())
}

/// An unsigned integer from its big-endian bytes.
pub(crate) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len() - 1)..];
    let sign: &[u8] = if bytes[0] & 0x80 == 0 { &[] } else { &[0] };
    tlv(0x02, &[sign, bytes].concat())
}

pub(crate) fn boolean(value: bool) -> Vec<u8> {
    tlv(0x01, &[if value { 0xff } else { 0 }])
}

pub(crate) fn null() -> Vec<u8> {
    tlv(0x05, &[])
}

pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[0], bytes].concat())
}

/// A bit string of flags, with its unused bits counted as DER demands.
pub(crate) fn flags(byte: u8) -> Vec<u8> {
    tlv(0x03, &[u8::try_from(byte.trailing_zeros()).unwrap(), byte])
}

pub(crate) fn octet_string(bytes: &[u8]) -> Vec<u8> {
    tlv(0x04, bytes)
}

pub(crate) fn utf8_string(text: &str) -> Vec<u8> {
    tlv(0x0c, text.as_bytes())
}

/// A time as RFC 5280 wants it: UTCTime through 2049, GeneralizedTime from then on.
pub(crate) fn time(at: Timestamp) -> Vec<u8> {
    let year: i32 = at.strftime("%Y").to_string().parse().unwrap();
    if year < 2050 { tlv(0x17, at.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()) } else { generalized_time(at) }
}

pub(crate) fn generalized_time(at: Timestamp) -> Vec<u8> {
    tlv(0x18, at.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes())
}

/// A distinguished name with an organization and a common name.
pub(crate) fn name(organization: &str, common_name: &str) -> Vec<u8> {
    let attribute = |kind: &str, value: &str| set_of(&[&sequence(&[&oid(kind), &utf8_string(value)])]);
    sequence(&[&attribute("2.5.4.10", organization), &attribute("2.5.4.3", common_name)])
}

/// One X.509 extension.
pub(crate) fn extension(kind: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { boolean(true) } else { Vec::new() };
    sequence(&[&oid(kind), &critical, &octet_string(value)])
}
