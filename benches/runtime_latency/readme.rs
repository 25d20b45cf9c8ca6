//! The places in `benches/README.md` that are written by a run.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// The folder of `README.md`.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches")
}

/// Replaces what stands between the two markers of that name.
pub(crate) fn write(name: &str, text: &str) -> anyhow::Result<()> {
    let path = folder().join("README.md");
    let old = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let new = replaced(&old, name, text).with_context(|| path.display().to_string())?;
    Ok(std::fs::write(path, new)?)
}

fn replaced(old: &str, name: &str, text: &str) -> anyhow::Result<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    let (before, rest) = old.split_once(&begin).with_context(|| format!("there is no line `{begin}`"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("there is no line `{end}`"))?;
    ensure!(!after.contains(&begin), "there are two places for `{name}`");
    Ok(format!("{before}{begin}\n{text}{end}{after}"))
}
