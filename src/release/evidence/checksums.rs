//! Checksum lists: the bytes of one in, its entries out, or every line that is not one; and entries in, a list out.
//!
//! GNU lines (`<hex>  name`, `<hex> *name`), BSD lines (`SHA256 (name) = <hex>`), escaped names, CRLF, comments and
//! blank lines are read. Nothing is skipped in silence: what is none of these refuses the whole list.
//! Invariant: no I/O. Names never leave the directory that they are later looked up in.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::release::artifact::Artifact;
use crate::types::{Code, Digest, DigestAlgorithm, DigestError, Reason, limits};

/// What is put behind a list's name to name its own signature. A list cannot hold its own signature's digest.
const SIGNATURE_SUFFIXES: [&str; 8] =
    [".asc", ".sig", ".gpg", ".minisig", ".pem", ".bundle", ".sigstore", ".sigstore.json"];

/// One name with one digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The normal form of the name: relative, `/` between components, no `.` or `..` among them.
    pub name: String,
    /// The digest that the list gives it.
    pub digest: Digest,
    /// The line it stands on, from 1.
    pub line: usize,
}

/// A checksum list that was read without a doubt left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChecksumList {
    file_name: String,
    /// By name; several entries of one name have distinct algorithms.
    entries: BTreeMap<String, Vec<Entry>>,
}

impl ChecksumList {
    /// Reads a list. `file_name` is for reasons, and where it names an algorithm (`SHA256SUMS`, `app.sha512`) every
    /// line must be of that one.
    ///
    /// # Errors
    /// `checksum-list-malformed`, `checksum-name-unsafe`, `checksum-conflict` or `input-too-large`, with the line;
    /// of many, the first ones.
    pub fn parse(bytes: &[u8], file_name: &str) -> Result<Self, Vec<Reason>> {
        let mut reasons = Reasons::new(file_name);
        if bytes.len() as u64 > limits::CHECKSUM_LIST_BYTES {
            let message = format!("the list has more than {} bytes", limits::CHECKSUM_LIST_BYTES);
            return Err(vec![Reason::new(Code::InputTooLarge, message).evidence(file_name)]);
        }
        let expected = algorithm_of_name(file_name);
        let mut entries: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
            if number > limits::CHECKSUM_LINES {
                let message = format!("the list has more than {} lines", limits::CHECKSUM_LINES);
                reasons.push(number, Reason::new(Code::InputTooLarge, message));
                break;
            }
            match parse_line(line, expected) {
                Ok(None) => {}
                Ok(Some((name, digest))) => {
                    let entry = Entry { name, digest, line: number };
                    if let Err(reason) = add(&mut entries, entry) {
                        reasons.push(number, reason);
                    }
                }
                Err(reason) => reasons.push(number, reason),
            }
        }
        if entries.is_empty() && reasons.is_empty() {
            let message = "the list is empty: it proves nothing";
            return Err(vec![Reason::new(Code::ChecksumListMalformed, message).evidence(file_name)]);
        }
        reasons.into_result()?;
        Ok(Self { file_name: file_name.to_owned(), entries })
    }

    /// The list's own name.
    pub fn file_name(&self) -> &str {
        &self.file_name
    }

    /// Every entry, by name.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().flatten()
    }

    /// The listed names, each once, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// What the list says of a name in normal form: one entry an algorithm, none where it is not listed.
    pub fn of_name(&self, name: &str) -> &[Entry] {
        self.entries.get(name).map_or(&[], Vec::as_slice)
    }

    /// The algorithms that a file of this name must be hashed with.
    pub fn algorithms(&self, name: &str) -> Vec<DigestAlgorithm> {
        self.of_name(name).iter().map(|entry| entry.digest.algorithm()).collect()
    }

    /// Compares an artifact with what the list says of its name. Empty where every listed digest is the artifact's.
    pub fn judge(&self, artifact: &Artifact) -> Vec<Reason> {
        let listed = self.of_name(&artifact.name);
        if listed.is_empty() {
            return vec![self.unlisted(&artifact.name)];
        }
        let wrong = listed.iter().filter(|entry| artifact.digest(entry.digest.algorithm()) != Some(&entry.digest));
        wrong
            .map(|entry| {
                let message = match artifact.digest(entry.digest.algorithm()) {
                    Some(actual) => format!("`{}` has {actual}, the list says {}", entry.name, entry.digest.to_hex()),
                    None => format!("`{}` was not hashed with {}", entry.name, entry.digest.algorithm()),
                };
                self.about(entry, Code::ChecksumMismatch, message)
            })
            .collect()
    }

    /// The reason for a file that nobody listed.
    pub fn unlisted(&self, name: &str) -> Reason {
        let message = format!("`{name}` is there, and the list does not name it");
        Reason::new(Code::FileUnlisted, message).evidence(&self.file_name).subject(name)
    }

    /// The reason for a listed name without a file.
    pub fn missing(&self, name: &str) -> Reason {
        let message = format!("`{name}` is listed, and no such file is there");
        match self.of_name(name).first() {
            Some(entry) => self.about(entry, Code::FileMissing, message),
            None => Reason::new(Code::FileMissing, message).evidence(&self.file_name).subject(name),
        }
    }

    fn about(&self, entry: &Entry, code: Code, message: String) -> Reason {
        Reason::new(code, message)
            .evidence(&self.file_name)
            .location(format!("line {}", entry.line))
            .subject(&entry.name)
    }
}

/// Writes a list in GNU form, sorted by name, each line ended. Reading it again yields the same entries.
///
/// # Errors
/// `checksum-name-unsafe` for a name that [`normal_name`] would not leave as it is: it could not be read again.
pub fn render<'a>(entries: impl IntoIterator<Item = (&'a str, &'a Digest)>) -> Result<String, Reason> {
    let sorted: BTreeMap<&str, &Digest> = entries.into_iter().collect();
    let mut text = String::new();
    for (name, digest) in sorted {
        if normal_name(name)? != name {
            let message = format!("`{name}` is not the shortest way to say that name");
            return Err(Reason::new(Code::ChecksumNameUnsafe, message).subject(name));
        }
        let escaped = name.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r");
        // GNU marks a line with an escaped name by a backslash in front of it.
        let mark = if escaped == name { "" } else { "\\" };
        text.push_str(&format!("{mark}{}  {escaped}\n", digest.to_hex()));
    }
    Ok(text)
}

/// Whether `name` is the list itself or its signature, which no list can hold.
pub fn is_list_or_its_signature(list_name: &str, name: &str) -> bool {
    name.strip_prefix(list_name).is_some_and(|suffix| suffix.is_empty() || SIGNATURE_SUFFIXES.contains(&suffix))
}

/// The normal form of a listed name: `./a//b` is `a/b`.
///
/// Both separators count: a list that is safe on this system and escapes on another is not safe.
///
/// # Errors
/// `checksum-name-unsafe` where the name is absolute, leaves the directory, has a NUL, names a directory or nothing.
pub fn normal_name(name: &str) -> Result<String, Reason> {
    let fault = if name.contains('\0') {
        Some("has a NUL")
    } else if name.starts_with(['/', '\\']) || has_drive(name) {
        Some("is absolute")
    } else if name.split(['/', '\\']).any(|component| component == "..") {
        Some("leaves the directory")
    } else if name.ends_with(['/', '\\']) {
        Some("names a directory")
    } else if name.len() > limits::ARCHIVE_NAME_BYTES {
        Some("is too long")
    } else {
        None
    };
    let components: Vec<&str> = name.split('/').filter(|component| !matches!(*component, "" | ".")).collect();
    let fault = fault.or_else(|| components.is_empty().then_some("names no file"));
    // What stays behind a dropped `.` could be absolute to a system with drive letters.
    let normal = components.join("/");
    let fault = fault.or_else(|| (normal.starts_with('\\') || has_drive(&normal)).then_some("is absolute"));
    match fault {
        None => Ok(normal),
        Some(fault) => {
            let shown: String = name.chars().take(200).collect();
            Err(Reason::new(Code::ChecksumNameUnsafe, format!("the name {shown:?} {fault}")))
        }
    }
}

/// `C:` in front, which makes a name absolute, or relative to another directory, where drives have letters.
fn has_drive(name: &str) -> bool {
    matches!(name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

/// The algorithm that a list's own name promises.
fn algorithm_of_name(file_name: &str) -> Option<DigestAlgorithm> {
    let name = file_name.rsplit('/').next().unwrap_or(file_name).to_ascii_lowercase();
    [DigestAlgorithm::Sha256, DigestAlgorithm::Sha384, DigestAlgorithm::Sha512]
        .into_iter()
        .find(|algorithm| name.contains(algorithm.name()))
}

/// One line without its newline: an entry, nothing for a comment or blank line, or the reason why neither.
fn parse_line(line: &[u8], expected: Option<DigestAlgorithm>) -> Result<Option<(String, Digest)>, Reason> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Ok(line) = str::from_utf8(line) else { return Err(malformed("the line is not UTF-8")) };
    if line.starts_with('#') || line.bytes().all(|byte| byte == b' ' || byte == b'\t') {
        return Ok(None);
    }
    // GNU puts a backslash in front of a whole line whose name is escaped, in both forms.
    let (line, escaped) = line.strip_prefix('\\').map_or((line, false), |rest| (rest, true));
    let (algorithm, name, hex) = match bsd(line) {
        Some((tag, name, hex)) => {
            let algorithm = bsd_algorithm(tag)
                .ok_or_else(|| malformed(format!("`{tag}` is no digest algorithm that binds anything")))?;
            (algorithm, name, hex)
        }
        None => {
            let (hex, name) =
                gnu(line).ok_or_else(|| malformed("the line is neither a digest and a name nor a comment"))?;
            let algorithm = expected.or_else(|| algorithm_of_length(hex.len())).ok_or_else(|| {
                malformed(format!("no accepted algorithm has digests of {} hexadecimal digits", hex.len()))
            })?;
            (algorithm, name, hex)
        }
    };
    if let Some(expected) = expected.filter(|expected| *expected != algorithm) {
        return Err(malformed(format!("a {algorithm} digest stands in a list that is named for {expected}")));
    }
    let digest = Digest::from_hex(algorithm, hex).map_err(|error| match error {
        DigestError::Hex => malformed("the digest is not hexadecimal"),
        other => malformed(other.to_string()),
    })?;
    let name = if escaped { unescape(name)? } else { Cow::Borrowed(name) };
    Ok(Some((normal_name(&name)?, digest)))
}

/// `<hex>  name` or `<hex> *name`. The hexadecimal part is any word: what is wrong with it is said later.
fn gnu(line: &str) -> Option<(&str, &str)> {
    let (hex, rest) = line.split_once(' ')?;
    let name = rest.strip_prefix([' ', '*'])?;
    (!hex.is_empty()).then_some((hex, name))
}

/// `TAG (name) = <hex>`; the name may itself hold `) = `, so the last one counts.
fn bsd(line: &str) -> Option<(&str, &str, &str)> {
    let (tag, rest) = line.split_once(" (")?;
    let is_tag = !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-/".contains(&byte));
    let (name, hex) = rest.rsplit_once(") = ")?;
    is_tag.then_some((tag, name, hex))
}

fn bsd_algorithm(tag: &str) -> Option<DigestAlgorithm> {
    match tag {
        "SHA256" | "SHA2-256" => Some(DigestAlgorithm::Sha256),
        "SHA384" | "SHA2-384" => Some(DigestAlgorithm::Sha384),
        "SHA512" | "SHA2-512" => Some(DigestAlgorithm::Sha512),
        _ => None,
    }
}

fn algorithm_of_length(hex_digits: usize) -> Option<DigestAlgorithm> {
    [DigestAlgorithm::Sha256, DigestAlgorithm::Sha384, DigestAlgorithm::Sha512]
        .into_iter()
        .find(|algorithm| algorithm.length_bytes() * 2 == hex_digits)
}

fn unescape(name: &str) -> Result<Cow<'_, str>, Reason> {
    let mut plain = String::with_capacity(name.len());
    let mut characters = name.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => match characters.next() {
                Some('\\') => '\\',
                Some('n') => '\n',
                Some('r') => '\r',
                _ => return Err(malformed("the escaped name has a backslash that escapes nothing")),
            },
            other => other,
        });
    }
    Ok(Cow::Owned(plain))
}

fn add(entries: &mut BTreeMap<String, Vec<Entry>>, entry: Entry) -> Result<(), Reason> {
    let known = entries.entry(entry.name.clone()).or_default();
    match known.iter().find(|earlier| earlier.digest.algorithm() == entry.digest.algorithm()) {
        None => {
            known.push(entry);
            Ok(())
        }
        Some(earlier) if earlier.digest == entry.digest => Ok(()),
        Some(earlier) => {
            let message = format!("`{}` has another digest here than on line {}", entry.name, earlier.line);
            Err(Reason::new(Code::ChecksumConflict, message).subject(entry.name))
        }
    }
}

fn malformed(message: impl Into<String>) -> Reason {
    Reason::new(Code::ChecksumListMalformed, message)
}

/// Reasons up to a bound: a file of half a million broken lines gets a readable answer.
struct Reasons<'a> {
    file_name: &'a str,
    kept: Vec<Reason>,
    more: usize,
}

impl<'a> Reasons<'a> {
    const fn new(file_name: &'a str) -> Self {
        Self { file_name, kept: Vec::new(), more: 0 }
    }

    fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn push(&mut self, line: usize, reason: Reason) {
        if self.kept.len() < limits::REASONS_PER_FILE {
            self.kept.push(reason.evidence(self.file_name).location(format!("line {line}")));
        } else {
            self.more += 1;
        }
    }

    fn into_result(mut self) -> Result<(), Vec<Reason>> {
        if self.kept.is_empty() {
            return Ok(());
        }
        if self.more > 0 {
            self.kept.push(malformed(format!("and {} more lines", self.more)).evidence(self.file_name));
        }
        Err(self.kept)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const B: &str = "b8ebc66b173647bdab3016ace1e792fc8a85a6ccafb2137c63fd48bde7ff0286";

    fn parse(text: impl AsRef<[u8]>) -> Result<Vec<(String, String)>, Vec<Code>> {
        parse_as(text, "checksums.txt")
    }

    fn parse_as(text: impl AsRef<[u8]>, file_name: &str) -> Result<Vec<(String, String)>, Vec<Code>> {
        match ChecksumList::parse(text.as_ref(), file_name) {
            Ok(list) => Ok(list.entries().map(|entry| (entry.name.clone(), entry.digest.to_string())).collect()),
            Err(reasons) => Err(reasons.iter().map(|reason| reason.code.known().unwrap()).collect()),
        }
    }

    fn one(name: &str, hex: &str) -> Result<Vec<(String, String)>, Vec<Code>> {
        Ok(vec![(name.to_owned(), format!("sha256:{hex}"))])
    }

    #[test]
    fn gnu_bsd_starred_escaped_and_crlf_lines_pass() {
        assert_eq!(parse(format!("{A}  a\n")), one("a", A));
        assert_eq!(parse(format!("{A} *a")), one("a", A));
        assert_eq!(parse(format!("{A}  a b  c\r\n")), one("a b  c", A));
        assert_eq!(parse(format!("{}  a\n", A.to_uppercase())), one("a", A));
        assert_eq!(parse(format!("SHA256 (a) = {A}\n")), one("a", A));
        assert_eq!(parse(format!("SHA2-256 (a (1) = 2) = {A}\r\n")), one("a (1) = 2", A));
        assert_eq!(parse(format!("\\{A}  a\\nb\\\\c\\r\n")), one("a\nb\\c\r", A));
        assert_eq!(parse(format!("\\SHA256 (a\\nb) = {A}\n")), one("a\nb", A));
        assert_eq!(parse(format!("# sums\n\n  \n{A}  ./dir/.//a\n\n")), one("dir/a", A));
        assert_eq!(parse(format!("{A}   a\n")), one(" a", A), "the name has a space in front");
        assert_eq!(parse(format!("{A}  #a\n")), one("#a", A));
        assert_eq!(parse(format!("{A}  a...b/..c/d..\n")), one("a...b/..c/d..", A));
    }

    #[test]
    fn the_length_or_the_tag_names_the_algorithm() {
        let long = format!("{A}{B}");
        let sha384 = &long[..96];
        assert_eq!(
            parse(format!("{long}  a\n{sha384}  b\n{A}  c\nSHA512 (c) = {long}\n")),
            Ok(vec![
                ("a".into(), format!("sha512:{long}")),
                ("b".into(), format!("sha384:{sha384}")),
                ("c".into(), format!("sha256:{A}")),
                ("c".into(), format!("sha512:{long}")),
            ])
        );
        assert_eq!(parse(format!("SHA512 (a) = {A}\n")), Err(vec![Code::ChecksumListMalformed]));
        assert_eq!(parse(format!("MD5 (a) = {A}\n")), Err(vec![Code::ChecksumListMalformed]));
    }

    #[test]
    fn a_digest_of_the_wrong_length_for_the_list_is_refused() {
        for (line, name) in [
            (format!("{}  a\n", &A[..40]), "SHA256SUMS"),
            (format!("{}  a\n", &A[..40]), "checksums.txt"),
            (format!("{A}{B}  a\n"), "SHA256SUMS"),
            (format!("{A}  a\n"), "app.sha512"),
            (format!("SHA512 (a) = {A}{B}\n"), "dist/sha256sums.txt"),
            (format!("{}  a\n", &A[..63]), "checksums.txt"),
        ] {
            assert_eq!(parse_as(&line, name), Err(vec![Code::ChecksumListMalformed]), "{line} in {name}");
        }
    }

    #[test]
    fn two_digests_for_one_name_are_refused_and_the_same_twice_passes() {
        assert_eq!(parse(format!("{A}  a\n{B}  a\n")), Err(vec![Code::ChecksumConflict]));
        assert_eq!(parse(format!("{A}  a\n{B}  ./a\n")), Err(vec![Code::ChecksumConflict]));
        assert_eq!(parse(format!("{A}  d/a\nSHA256 (d//a) = {B}\n")), Err(vec![Code::ChecksumConflict]));
        assert_eq!(parse(format!("{A}  a\n{A} *./a\n")), one("a", A));
    }

    #[test]
    fn traversal_absolute_names_drives_and_nul_are_refused() {
        for name in [
            "..",
            "../a",
            "a/../b",
            "a/..",
            "/a",
            "//a",
            "\\a",
            "..\\a",
            "a\\..\\b",
            "C:\\a",
            "c:a",
            "C:/a",
            "./C:/a",
            ".//\\a",
            "a\0b",
            "a/",
            "./",
            ".",
            "./\\\\host\\share",
        ] {
            assert_eq!(parse(format!("{A}  {name}\n")), Err(vec![Code::ChecksumNameUnsafe]), "{name:?}");
        }
        let hidden = format!("\\{A}  ..\\\\a\n");
        assert_eq!(parse(hidden), Err(vec![Code::ChecksumNameUnsafe]), "escapes hide nothing");
        let long = "a".repeat(limits::ARCHIVE_NAME_BYTES + 1);
        assert_eq!(parse(format!("{A}  {long}\n")), Err(vec![Code::ChecksumNameUnsafe]));
    }

    #[test]
    fn malformed_lines_and_empty_lists_are_refused() {
        let malformed = Err(vec![Code::ChecksumListMalformed]);
        for text in
            ["", "\n\n", "# nothing\n", "this is not a line\n", "-----BEGIN PGP SIGNED MESSAGE-----\n", "\u{feff}\n"]
        {
            assert_eq!(parse(text), malformed, "{text:?}");
        }
        for line in [
            A.to_owned(),
            format!("{A} a"),
            format!("{A}\ta"),
            format!(" {A}  a"),
            format!("{}  a", "g".repeat(64)),
            format!("\\{A}  a\\tb"),
            format!("\\{A}  a\\"),
            format!("SHA256 (a) {A}"),
            format!("SHA256(a)= {A}"),
            format!("SHA256 (a) = {A} "),
        ] {
            assert_eq!(parse(format!("{B}  sound\n{line}\n")), malformed, "{line}");
        }
        assert_eq!(parse([A.as_bytes(), b"  \xff\n"].concat()), malformed);
        assert_eq!(parse(format!("{A}  \n")), Err(vec![Code::ChecksumNameUnsafe]));
    }

    #[test]
    fn reasons_name_the_line_and_are_bounded() {
        let text = format!("{A}  a\n\nbroken\n");
        let reasons = ChecksumList::parse(text.as_bytes(), "SHA256SUMS").unwrap_err();
        assert_eq!(reasons[0].location.as_deref(), Some("line 3"));
        assert_eq!(reasons[0].evidence.as_deref(), Some("SHA256SUMS"));
        let reasons = ChecksumList::parse("broken\n".repeat(5000).as_bytes(), "SHA256SUMS").unwrap_err();
        assert_eq!(reasons.len(), limits::REASONS_PER_FILE + 1);
        assert_eq!(reasons.last().unwrap().message, format!("and {} more lines", 5000 - limits::REASONS_PER_FILE));
    }

    #[test]
    fn more_lines_than_the_limit_are_refused() {
        let text = "\n".repeat(limits::CHECKSUM_LINES + 5);
        assert_eq!(parse(text), Err(vec![Code::InputTooLarge]));
    }

    #[test]
    fn artifacts_are_judged_by_every_listed_digest() {
        let list = ChecksumList::parse(format!("{A}  a\n{B}  b\n").as_bytes(), "SHA256SUMS").unwrap();
        assert_eq!(list.judge(&Artifact::from_bytes("a", b"")), []);
        let codes = |name: &str| -> Vec<_> {
            list.judge(&Artifact::from_bytes(name, b"")).into_iter().map(|reason| reason.code.known()).collect()
        };
        assert_eq!(codes("b"), [Some(Code::ChecksumMismatch)]);
        assert_eq!(codes("c"), [Some(Code::FileUnlisted)]);
        assert_eq!(list.judge(&Artifact::new("a", [])).len(), 1, "a digest that was not made proves nothing");
    }

    #[test]
    fn a_list_knows_its_own_signatures() {
        for name in ["SHA256SUMS", "SHA256SUMS.asc", "SHA256SUMS.sigstore.json"] {
            assert!(is_list_or_its_signature("SHA256SUMS", name), "{name}");
        }
        for name in ["SHA256SUMS.tar", "SHA256SUM", "a.asc", "SHA256SUMS.asc.asc"] {
            assert!(!is_list_or_its_signature("SHA256SUMS", name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = ChecksumList::parse(&bytes, "SHA256SUMS");
        }

        #[test]
        fn nearly_sound_lines_never_yield_an_unsafe_name(
            name in r"[./\\a:C*() =\n\r\x00-]{0,12}", escaped: bool, bsd: bool,
        ) {
            let mark = if escaped { "\\" } else { "" };
            let line = if bsd { format!("{mark}SHA256 ({name}) = {A}\n") } else { format!("{mark}{A}  {name}\n") };
            if let Ok(list) = ChecksumList::parse(line.as_bytes(), "list") {
                for name in list.names() {
                    prop_assert_eq!(normal_name(name).unwrap(), name);
                    let components: Vec<_> = std::path::Path::new(name).components().collect();
                    let normal = components.iter().all(|part| matches!(part, std::path::Component::Normal(_)));
                    prop_assert!(normal, "{name:?}");
                }
            }
        }

        #[test]
        fn a_written_list_reads_back_as_it_was(
            files in prop::collection::btree_map(r"[a-z ./\\\n\r\t*()=#é]{1,20}", any::<[u8; 32]>(), 1..20),
        ) {
            let files: BTreeMap<String, Digest> = files
                .into_iter()
                .filter(|(name, _)| normal_name(name).is_ok_and(|normal| normal == *name))
                .map(|(name, bytes)| (name, Digest::new(DigestAlgorithm::Sha256, &bytes).unwrap()))
                .collect();
            prop_assume!(!files.is_empty());
            let text = render(files.iter().map(|(name, digest)| (name.as_str(), digest))).unwrap();
            let list = ChecksumList::parse(text.as_bytes(), "SHA256SUMS").unwrap();
            let read: BTreeMap<String, Digest> =
                list.entries().map(|entry| (entry.name.clone(), entry.digest.clone())).collect();
            prop_assert_eq!(read, files);
        }
    }
}
