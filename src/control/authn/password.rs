//! Passwords in, Argon2id hashes and verdicts out; on few threads, whatever is asked, so that no flood takes the memory.
//! Invariant: a password is neither kept nor told, and one that nobody has costs as long as a wrong one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use icu_normalizer::ComposingNormalizerBorrowed;
use tokio::sync::Semaphore;

use crate::store::Hidden;
use crate::types::{Code, Reason, Secret, limits};

/// OWASP's first choice for Argon2id where memory is dear: 19 MiB, two passes, one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;

/// Which queue a computation stands in: who comes from where they always come from does not wait behind strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Whoever is known already.
    Known,
    /// Everybody else.
    Strangers,
}

/// Where hashes are computed.
#[derive(Debug, Clone)]
pub(super) struct Hasher {
    known: Queue,
    strangers: Queue,
    /// What is verified where there is nobody to verify.
    nobody: Arc<str>,
}

#[derive(Debug, Clone)]
struct Queue {
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// Why nothing was computed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HashError {
    /// Too many wait already.
    #[error("too many logins are being checked at once")]
    Busy,
    /// The computation failed.
    #[error("a password could not be hashed")]
    Failed,
}

/// How a password compares.
#[derive(Debug)]
pub(super) enum Verified {
    /// It is another one, or there is none.
    No,
    /// It is the one.
    Yes {
        /// The same under today's parameters, where it was kept under others.
        rehashed: Option<Hidden<String>>,
    },
}

impl Hasher {
    pub(super) fn new() -> Result<Self, HashError> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let nobody = hash(&random::<SALT_BYTES>()?, b"")?.0.into();
        Ok(Self { known: Queue::new(1), strangers: Queue::new(processors.saturating_sub(1).clamp(1, 4)), nobody })
    }

    /// The hash to keep.
    pub(super) async fn hash(&self, password: &Secret) -> Result<Hidden<String>, HashError> {
        let password = normal(password);
        self.known.run(move || hash(&random::<SALT_BYTES>()?, password.reveal().as_bytes())).await?
    }

    /// Whether this is the password of that hash.
    pub(super) async fn verify(
        &self,
        lane: Lane,
        kept: Option<Hidden<String>>,
        password: &Secret,
    ) -> Result<Verified, HashError> {
        let password = normal(password);
        let nobody = Arc::clone(&self.nobody);
        let queue = match lane {
            Lane::Known => &self.known,
            Lane::Strangers => &self.strangers,
        };
        queue.run(move || verify(kept.as_ref().map(|kept| kept.0.as_str()), &nobody, &password)).await?
    }
}

#[cfg(test)]
impl Hasher {
    /// Takes every place at which a stranger's password is checked, until it is dropped.
    pub(super) fn keep_strangers_waiting(&self) -> tokio::sync::OwnedSemaphorePermit {
        let permits = &self.strangers.permits;
        let all = u32::try_from(permits.available_permits()).unwrap();
        Arc::clone(permits).try_acquire_many_owned(all).unwrap()
    }

    /// How many strangers wait for such a place.
    pub(super) fn strangers_waiting(&self) -> usize {
        self.strangers.waiting.load(Ordering::Relaxed)
    }
}

impl Queue {
    fn new(permits: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(permits)), waiting: Arc::default() }
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, HashError> {
        let waiting = Waiting::enter(&self.waiting)?;
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| HashError::Failed)?;
        drop(waiting);
        // The permit goes along: the memory is in use until the work ends, also where nobody waits for it any more.
        let done = tokio::task::spawn_blocking(move || {
            let outcome = work();
            drop(permit);
            outcome
        });
        done.await.map_err(|_| HashError::Failed)
    }
}

struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn enter(count: &Arc<AtomicUsize>) -> Result<Self, HashError> {
        let entered = Self(Arc::clone(count));
        if count.fetch_add(1, Ordering::Relaxed) >= limits::LOGINS_WAITING {
            return Err(HashError::Busy);
        }
        Ok(entered)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn parameters() -> Result<Params, HashError> {
    Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(|_| HashError::Failed)
}

fn hash(salt: &[u8], password: &[u8]) -> Result<Hidden<String>, HashError> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters()?);
    let salt = SaltString::encode_b64(salt).map_err(|_| HashError::Failed)?;
    let hash = argon2.hash_password(password, &salt).map_err(|_| HashError::Failed)?;
    Ok(Hidden(hash.to_string()))
}

fn verify(kept: Option<&str>, nobody: &str, password: &Secret) -> Result<Verified, HashError> {
    let compared = compare(kept.unwrap_or(nobody), password)?;
    let Some(is_of_today) = compared.filter(|_| kept.is_some()) else { return Ok(Verified::No) };
    let rehashed = match is_of_today {
        true => None,
        false => Some(hash(&random::<SALT_BYTES>()?, password.reveal().as_bytes())?),
    };
    Ok(Verified::Yes { rehashed })
}

/// Nothing where the password is another one than that of the hash; else whether the hash has today's parameters.
fn compare(hash: &str, password: &Secret) -> Result<Option<bool>, HashError> {
    let parsed = PasswordHash::new(hash).map_err(|_| HashError::Failed)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters()?);
    // The parameters are those of the hash.
    if argon2.verify_password(password.reveal().as_bytes(), &parsed).is_err() {
        return Ok(None);
    }
    let is_of_today = Params::try_from(&parsed).is_ok_and(|params| {
        (params.m_cost(), params.t_cost(), params.p_cost()) == (MEMORY_KIB, PASSES, LANES)
            && parsed.algorithm == Algorithm::Argon2id.ident()
    });
    Ok(Some(is_of_today))
}

fn random<const N: usize>() -> Result<[u8; N], HashError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| HashError::Failed)?;
    Ok(bytes)
}

/// The form in which the same password typed on two keyboards is the same bytes (NIST SP 800-63B section 3.1.1.2).
fn normal(password: &Secret) -> Secret {
    Secret::new(ComposingNormalizerBorrowed::new_nfkc().normalize(password.reveal()).into_owned())
}

/// Passwords that everybody tries, of those that are long enough to be asked about.
const COMMON: &str = include_str!("common_passwords.txt");

/// Whether somebody of this name may have this password: NIST SP 800-63B section 3.1.1.2 asks for a length and for a
/// list of those that are expected, and for no rules of composition.
///
/// # Errors
/// `password-refused`; the message does not tell the password.
pub(super) fn check(name: &str, password: &Secret) -> Result<(), Reason> {
    let refused = |why: String| Err(Reason::new(Code::PasswordRefused, why));
    let normal = normal(password);
    let length = normal.reveal().chars().count();
    let (least, most) = (limits::PASSWORD_CHARS_MIN, limits::PASSWORD_CHARS_MAX);
    if length < least || length > most {
        return refused(format!("the password has {length} characters, and not {least} to {most}"));
    }
    let folded = normal.reveal().to_lowercase();
    if COMMON.lines().any(|common| common == folded) {
        return refused("the password is one that everybody tries".to_owned());
    }
    if repeats(&folded) {
        return refused("the password repeats a few characters".to_owned());
    }
    if runs(&folded) {
        return refused("the password is a row of the keyboard, the alphabet or the digits".to_owned());
    }
    // What is left once the words that everybody would try here are taken out.
    let mut rest = folded.clone();
    for word in [name, "debvisor", "password", "admin", "root", "debian", "hypervisor"] {
        if !word.is_empty() {
            rest = rest.replace(word, "");
        }
    }
    if rest != folded && !rest.chars().any(char::is_alphabetic) {
        return refused("the password is the user's name or the product's, with digits or signs".to_owned());
    }
    Ok(())
}

/// A piece of one to four characters, over and over.
fn repeats(text: &str) -> bool {
    let characters: Vec<char> = text.chars().collect();
    (1..=4).any(|length| characters.iter().zip(characters.iter().skip(length)).all(|(one, next)| one == next))
}

/// One row, forwards or backwards, that may begin again at its end.
fn runs(text: &str) -> bool {
    const ROWS: [&str; 6] = [
        "01234567890",
        "1234567890",
        "abcdefghijklmnopqrstuvwxyz",
        "qwertyuiopasdfghjklzxcvbnm",
        "qazwsxedcrfvtgbyhnujmikolp",
        "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    ];
    ROWS.iter().any(|row| {
        let forwards = row.repeat(2 + text.len() / row.len());
        let backwards: String = forwards.chars().rev().collect();
        forwards.contains(text) || backwards.contains(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn a_password_is_found_right_and_another_one_is_not() {
        let hasher = Hasher::new().unwrap();
        let kept = hasher.hash(&secret("correct horse battery")).await.unwrap();
        assert!(kept.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "OWASP's parameters");
        assert_ne!(kept, hasher.hash(&secret("correct horse battery")).await.unwrap(), "each has its own salt");
        let right = hasher.verify(Lane::Known, Some(kept.clone()), &secret("correct horse battery")).await.unwrap();
        assert!(matches!(right, Verified::Yes { rehashed: None }));
        let wrong = hasher.verify(Lane::Strangers, Some(kept), &secret("correct horse batterx")).await.unwrap();
        assert!(matches!(wrong, Verified::No));
    }

    #[tokio::test]
    async fn who_has_no_password_has_none_that_is_right() {
        let hasher = Hasher::new().unwrap();
        // The hash that stands for nobody is that of the empty password, and costs what others cost.
        assert!(hasher.nobody.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(matches!(verify(None, "no hash", &secret("")), Err(HashError::Failed)), "it was not compared at all");
        assert!(matches!(hasher.verify(Lane::Strangers, None, &secret("")).await.unwrap(), Verified::No));
    }

    #[test]
    fn a_hash_of_other_parameters_is_made_anew() {
        let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 1, 1, None).unwrap());
        let salt = SaltString::encode_b64(&[7; 16]).unwrap();
        let kept = weak.hash_password("correct horse battery".as_bytes(), &salt).unwrap().to_string();
        let Verified::Yes { rehashed: Some(new) } = verify(Some(&kept), "", &secret("correct horse battery")).unwrap()
        else {
            panic!("it is the same password, under other parameters");
        };
        assert!(new.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(matches!(
            verify(Some(&new.0), "", &secret("correct horse battery")),
            Ok(Verified::Yes { rehashed: None })
        ));
    }

    #[tokio::test]
    async fn a_flood_is_refused_and_whoever_is_known_does_not_wait_behind_it() {
        let hasher = Hasher::new().unwrap();
        let _all = hasher
            .strangers
            .permits
            .acquire_many(u32::try_from(hasher.strangers.permits.available_permits()).unwrap())
            .await;
        let flood: Vec<_> = (0..limits::LOGINS_WAITING)
            .map(|_| {
                let hasher = hasher.clone();
                tokio::spawn(async move { hasher.verify(Lane::Strangers, None, &secret("x")).await })
            })
            .collect();
        while hasher.strangers.waiting.load(Ordering::Relaxed) < limits::LOGINS_WAITING {
            tokio::task::yield_now().await;
        }
        assert!(matches!(hasher.verify(Lane::Strangers, None, &secret("x")).await, Err(HashError::Busy)));
        assert!(matches!(hasher.verify(Lane::Known, None, &secret("x")).await, Ok(Verified::No)));
        flood.iter().for_each(tokio::task::JoinHandle::abort);
        for task in flood {
            let _ = task.await;
        }
        assert_eq!(hasher.strangers.waiting.load(Ordering::Relaxed), 0, "who goes away no longer waits");
    }

    #[test]
    fn what_is_short_long_common_or_made_of_the_name_is_refused() {
        let long = "x y".repeat(43);
        let bad = [
            "elevenchars",
            long.as_str(),
            "password1234",
            "Passw0rd1234",
            "123456789012",
            "aaaaaaaaaaaa",
            "abcabcabcabc",
            "QWERTYUIOPas",
            "zyxwvutsrqpo",
            "1qaz2wsx3edc",
            "alicealicealice",
            "alice-2026-11-25",
            "debvisor2026!",
            "Debvisoradmin1",
        ];
        for password in bad {
            let reason = check("alice", &secret(password)).unwrap_err();
            assert_eq!(reason.code.as_str(), "password-refused", "{password}");
            assert!(!reason.message.contains(password), "the message tells it: {}", reason.message);
        }
        let mut most: String = (1..40).map(|number| format!("{} ", number * 7919)).collect();
        most.truncate(127);
        most.push('x');
        for password in
            ["correct horse battery", "alice in wonderland", "ähnlich wie früher", most.as_str(), "tr0ub4dor&3x"]
        {
            assert!(check("alice", &secret(password)).is_ok(), "{password}");
        }
    }

    #[test]
    fn two_ways_to_write_a_letter_are_one() {
        assert_eq!(normal(&secret("u\u{308}ber")).reveal(), normal(&secret("\u{fc}ber")).reveal());
        assert!(
            COMMON
                .lines()
                .all(|line| line == line.to_lowercase() && line.chars().count() >= limits::PASSWORD_CHARS_MIN)
        );
    }
}
