//! A folder for the demo's keys, gone when the demo is.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// A folder that only its owner can enter.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes one under the system's folder for temporary files. A folder of that name that exists already is refused.
    pub(super) fn create() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("twinway-demo-{:016x}", rand::random::<u64>()));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind is two keys that nobody knows; the system clears the place.
        drop(fs::remove_dir_all(&self.0));
    }
}
