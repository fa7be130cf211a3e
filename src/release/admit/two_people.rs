//! Acts that one person alone may not do: a proposal in, an approved act out once somebody else agreed, in time.
//! Invariant: an [`Approved`] act names two different people, also when it was read back from where it was kept.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::types::{Code, Reason};

/// A person's account name. Two spellings that differ in letter case alone are one person.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Person(String);

/// A text that names nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no account: 1 to 128 letters, digits and the marks . _ - + @ : /")]
pub struct PersonError(String);

impl Person {
    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Person {
    type Err = PersonError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Plain ASCII, so that no two names look alike and differ.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+@:/".contains(&byte);
        if (1..=128).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(PersonError(text.escape_debug().to_string()))
        }
    }
}

impl TryFrom<String> for Person {
    type Error = PersonError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Person> for String {
    fn from(person: Person) -> Self {
        person.0
    }
}

impl fmt::Display for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq for Person {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Person {}

/// An act that somebody asks for, and that somebody else must agree to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal<T> {
    act: T,
    why: String,
    proposed_by: Person,
    proposed_at: Timestamp,
    expires_at: Timestamp,
}

impl<T> Proposal<T> {
    /// Asks for `act` until `expires_at`, which is at most `longest` from `now`.
    ///
    /// # Errors
    /// `proposal-expired` where there is no such time.
    pub fn new(
        act: T,
        why: impl Into<String>,
        by: Person,
        now: Timestamp,
        expires_at: Timestamp,
        longest: SignedDuration,
    ) -> Result<Self, Reason> {
        if expires_at <= now {
            return Err(expired(format!("it would end at {expires_at}, and it is {now}")));
        }
        if expires_at.duration_since(now) > longest {
            return Err(expired(format!("it would last until {expires_at}; {longest:#} is the longest")));
        }
        Ok(Self { act, why: why.into(), proposed_by: by, proposed_at: now, expires_at })
    }

    /// What is asked for.
    pub const fn act(&self) -> &T {
        &self.act
    }

    /// Who asked.
    pub const fn proposed_by(&self) -> &Person {
        &self.proposed_by
    }

    /// Until when it would hold.
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Somebody else agrees.
    ///
    /// # Errors
    /// `second-person-required` where it is who asked, `proposal-expired` where the time is over.
    pub fn approve(self, by: Person, now: Timestamp) -> Result<Approved<T>, Reason> {
        if by == self.proposed_by {
            let message = format!("{by} asked for it, and somebody else must approve it");
            return Err(Reason::new(Code::SecondPersonRequired, message));
        }
        if now >= self.expires_at {
            return Err(expired(format!("it was asked for until {}, and it is {now}", self.expires_at)));
        }
        Ok(Approved { proposal: self, approved_by: by, approved_at: now })
    }
}

/// An act that two people agreed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire<T>", bound(deserialize = "T: Deserialize<'de>"))]
pub struct Approved<T> {
    proposal: Proposal<T>,
    approved_by: Person,
    approved_at: Timestamp,
}

impl<T> Approved<T> {
    /// What they agreed to.
    pub const fn act(&self) -> &T {
        &self.proposal.act
    }

    /// Why, in the words of who asked.
    pub fn why(&self) -> &str {
        &self.proposal.why
    }

    /// Both, who asked first.
    pub const fn people(&self) -> [&Person; 2] {
        [&self.proposal.proposed_by, &self.approved_by]
    }

    /// Until when it holds.
    pub const fn expires_at(&self) -> Timestamp {
        self.proposal.expires_at
    }

    /// Whether it holds: from its approval on, and not at its end any more.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.approved_at <= now && now < self.proposal.expires_at
    }
}

/// What is kept of an approved act, before it is held against the rule again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<T> {
    proposal: Proposal<T>,
    approved_by: Person,
    approved_at: Timestamp,
}

impl<T> TryFrom<Wire<T>> for Approved<T> {
    type Error = String;

    fn try_from(wire: Wire<T>) -> Result<Self, Self::Error> {
        wire.proposal.approve(wire.approved_by, wire.approved_at).map_err(|reason| reason.message)
    }
}

fn expired(message: String) -> Reason {
    Reason::new(Code::ProposalExpired, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn person(name: &str) -> Person {
        name.parse().unwrap()
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + hours * 3600).unwrap()
    }

    fn proposal() -> Proposal<u32> {
        Proposal::new(7, "outage", person("alice"), at(0), at(4), DAY).unwrap()
    }

    fn code<T: fmt::Debug>(outcome: Result<T, Reason>) -> Option<Code> {
        outcome.unwrap_err().code.known()
    }

    #[test]
    fn an_act_holds_once_another_person_agreed_and_until_its_end() {
        let approved = proposal().approve(person("bob"), at(1)).unwrap();
        assert_eq!(approved.people().map(Person::as_str), ["alice", "bob"]);
        assert_eq!((*approved.act(), approved.why()), (7, "outage"));
        assert_eq!([at(0), at(1), at(3), at(4)].map(|time| approved.holds_at(time)), [false, true, true, false]);
    }

    #[test]
    fn nobody_approves_what_they_asked_for_whatever_the_letter_case() {
        for name in ["alice", "Alice", "ALICE"] {
            assert_eq!(code(proposal().approve(person(name), at(1))), Some(Code::SecondPersonRequired));
        }
    }

    #[test]
    fn neither_a_late_approval_nor_an_endless_act() {
        assert_eq!(code(proposal().approve(person("bob"), at(4))), Some(Code::ProposalExpired));
        for end in [at(0), at(-1), at(25)] {
            let asked = Proposal::new(7, "", person("alice"), at(0), end, DAY);
            assert_eq!(code(asked), Some(Code::ProposalExpired));
        }
    }

    #[test]
    fn what_is_read_back_obeys_the_rule_too() {
        let approved = proposal().approve(person("bob"), at(1)).unwrap();
        let kept = serde_json::to_string(&approved).unwrap();
        assert_eq!(serde_json::from_str::<Approved<u32>>(&kept).unwrap(), approved);
        assert!(serde_json::from_str::<Approved<u32>>(&kept.replace("bob", "aLice")).is_err());
    }

    #[test]
    fn a_name_that_could_look_like_another_names_nobody() {
        for name in ["", " alice", "alice\u{200b}", "аlice", "a\nb", &"a".repeat(129)] {
            assert!(name.parse::<Person>().is_err(), "{name:?}");
        }
    }
}
