//! Seals what a client carries for us, so that it can neither read nor change it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{
    AeadInPlace, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::config::Http;

const NONCE_LEN: usize = 24;

/// Tells the key of the nonces from the key that it is made of.
const NONCES: &[u8] = b"twinway nonces";

/// Of the digest that names an owner within a seal. 128 bits: nobody finds another owner whose digest is the same.
const OWNER_LEN: usize = 16;

/// Tells a digest of an owner from any other.
const OWNERS: &[u8] = b"twinway owners";

/// Shortest secret that is taken as a key. 32 characters of base64 or hexadecimal hold at least 128 bits.
const SECRET_BYTES_MIN: usize = 32;

/// The configured key cannot be used.
#[derive(Debug, Error)]
#[error("`http.{name}` has {length} bytes; a key needs at least {SECRET_BYTES_MIN}")]
pub struct SealError {
    name: &'static str,
    length: usize,
}

/// A sealed text that is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shut {
    /// Not sealed here for this purpose.
    Unknown,
    /// Sealed here, for another owner.
    Foreign,
}

/// XChaCha20-Poly1305 with random nonces: 24 bytes are enough to draw them by chance.
pub struct Seal {
    current: XChaCha20Poly1305,
    /// Makes nonces out of what is sealed, for [`Seal::seal_alike`].
    nonces: Zeroizing<[u8; 32]>,
    previous: Option<XChaCha20Poly1305>,
    ephemeral: bool,
}

impl Seal {
    /// The configured keys, or a key that lives as long as the process.
    ///
    /// # Errors
    /// [`SealError`] when a key is too short.
    pub fn new(config: &Http) -> Result<Self, SealError> {
        let key = |name, secret: &Option<crate::config::Secret>| {
            secret.as_ref().map(|secret| key_of(name, secret.expose().as_bytes())).transpose()
        };
        let current = key("seal_key", &config.seal_key)?;
        let previous = key("seal_key_previous", &config.seal_key_previous)?;
        let ephemeral = current.is_none();
        let current = current.unwrap_or_else(|| Zeroizing::new(rand::random()));
        let nonces = Zeroizing::new(digest(&[NONCES, &*current]));
        let cipher = |key: Zeroizing<[u8; 32]>| XChaCha20Poly1305::new((&*key).into());
        Ok(Self { current: cipher(current), nonces, previous: previous.map(cipher), ephemeral })
    }

    /// Whether nobody else, and no later process, can open what is sealed here.
    #[must_use]
    pub const fn is_ephemeral(&self) -> bool {
        self.ephemeral
    }

    /// Seals `plain` for this purpose, subject and route; visible ASCII.
    #[must_use]
    pub fn seal(&self, plain: &[u8], bound_to: &[&str]) -> String {
        self.seal_with(rand::random(), plain, bound_to)
    }

    /// The same, but twice the same gives the same text: for names, which have to be compared. Whoever sees two of them learns
    /// whether they are equal and nothing else, because the nonce is a keyed digest of all that is sealed.
    #[must_use]
    pub fn seal_alike(&self, plain: &[u8], bound_to: &[&str]) -> String {
        let inner = digest(&[&*self.nonces, &associated(bound_to), plain]);
        let outer = digest(&[&*self.nonces, &inner]);
        let nonce = *outer.first_chunk().expect("a digest is longer than a nonce");
        self.seal_with(nonce, plain, bound_to)
    }

    fn seal_with(&self, nonce: [u8; NONCE_LEN], plain: &[u8], bound_to: &[&str]) -> String {
        let nonce = XNonce::from(nonce);
        let mut sealed = plain.to_vec();
        let tag = self.current.encrypt_in_place_detached(&nonce, &associated(bound_to), &mut sealed);
        let tag = tag.expect("a message of some kilobytes is not too long");
        URL_SAFE_NO_PAD.encode([&nonce[..], &sealed, &tag[..]].concat())
    }

    /// Opens what was sealed for the same purpose, subject and route, with the current or the previous key.
    #[must_use]
    pub fn open(&self, sealed: &str, bound_to: &[&str]) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, rest) = bytes.split_at_checked(NONCE_LEN)?;
        let associated = associated(bound_to);
        let open = |key: &XChaCha20Poly1305| key.decrypt(XNonce::from_slice(nonce), Payload { msg: rest, aad: &associated }).ok();
        open(&self.current).or_else(|| self.previous.as_ref().and_then(open))
    }

    /// Seals `plain` for this purpose and owner, so that what is of another owner can be told from what was never sealed.
    #[must_use]
    pub(super) fn seal_for(&self, plain: &[u8], purpose: &str, owner: &[&str]) -> String {
        self.seal(&[&owner_digest(owner)[..], plain].concat(), &[purpose])
    }

    /// Opens what was sealed by [`Seal::seal_for`] for the same purpose and owner.
    ///
    /// # Errors
    /// [`Shut`]. Whoever is not the owner is to be told no more than of garbage.
    pub(super) fn open_for(&self, sealed: &str, purpose: &str, owner: &[&str]) -> Result<Vec<u8>, Shut> {
        let plain = self.open(sealed, &[purpose]).ok_or(Shut::Unknown)?;
        let (of, plain) = plain.split_at_checked(OWNER_LEN).ok_or(Shut::Unknown)?;
        if bool::from(of.ct_eq(&owner_digest(owner))) { Ok(plain.to_vec()) } else { Err(Shut::Foreign) }
    }
}

/// Names an owner. It needs no key, because it is only ever read by who can open the seal around it.
fn owner_digest(owner: &[&str]) -> [u8; OWNER_LEN] {
    let digest = digest(&[OWNERS, &associated(owner)]);
    *digest.first_chunk().expect("a digest is longer than its part")
}

/// Each part with its length, so that no two lists of parts give the same bytes.
fn associated(parts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

fn key_of(name: &'static str, secret: &[u8]) -> Result<Zeroizing<[u8; 32]>, SealError> {
    if secret.len() < SECRET_BYTES_MIN {
        return Err(SealError { name, length: secret.len() });
    }
    Ok(Zeroizing::new(digest(&[secret])))
}

fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut digest = Sha256::new();
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize().into()
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seal").field("ephemeral", &self.ephemeral).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn seal() -> Seal {
        Seal::new(&Http::default()).expect("an ephemeral key")
    }

    #[test]
    fn only_the_same_purpose_subject_and_route_open_it() {
        let seal = seal();
        let sealed = seal.seal(b"secret", &["session", "alice", "up"]);

        assert_eq!(seal.open(&sealed, &["session", "alice", "up"]).as_deref(), Some(&b"secret"[..]));
        for other in [["session", "bob", "up"], ["session", "alice", ""], ["state", "alice", "up"], ["session", "aliceup", ""]] {
            assert_eq!(seal.open(&sealed, &other), None, "{other:?}");
        }
    }

    #[test]
    fn what_is_of_another_owner_is_told_from_what_was_never_sealed_and_opened_for_neither() {
        let seal = seal();
        let sealed = seal.seal_for(b"secret", "session", &["alice", "up"]);

        assert_eq!(seal.open_for(&sealed, "session", &["alice", "up"]).as_deref(), Ok(&b"secret"[..]));
        for other in [["bob", "up"], ["alice", ""], ["aliceup", ""], ["alic", "eup"]] {
            assert_eq!(seal.open_for(&sealed, "session", &other), Err(Shut::Foreign), "{other:?}");
        }
        // Another purpose, another key, the format before this one, and too little to hold an owner.
        let owner = ["alice", "up"];
        let before = seal.seal(b"sixteen bytes and more", &["session", "alice", "up"]);
        for shut in [&*seal.seal_for(b"secret", "state", &owner), &before, &seal.seal(b"short", &["session"]), "", "garbage"] {
            assert_eq!(seal.open_for(shut, "session", &owner), Err(Shut::Unknown), "{shut}");
        }
        assert_eq!(self::seal().open_for(&sealed, "session", &owner), Err(Shut::Unknown));
    }

    #[test]
    fn an_owner_is_known_by_what_the_key_before_has_sealed() {
        let config = |key: &str, previous: Option<&str>| Http {
            seal_key: Some(Secret::given(key.to_owned())),
            seal_key_previous: previous.map(|key| Secret::given(key.to_owned())),
            ..Http::default()
        };
        let [old, new] = ["o".repeat(SECRET_BYTES_MIN), "n".repeat(SECRET_BYTES_MIN)];
        let sealed = Seal::new(&config(&old, None)).expect("a key").seal_for(b"secret", "session", &["alice"]);

        let rotated = Seal::new(&config(&new, Some(&old))).expect("two keys");

        assert_eq!(rotated.open_for(&sealed, "session", &["alice"]).as_deref(), Ok(&b"secret"[..]));
        assert_eq!(rotated.open_for(&sealed, "session", &["bob"]), Err(Shut::Foreign));
    }

    #[test]
    fn names_that_are_sealed_are_alike_only_for_the_same_name_and_the_same_subject() {
        let seal = seal();
        let sealed = seal.seal_alike(b"task-1", &["task", "alice"]);

        assert_eq!(seal.open(&sealed, &["task", "alice"]).as_deref(), Some(&b"task-1"[..]));
        assert_eq!(seal.open(&sealed, &["task", "bob"]), None);
        assert_eq!(seal.seal_alike(b"task-1", &["task", "alice"]), sealed);
        let others = [seal.seal_alike(b"task-2", &["task", "alice"]), seal.seal_alike(b"task-1", &["task", "bob"])];
        assert!(others.iter().all(|other| other[..32] != sealed[..32]), "{others:?}");
    }

    #[test]
    fn what_was_changed_or_sealed_by_another_key_stays_shut() {
        let sealed = seal().seal(b"secret", &[]);
        let mut changed = sealed.clone().into_bytes();
        changed[40] = if changed[40] == b'A' { b'B' } else { b'A' };

        assert_eq!(seal().open(&sealed, &[]), None);
        assert_eq!(seal().open(&String::from_utf8(changed).expect("ASCII"), &[]), None);
        assert_eq!(seal().open("", &[]), None);
    }
}
