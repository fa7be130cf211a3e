//! What the caller expects: who signed, what the provenance says. Built by the caller, never by evidence.

use regex::Regex;

use crate::release::evidence::key::PublicKey;
use crate::release::evidence::provenance::{PROVENANCE_V1, PROVENANCE_V02};

/// What must hold for an artifact to be proved.
#[derive(Debug, Clone, Default)]
pub struct Expectations {
    /// The certificate's identity.
    pub identity: Option<Pattern>,
    /// The certificate's OIDC issuer.
    pub issuer: Option<Pattern>,
    /// A managed key in place of an identity.
    pub key: Option<PublicKey>,
    /// Whether signatures by a managed key must be in a log of the trust root too.
    pub key_needs_log: bool,
    /// The predicate's type, byte for byte.
    pub predicate_type: Option<String>,
    /// The source repository.
    pub source_uri: Option<String>,
    /// The branch.
    pub source_branch: Option<String>,
    /// The tag.
    pub source_tag: Option<String>,
    /// The version whose release the tag must be.
    pub source_versioned_tag: Option<String>,
    /// The builder; held against the builder list by policy.
    pub builder_id: Option<String>,
    /// The package's name.
    pub package_name: Option<String>,
    /// The package's version.
    pub package_version: Option<String>,
    /// Refuse builds on self-hosted runners.
    pub deny_self_hosted_runners: bool,
}

impl Expectations {
    /// Whether anything is asked that only provenance can answer.
    pub const fn asks_provenance(&self) -> bool {
        self.source_uri.is_some()
            || self.source_branch.is_some()
            || self.source_tag.is_some()
            || self.source_versioned_tag.is_some()
            || self.builder_id.is_some()
    }

    /// Whether what the provenance says matters: it is asked about, or the provenance itself is asked for.
    pub fn rests_on_provenance(&self) -> bool {
        let is_provenance = |kind: &String| kind == PROVENANCE_V02 || kind == PROVENANCE_V1;
        self.asks_provenance() || self.predicate_type.as_ref().is_some_and(is_provenance)
    }

    /// Whether anything is asked that only an attestation can answer.
    pub const fn asks_attestation(&self) -> bool {
        self.predicate_type.is_some()
            || self.package_name.is_some()
            || self.package_version.is_some()
            || self.asks_provenance()
    }
}

/// A text that must be matched as a whole, byte for byte. Nothing is normalised.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// This text.
    Exact(String),
    /// A regular expression that must match all of the text.
    Whole {
        /// The expression as it was given.
        source: String,
        /// The expression as it is matched.
        compiled: Regex,
    },
}

impl Pattern {
    /// A regular expression over the whole text. In the part that names a host, a bare dot is a dot: an identity
    /// pattern that says `github.com` never lets `github-com.example` or `githubXcom` in.
    ///
    /// # Errors
    /// Where the expression does not compile.
    pub fn regexp(source: &str) -> Result<Self, Box<regex::Error>> {
        // The user's own expression must stand alone first, or a stray parenthesis could reach out of the group.
        Regex::new(source).map_err(Box::new)?;
        let whole = format!(r"\A(?:{})\z", with_literal_host_dots(source));
        let compiled = regex::RegexBuilder::new(&whole).size_limit(1 << 22).build().map_err(Box::new)?;
        Ok(Self::Whole { source: source.to_owned(), compiled })
    }

    /// Whether the whole of `text` fits.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(expected) => expected == text,
            Self::Whole { compiled, .. } => compiled.is_match(text),
        }
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "`{text}`"),
            Self::Whole { source, .. } => write!(f, "/{source}/"),
        }
    }
}

/// Escapes bare dots between `://` (or the `@` of an address) and the next slash. A dot with a repetition behind it
/// is meant as "anything" and stays.
fn with_literal_host_dots(source: &str) -> String {
    let (head, rest) = match source.split_once("://") {
        Some((head, rest)) => (format!("{head}://"), rest),
        None => match source.rsplit_once('@') {
            Some((head, rest)) => (format!("{head}@"), rest),
            None => return source.to_owned(),
        },
    };
    let (host, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let mut literal = head;
    let mut letters = host.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => {
                literal.push(letter);
                literal.extend(letters.next());
            }
            '.' if !matches!(letters.peek(), Some('*' | '+' | '?' | '{')) => literal.push_str(r"\."),
            _ => literal.push(letter),
        }
    }
    literal.push_str(path);
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(pattern: &str, text: &str) -> bool {
        Pattern::regexp(pattern).unwrap().matches(text)
    }

    #[test]
    fn a_regexp_must_match_the_whole_text() {
        assert!(fits("https://github.com/acme/.*", "https://github.com/acme/x@refs/tags/v1"));
        assert!(fits("^https://github\\.com/acme/x$", "https://github.com/acme/x"));
        assert!(!fits("https://github.com/acme/", "https://github.com/acme/x"));
        assert!(!fits("acme", "https://github.com/acme/x"));
        assert!(!fits("a|b", "ab"));
        assert!(!fits("a$", "a\n"));
        assert!(fits(".*", "anything at all"));
    }

    #[test]
    fn an_unescaped_dot_lets_no_other_host_in() {
        assert!(!fits("https://github.com/acme/.*", "https://githubXcom/acme/x"));
        assert!(!fits(".*@acme.example", "release@acmeXexample"));
        assert!(fits(".*@acme.example", "release@acme.example"));
        assert!(fits(r"https://.*\.acme\.example/x", "https://a.acme.example/x"));
        assert!(fits("https://github.com/a.me/x", "https://github.com/acme/x"), "only the host is literal");
    }

    #[test]
    fn a_broken_regexp_is_an_error() {
        for broken in ["(", "a)", "*", "a)|(b"] {
            assert!(Pattern::regexp(broken).is_err(), "{broken}");
        }
    }
}
