//! Passwords and tokens of the server, as they are or as hashes of other programs.
//!
//! Promises: a text is compared in constant time; a hash is computed on a blocking thread, one at a time, so that guessing
//! cannot take the machine from the events; none is computed for what is too long to be a password; what has been verified
//! once is not computed again, and what was wrong not within a minute.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use argon2::{Argon2, PasswordVerifier};
use parking_lot::Mutex;
use rf_core::config::Secret;
use sha_crypt::ShaCrypt;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;

/// Candidates that are remembered as right: more than there are credentials would only be several spellings of one.
const MAX_KNOWN: usize = 64;
/// Candidates that are remembered as wrong.
const MAX_WRONG: usize = 256;
/// For so long: a program that goes on asking with an old token costs no computation each time.
const WRONG_FOR: Duration = Duration::from_secs(60);

/// Longest password that a hash is held against. The time for `$5$` and `$6$` grows with the square of the length, and a head
/// has room for a candidate that would cost seconds.
const MAX_HASHED_BYTES: usize = 1024;

/// What a candidate must be.
#[derive(Debug, Clone)]
pub(super) enum Password {
    /// This text.
    Plain(Secret),
    /// A text with this hash.
    Hash(Hash, Secret),
}

/// A kind of hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    /// `$2a$`, `$2b$`, `$2y$`.
    Bcrypt,
    /// `$5$`, `$6$`.
    ShaCrypt,
    /// `$argon2id$` and its relatives.
    Argon2,
}

impl Password {
    /// Tells hash from text by its beginning.
    pub(super) fn new(secret: Secret) -> Result<Self, &'static str> {
        let text = secret.expose();
        let begins = |with: &[&str]| with.iter().any(|with| text.starts_with(with));
        let kind = if begins(&["$2a$", "$2b$", "$2y$"]) {
            Hash::Bcrypt
        } else if begins(&["$5$", "$6$"]) {
            Hash::ShaCrypt
        } else if begins(&["$argon2"]) {
            Hash::Argon2
        } else if begins(&["$1$", "$apr1$", "$y$", "{SHA}"]) {
            return Err(
                "hashes of this kind are not supported: use bcrypt, SHA-512-crypt or Argon2",
            );
        } else {
            return Ok(Self::Plain(secret));
        };
        if kind.is_well_formed(text) {
            Ok(Self::Hash(kind, secret))
        } else {
            Err(
                "this begins like a hash but is not one: it may be cut off, or its `$` were taken for variables (write them as `\\\\$`, or use $file:)",
            )
        }
    }
}

impl Hash {
    /// Whether a candidate can be held against it at all.
    fn is_well_formed(self, hash: &str) -> bool {
        match self {
            Self::Bcrypt => hash.parse::<bcrypt::HashParts>().is_ok(),
            Self::ShaCrypt => sha_crypt::PasswordHash::new(hash).is_ok(),
            Self::Argon2 => argon2::PasswordHash::new(hash).is_ok(),
        }
    }

    fn is_of(self, hash: &str, candidate: &[u8]) -> bool {
        match self {
            Self::Bcrypt => bcrypt::verify(candidate, hash).unwrap_or(false),
            Self::ShaCrypt => ShaCrypt::default().verify_password(candidate, hash).is_ok(),
            Self::Argon2 => Argon2::default().verify_password(candidate, hash).is_ok(),
        }
    }
}

/// Holds candidates against passwords.
pub(super) struct Verifier {
    /// Differs in each process, so that what is remembered says nothing outside of it.
    key: [u8; 32],
    known: Mutex<HashSet<[u8; 32]>>,
    /// And since when.
    wrong: Mutex<HashMap<[u8; 32], Instant>>,
    turn: Arc<Semaphore>,
    #[cfg(test)]
    computed: std::sync::atomic::AtomicUsize,
}

impl Verifier {
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        key[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        key[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        Self {
            key,
            known: Mutex::default(),
            wrong: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
            #[cfg(test)]
            computed: <_>::default(),
        }
    }

    /// How many hashes were computed.
    #[cfg(test)]
    pub(super) fn computed(&self) -> usize {
        self.computed.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Whether the candidate is the password, as far as one can tell without computing a hash.
    pub(super) fn recalls(&self, password: &Password, candidate: &[u8]) -> bool {
        match password {
            Password::Plain(secret) => secret.matches(candidate),
            Password::Hash(_, secret) => self.knows(&self.mark(secret, candidate)),
        }
    }

    /// Whether the candidate is the password.
    pub(super) async fn verify(&self, password: &Password, candidate: &[u8]) -> bool {
        let (kind, secret) = match password {
            Password::Plain(secret) => return secret.matches(candidate),
            Password::Hash(kind, secret) => (*kind, secret.clone()),
        };
        if candidate.len() > MAX_HASHED_BYTES {
            return false;
        }
        let mark = self.mark(&secret, candidate);
        if let Some(is_right) = self.remembered(&mark) {
            return is_right;
        }
        // The semaphore is never closed; several of a browser's first requests wait for one computation.
        let Ok(turn) = Arc::clone(&self.turn).acquire_owned().await else { return false };
        if let Some(is_right) = self.remembered(&mark) {
            return is_right;
        }
        #[cfg(test)]
        self.computed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let candidate = candidate.to_vec();
        // The turn lasts as long as the computation, which goes on when the client leaves.
        let compute = move || (kind.is_of(secret.expose(), &candidate), turn);
        let Ok((is_right, _turn)) = tokio::task::spawn_blocking(compute).await else {
            return false;
        };
        if is_right {
            self.remember(mark);
        } else {
            self.remember_wrong(mark);
        }
        is_right
    }

    /// Keyed with what nobody outside knows, so that comparing marks needs no constant time.
    fn mark(&self, secret: &Secret, candidate: &[u8]) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(self.key);
        digest.update(secret.expose().len().to_le_bytes());
        digest.update(secret.expose());
        digest.update(candidate);
        digest.finalize().into()
    }

    fn knows(&self, mark: &[u8; 32]) -> bool {
        self.known.lock().contains(mark)
    }

    fn remember(&self, mark: [u8; 32]) {
        let mut known = self.known.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(mark);
    }

    /// Whether it was right, where a hash was computed for it before.
    fn remembered(&self, mark: &[u8; 32]) -> Option<bool> {
        if self.knows(mark) { Some(true) } else { self.is_wrong(mark).then_some(false) }
    }

    fn is_wrong(&self, mark: &[u8; 32]) -> bool {
        let wrong = self.wrong.lock();
        wrong.get(mark).is_some_and(|since| since.elapsed() < WRONG_FOR)
    }

    fn remember_wrong(&self, mark: [u8; 32]) {
        let mut wrong = self.wrong.lock();
        if wrong.len() >= MAX_WRONG {
            wrong.retain(|_, since| since.elapsed() < WRONG_FOR);
        }
        // Of many that are guessed at a time none needs to be remembered.
        if wrong.len() >= MAX_WRONG {
            wrong.clear();
        }
        wrong.insert(mark, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Of `htpasswd -nbB`, `openssl passwd -6`, `openssl passwd -5` and `argon2 -id`: the password is `hunter2`.
    const HASHES: [(&str, Hash); 4] = [
        ("$2y$05$mkWg0d5JmR7BjJB.R7ZmiuK2cX5TcJKJHNVq/wwr76EWXXtH/Cwe2", Hash::Bcrypt),
        (
            "$6$saltsalt$8iYtNHxjWRl.NF6oNZ5tF.iKFlQREaXBLlSmZKP6dy9l5z3vsooWNW0/GZ6Nej73/TFug6pIPSqbJoCT6dfnj.",
            Hash::ShaCrypt,
        ),
        ("$5$saltsalt$OIdfjX.u4Y3SJ4I2bX8w5BMf1VAUhHABNUirScDzZi3", Hash::ShaCrypt),
        (
            "$argon2id$v=19$m=1024,t=1,p=1$c29tZXNhbHRzYWx0$RrZBFQOQ09TFUR7gYaa9dUzRjpYFDsBDwL7+Dok3VRc",
            Hash::Argon2,
        ),
    ];

    #[tokio::test]
    async fn hashes_of_other_programs_are_understood() {
        for (hash, expected) in HASHES {
            let password = Password::new(Secret::new(hash)).unwrap();
            assert!(matches!(password, Password::Hash(kind, _) if kind == expected), "{hash}");
            let verifier = Verifier::new();
            assert!(!verifier.verify(&password, b"hunter3").await, "{hash}");
            assert!(!verifier.verify(&password, hash.as_bytes()).await, "{hash} is no password");
            assert_eq!(verifier.known.lock().len(), 0, "a wrong one is not remembered");
            assert!(verifier.verify(&password, b"hunter2").await, "{hash}");
            assert!(verifier.verify(&password, b"hunter2").await, "{hash}, from memory");
            assert!(!verifier.verify(&password, b"hunter3").await, "{hash}");
            assert_eq!(verifier.known.lock().len(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_candidate_is_remembered_for_a_minute() {
        let password = Password::new(Secret::new(HASHES[0].0)).unwrap();
        let verifier = Verifier::new();
        for expected in [1, 1, 2] {
            assert!(!verifier.verify(&password, b"hunter3").await);
            assert_eq!(verifier.computed(), expected);
            tokio::time::advance(WRONG_FOR / 2).await;
        }
        for n in 0..2 * MAX_WRONG {
            verifier.remember_wrong(verifier.mark(&Secret::new("x"), &n.to_le_bytes()));
            assert!(verifier.wrong.lock().len() <= MAX_WRONG);
        }
    }

    #[tokio::test]
    async fn what_is_remembered_as_wrong_waits_for_no_turn() {
        let password = Password::new(Secret::new(HASHES[0].0)).unwrap();
        let verifier = Verifier::new();
        assert!(!verifier.verify(&password, b"hunter3").await);
        let _turn = verifier.turn.acquire().await.unwrap();
        assert_eq!(verifier.verify(&password, b"hunter3").now_or_never(), Some(false));
    }

    #[tokio::test]
    async fn what_is_too_long_for_a_password_is_refused_before_anything_is_computed() {
        let longest = "x".repeat(MAX_HASHED_BYTES);
        for (hash, _) in HASHES {
            let password = Password::new(Secret::new(hash)).unwrap();
            let verifier = Verifier::new();
            // Nothing can be computed while nobody gets a turn.
            let turn = verifier.turn.acquire().await.unwrap();
            assert!(!verifier.verify(&password, format!("{longest}x").as_bytes()).await, "{hash}");
            let waits = verifier.verify(&password, longest.as_bytes()).now_or_never();
            assert_eq!(waits, None, "{hash}");
            drop(turn);
            assert!(!verifier.verify(&password, longest.as_bytes()).await, "{hash}");
        }
        // A text is only compared.
        let password = Password::new(Secret::new(format!("{longest}x"))).unwrap();
        assert!(Verifier::new().verify(&password, format!("{longest}x").as_bytes()).await);
    }

    #[tokio::test]
    async fn a_text_is_itself() {
        for (text, candidate, expected) in [
            ("hunter2", "hunter2", true),
            ("hunter2", "hunter", false),
            ("$x", "$x", true),
            ("", "", false),
        ] {
            let password = Password::new(Secret::new(text)).unwrap();
            assert_eq!(Verifier::new().verify(&password, candidate.as_bytes()).await, expected);
        }
    }

    #[test]
    fn what_cannot_be_checked_is_refused() {
        for text in
            ["$apr1$x$y", "$1$x$y", "$y$j9T$x", "{SHA}x", "$2y$12$short", "$6", "$argon2id$v"]
        {
            let made = Password::new(Secret::new(text));
            // `$6` alone is a text.
            assert_eq!(made.is_err(), text != "$6", "{text}");
        }
    }
}
