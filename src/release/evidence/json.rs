//! Strict JSON: bytes in, a typed value out, or the one reason why not.
//!
//! `serde_json` keeps the last of two equal members; another reader may keep the first, and the two would then
//! verify different documents. So every document of ours is walked once before it is believed: a member twice,
//! too much nesting, too many nodes or trailing data is refused.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::types::{Code, Reason, limits};

/// Parses `bytes` as one strict JSON document of type `T`.
///
/// # Errors
/// A [`Reason`] with `malformed-json`, `duplicate-key`, `input-too-deep` or `input-too-large`;
/// `shape` where the document is sound JSON but not a `T`.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], shape: Code) -> Result<T, Reason> {
    check(bytes)?;
    parse_checked(bytes, shape)
}

/// Parses bytes of which [`check`] or [`parse_value`] found nothing to say.
///
/// # Errors
/// `shape` where the document is not a `T`.
pub fn parse_checked<T: DeserializeOwned>(bytes: &[u8], shape: Code) -> Result<T, Reason> {
    serde_json::from_slice(bytes).map_err(|error| Reason::new(shape, plain(&error)).location(place(&error)))
}

/// Parses `bytes` as one strict JSON document of any shape.
///
/// # Errors
/// As [`parse`], without `shape`.
pub fn parse_value(bytes: &[u8]) -> Result<serde_json::Value, Reason> {
    parse(bytes, Code::MalformedJson)
}

/// Walks one JSON document without keeping it.
///
/// # Errors
/// As [`parse_value`].
pub fn check(bytes: &[u8]) -> Result<(), Reason> {
    let state = State { nodes: Cell::new(0), fault: Cell::new(None) };
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let walked = Walk { state: &state, depth: 0 }.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    walked.map_err(|error| {
        let code = state.fault.get().unwrap_or(Code::MalformedJson);
        // serde_json's own recursion guard comes first where our limit is the higher one.
        let code = if code == Code::MalformedJson && error.to_string().starts_with("recursion limit") {
            Code::InputTooDeep
        } else {
            code
        };
        Reason::new(code, plain(&error)).location(place(&error))
    })
}

fn place(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}

/// The error without serde_json's own "at line … column …", which the location already says.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split_once(" at line ").map_or(text.clone(), |(plain, _)| plain.to_owned())
}

struct State {
    nodes: Cell<usize>,
    fault: Cell<Option<Code>>,
}

impl State {
    fn fault<E: serde::de::Error>(&self, code: Code, message: impl fmt::Display) -> E {
        self.fault.set(Some(code));
        E::custom(message)
    }
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    state: &'a State,
    depth: usize,
}

impl Walk<'_> {
    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        let nodes = self.state.nodes.get().saturating_add(1);
        self.state.nodes.set(nodes);
        if nodes > limits::JSON_NODES {
            return Err(self.state.fault(Code::InputTooLarge, format_args!("more than {} values", limits::JSON_NODES)));
        }
        Ok(())
    }

    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= limits::JSON_DEPTH {
            return Err(self
                .state
                .fault(Code::InputTooDeep, format_args!("nested deeper than {}", limits::JSON_DEPTH)));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.count()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.count()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.count()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.count()
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.count()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.count()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        self.count()?;
        let below = self.below()?;
        while sequence.next_element_seed(below)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.count()?;
        let below = self.below()?;
        let mut names = Names::default();
        while let Some(Text(name)) = map.next_key::<Text<'de>>()? {
            if let Some(twice) = names.insert(name) {
                return Err(self.state.fault(Code::DuplicateKey, format_args!("the member `{twice}` stands twice")));
            }
            map.next_value_seed(below)?;
        }
        Ok(())
    }
}

/// The members met so far. Most objects have few, and comparing a few names is cheaper than hashing them.
#[derive(Default)]
struct Names<'de> {
    few: Vec<Cow<'de, str>>,
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Names<'de> {
    const FEW: usize = 16;

    /// Gives the name back where it was there already.
    fn insert(&mut self, name: Cow<'de, str>) -> Option<Cow<'de, str>> {
        if self.few.contains(&name) || (!self.many.is_empty() && self.many.contains(&name)) {
            return Some(name);
        }
        if self.few.len() < Self::FEW {
            self.few.push(name);
        } else {
            self.many.insert(name);
        }
        None
    }
}

/// A text, borrowed from the input where it has no escapes.
struct Text<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

/// A helper for typed documents: binary data in base64, of the standard or the URL-safe alphabet, padded or not,
/// as the JSON form of Protocol Buffers allows (protobuf.dev, ProtoJSON).
pub(crate) mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::GeneralPurpose;
    use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
    use serde::Deserialize as _;

    use super::Text;

    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);

    /// Decodes either alphabet; `None` for anything else, white space included.
    pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
        // What the two alphabets share is the same in both, so the order says nothing but which is met more often.
        STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
    }

    pub(crate) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let Text(text) = Text::deserialize(deserializer)?;
        decode(&text).ok_or_else(|| serde::de::Error::custom("not base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Option<Code> {
        check(text.as_bytes()).err().and_then(|reason| reason.code.known())
    }

    #[test]
    fn sound_documents_pass() {
        for text in ["{}", "[]", "0", "\"a\"", "null", "{\"a\":1,\"b\":{\"a\":1}}", " [1, 2.5, -3, true] \n"] {
            assert_eq!(code(text), None, "{text}");
        }
    }

    #[test]
    fn a_member_twice_is_refused_at_any_depth_and_under_any_spelling() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"b":2,"a":3}]}"#, r#"{"a":1,"\u0061":2}"#] {
            assert_eq!(code(text), Some(Code::DuplicateKey), "{text}");
        }
        let many = (0..40).map(|n| format!("\"k{n}\":0")).collect::<Vec<_>>().join(",");
        assert_eq!(code(&format!("{{{many}}}")), None);
        assert_eq!(code(&format!("{{{many},\"k39\":1}}")), Some(Code::DuplicateKey));
    }

    #[test]
    fn trailing_data_and_broken_documents_are_refused() {
        for text in ["{} {}", "{}x", "", "{", "{\"a\":}", "\u{feff}{}", "nul"] {
            assert_eq!(code(text), Some(Code::MalformedJson), "{text:?}");
        }
    }

    #[test]
    fn three_thousand_levels_of_nesting_are_an_error_and_not_a_crash() {
        let deep = format!("{}{}", "[".repeat(3000), "]".repeat(3000));
        assert_eq!(code(&deep), Some(Code::InputTooDeep));
    }

    #[test]
    fn the_place_of_a_fault_is_named() {
        let reason = check(b"{\n \"a\": 1,\n \"a\": 2}").unwrap_err();
        assert_eq!(reason.location.as_deref(), Some("line 3, column 4"));
        assert_eq!(reason.message, "the member `a` stands twice");
    }
}
