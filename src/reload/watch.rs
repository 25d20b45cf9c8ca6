//! Tells when one of some files has changed, by looking at them.
//!
//! Looking instead of being told works on every file system, with editors that put another file in the place of the old one,
//! and with Kubernetes, which moves a symbolic link to a folder far above the file.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The files and what was last read of them.
#[derive(Debug, Default)]
pub(super) struct Watch {
    files: BTreeMap<PathBuf, Option<Stamp>>,
    /// What the last look found, when that was something new.
    unsettled: Option<BTreeMap<PathBuf, Option<Stamp>>>,
}

/// Tells two states of a file apart: contents cannot change without the time of the change of its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Watch {
    /// Remembers how the files are; they are read after this.
    pub(super) fn begin(&mut self) {
        self.files = self.now();
        self.unsettled = None;
    }

    /// Looks after these files from now on; `false` when one of them was not looked after while it was read. One that is not
    /// named any more is kept when only one is, because a file that cannot be parsed names no others.
    pub(super) fn attend(&mut self, files: Vec<PathBuf>) -> bool {
        let all_known = files.iter().all(|file| self.files.contains_key(file));
        let only_main = files.len() <= 1;
        let known = std::mem::take(&mut self.files);
        self.files = files.into_iter().map(|file| (file.clone(), known.get(&file).copied().flatten())).collect();
        if only_main {
            known.into_iter().for_each(|(file, stamp)| {
                self.files.entry(file).or_insert(stamp);
            });
        }
        all_known
    }

    /// Whether something has changed since it was read, and not since the last look: somebody may still be writing.
    pub(super) fn look(&mut self) -> bool {
        let now = self.now();
        if now == self.files {
            self.unsettled = None;
            return false;
        }
        let settled = self.unsettled.as_ref() == Some(&now);
        self.unsettled = Some(now);
        settled
    }

    fn now(&self) -> BTreeMap<PathBuf, Option<Stamp>> {
        self.files.keys().map(|file| (file.clone(), Stamp::of(file))).collect()
    }
}

impl Stamp {
    /// Follows symbolic links. `None` when there is no such file.
    fn of(file: &Path) -> Option<Self> {
        let found = std::fs::metadata(file).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// A watch that has read the files, and looked until nothing is new.
    fn watching(files: &[PathBuf]) -> Watch {
        let mut watch = Watch::default();
        watch.attend(files.to_vec());
        watch.begin();
        assert!(!watch.look());
        watch
    }

    #[test]
    fn a_change_counts_when_two_looks_find_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "one").unwrap();
        let mut watch = watching(std::slice::from_ref(&file));

        fs::write(&file, "").unwrap();
        assert!(!watch.look(), "the editor has only begun");
        fs::write(&file, "half").unwrap();
        assert!(!watch.look(), "it is still writing");
        assert!(watch.look());

        watch.begin();
        assert!(!watch.look(), "it was read");
    }

    #[test]
    fn another_file_in_its_place_is_a_change_and_so_is_another_folder_behind_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for revision in ["one", "two"] {
            fs::create_dir(at(revision)).unwrap();
            fs::write(at(revision).join("a.toml"), "same size").unwrap();
        }
        // As Kubernetes mounts a ConfigMap: a.toml -> ..data/a.toml, ..data -> one
        symlink("one", at("..data")).unwrap();
        symlink("..data/a.toml", at("a.toml")).unwrap();
        let mut watch = watching(&[at("a.toml")]);

        symlink("two", at("..data_new")).unwrap();
        fs::rename(at("..data_new"), at("..data")).unwrap();
        assert_eq!((watch.look(), watch.look()), (false, true));

        watch.begin();
        fs::write(at("new"), "same size").unwrap();
        fs::rename(at("new"), at("a.toml")).unwrap();
        assert_eq!((watch.look(), watch.look()), (false, true));
    }

    #[test]
    fn a_file_that_goes_away_and_one_that_appears_are_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let mut watch = watching(std::slice::from_ref(&file));

        fs::write(&file, "one").unwrap();
        assert_eq!((watch.look(), watch.look()), (false, true));
        watch.begin();
        fs::remove_file(&file).unwrap();
        assert_eq!((watch.look(), watch.look()), (false, true));
    }

    #[test]
    fn secrets_are_watched_while_the_file_that_names_them_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let (file, secret) = (folder.path().join("a.toml"), folder.path().join("token"));
        fs::write(&file, "good").unwrap();
        fs::write(&secret, "one").unwrap();
        let mut watch = watching(&[file.clone(), secret.clone()]);

        watch.begin();
        watch.attend(vec![file]);
        fs::write(&secret, "another").unwrap();

        assert_eq!((watch.look(), watch.look()), (false, true));
    }
}
