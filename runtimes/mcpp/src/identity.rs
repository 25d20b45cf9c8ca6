//! The key that makes this node who it is: created once, readable by its owner alone.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use libp2p::{PeerId, identity::Keypair};
use thiserror::Error;
use zeroize::Zeroizing;

/// A key file of ours has 68 bytes; anything longer is another file given by mistake.
const KEY_FILE_BYTES_MAX: u64 = 1024;

/// An Ed25519 key pair and the PeerId that follows from it. Prints as the PeerId alone.
#[derive(Clone)]
pub struct Identity {
    keypair: Keypair,
}

/// Why there is no identity.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file cannot be read or made.
    #[error("key file {path} cannot be {action}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Somebody else can read the key.
    #[error("key file {path} has mode {mode:03o}: others can read it; make it 600, or replace the key if they may have")]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Something else is in the file.
    #[error("key file {path} does not hold an Ed25519 key in the libp2p protobuf encoding")]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
}

impl Identity {
    /// Reads the key, or makes it when the file does not exist.
    ///
    /// # Errors
    /// [`IdentityError`]; an existing file is never changed.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        match Self::load(path) {
            Err(IdentityError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Self::create(path),
            other => other,
        }
    }

    /// Reads the key of an existing file.
    ///
    /// # Errors
    /// [`IdentityError`]
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let encoded = read_private(path, KEY_FILE_BYTES_MAX)?;
        let not_a_key = || IdentityError::NotAKey { path: path.to_owned() };
        let keypair = Keypair::from_protobuf_encoding(&encoded).map_err(|_| not_a_key())?;
        keypair.clone().try_into_ed25519().map_err(|_| not_a_key())?;
        Ok(Self { keypair })
    }

    /// A key that lives as long as the process, for demonstrations and tests.
    #[must_use]
    pub fn ephemeral() -> Self {
        Self { keypair: Keypair::generate_ed25519() }
    }

    /// Who this node is.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        self.keypair.public().to_peer_id()
    }

    pub(crate) fn into_keypair(self) -> Keypair {
        self.keypair
    }

    fn create(path: &Path) -> Result<Self, IdentityError> {
        let failed = |source| IdentityError::Io { path: path.to_owned(), action: "created", source };
        let identity = Self::ephemeral();
        let encoded = identity.keypair.to_protobuf_encoding().expect("an Ed25519 key can be encoded");
        let written = write_new(path, &Zeroizing::new(encoded));
        match written {
            Ok(()) => Ok(identity),
            // Another process was faster: there is one key, and it is that one.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Self::load(path),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Reads the first `bytes_max` bytes of a file that only its owner may read.
///
/// # Errors
/// [`IdentityError::Io`], [`IdentityError::Readable`]
pub fn read_private(path: &Path, bytes_max: u64) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let failed = |source| IdentityError::Io { path: path.to_owned(), action: "read", source };
    let file = File::open(path).map_err(failed)?;
    // Of the open file, so that nobody can put another one in its place between the check and the read.
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Readable { path: path.to_owned(), mode });
    }
    // All at once: growing would leave copies behind that nobody wipes.
    let mut contents = Zeroizing::new(Vec::with_capacity(usize::try_from(bytes_max).unwrap_or(usize::MAX)));
    file.take(bytes_max).read_to_end(&mut contents).map_err(failed)?;
    Ok(contents)
}

/// Writes a whole file under a name of its own and links it into place, so that a crash leaves no half a key and
/// an existing key is never replaced.
fn write_new(path: &Path, contents: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut draft_name = std::ffi::OsString::from(".");
    draft_name.push(name);
    draft_name.push(format!(".{}", std::process::id()));
    let draft = path.with_file_name(draft_name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let linked = file.write_all(contents).and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    linked
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("peer_id", &self.peer_id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");

        let first = Identity::load_or_create(&path).unwrap();
        let second = Identity::load_or_create(&path).unwrap();

        assert_eq!(first.peer_id(), second.peer_id());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the draft is gone");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        Identity::load_or_create(&path).unwrap();

        for mode in [0o640, 0o604, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refused = Identity::load_or_create(&path);

            assert!(matches!(refused, Err(IdentityError::Readable { .. })), "{mode:o}: {refused:?}");
        }
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap().write_all(b"notes").unwrap();

        assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::NotAKey { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"notes");
    }

    #[test]
    fn printing_an_identity_shows_no_key() {
        let identity = Identity::ephemeral();

        assert_eq!(format!("{identity:?}"), format!("Identity {{ peer_id: {:?}, .. }}", identity.peer_id()));
    }
}
