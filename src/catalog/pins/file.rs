//! The file of pins: read at the start, replaced whole whenever something is remembered.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use thiserror::Error;

use super::book::Book;

/// 64 MiB: what the most pins with the longest definitions can take, and a bound for whatever else is in its place.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The file of pins cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PinsError {
    /// The file system refuses it.
    #[error("the file of pins `{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its content is none that this gateway has written.
    #[error("the file of pins `{}` is broken: {what}; mend it, or move it away to trust all tools anew", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Where pins are kept.
#[derive(Debug)]
pub(super) struct PinsFile {
    path: PathBuf,
}

impl PinsFile {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// For the log.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it; nothing when there is none.
    pub(super) fn read(&self) -> Result<Book, PinsError> {
        let broken = |what| PinsError::Broken { path: self.path.clone(), what };
        match self.text() {
            Ok(text) if text.len() as u64 > FILE_BYTES_MAX => Err(broken(format!("it is longer than {FILE_BYTES_MAX} bytes"))),
            Ok(text) => Book::read(&text).map_err(broken),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Book::default()),
            Err(source) => Err(PinsError::Read { path: self.path.clone(), source }),
        }
    }

    fn text(&self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        File::open(&self.path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
        Ok(text)
    }

    /// Puts a new file in its place: whoever reads it, after a crash too, finds the old one or the new one.
    pub(super) fn write(&self, book: &Book) -> io::Result<()> {
        let draft = self.draft();
        let written = self.write_draft(&draft, &book.write()?);
        if written.is_err() {
            fs::remove_file(&draft).ok();
        }
        written
    }

    fn write_draft(&self, draft: &Path, text: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(draft)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(draft, &self.path)?;
        // The new name is in the folder only when the folder is on the disk.
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    }

    fn draft(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(".new");
        self.path.with_file_name(name)
    }
}
