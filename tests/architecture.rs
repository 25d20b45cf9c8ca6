//! Compares the repository with what design and ARCHITECTURE.md say of it: packages, their directions, headers, pins, invariants.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use twinway::{
    config::{Config, Environment},
    metadata::Field,
};

/// Every package of the workspace with those of ours that it may depend on, also for its tests and its build.
///
/// A line here is an architecture decision: change ARCHITECTURE.md in the same commit.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("twinway-proto", &[]),
    ("runtime-api", &[]),
    ("runtime-mcp", &["runtime-api", "twinway-proto"]),
    ("runtime-http", &["runtime-api", "runtime-mcp", "twinway-proto"]),
    ("runtime-mcpp", &["runtime-api", "runtime-mcp", "twinway-proto"]),
    ("runtime-stdio", &["runtime-api", "runtime-mcp", "twinway-proto"]),
    ("twinway", &["runtime-api", "runtime-http", "runtime-mcp", "runtime-mcpp", "runtime-stdio", "twinway-proto"]),
];

/// Folders whose Rust files say their job in the first line.
const RUST_FOLDERS: &[&str] = &["src", "runtimes", "proto", "tests", "benches"];

/// Folders that hold nothing of ours.
const FOREIGN_FOLDERS: &[&str] = &["target", "node_modules", ".git", ".cache", ".venv", "corpus", "artifacts"];

/// Folders whose TOML files may be configurations of the gateway.
const EXAMPLE_FOLDERS: &[&str] = &["deploy", "tests"];

/// How a paragraph of ARCHITECTURE.md starts that states an invariant, and how it names what holds it.
const INVARIANT: &str = "Architecture Invariant:";
const HELD_BY: &str = "Held by";

/// What stands before the table of metadata.
const METADATA: &str = "## Metadata, its readers and their tests";

#[test]
fn the_workspace_has_exactly_the_declared_packages() {
    let declared: BTreeSet<String> = DIRECTIONS.iter().map(|(name, _)| (*name).to_owned()).collect();

    let found: BTreeSet<String> = packages().into_keys().collect();

    assert_eq!(found, declared, "left: the workspace, right: DIRECTIONS");
}

#[test]
fn packages_depend_on_each_other_only_in_the_declared_directions() {
    let packages = packages();
    let allowed: BTreeMap<&str, &[&str]> = DIRECTIONS.iter().copied().collect();

    let mut undeclared = Vec::new();
    for (name, dependencies) in &packages {
        let allowed = allowed.get(name.as_str()).copied().unwrap_or_default();
        let ours = dependencies.iter().filter(|dependency| packages.contains_key(*dependency));
        undeclared.extend(ours.filter(|to| !allowed.contains(&to.as_str())).map(|to| format!("{name} -> {to}")));
    }

    assert!(undeclared.is_empty(), "not in DIRECTIONS: {undeclared:#?}");
}

#[test]
fn every_rust_file_says_its_job_in_the_first_line() {
    let files = RUST_FOLDERS.iter().flat_map(|folder| files_below(&root().join(folder), "rs"));

    let silent: Vec<PathBuf> = files.filter(|file| !read(file).starts_with("//!")).collect();

    assert!(silent.is_empty(), "without `//!`: {silent:#?}");
}

#[test]
fn no_lock_file_names_a_place_to_download_from() {
    let mut named = Vec::new();
    for file in files_below(&root(), "lock") {
        // Cargo writes the name of a registry beside each package. One name, the default's, is all there may be.
        let sources: BTreeSet<String> = lines_with(&file, "source = ").into_iter().collect();
        let foreign = sources.iter().filter(|source| !source.starts_with("source = \"registry+")).cloned();
        named.extend(foreign);
        named.extend(sources.iter().skip(1).cloned());
    }
    for file in files_below(&root(), "json").into_iter().filter(|file| file.ends_with("package-lock.json")) {
        named.extend(lines_with(&file, "\"resolved\""));
    }
    let pins = files_below(&root().join("tests"), "txt");
    for file in pins.into_iter().filter(|file| file.ends_with("requirements.txt") || file.ends_with("constraints.txt")) {
        named.extend(lines_with(&file, "://"));
    }

    assert!(named.is_empty(), "{named:#?}");
}

#[test]
fn every_example_configuration_of_the_gateway_parses() {
    let files = EXAMPLE_FOLDERS.iter().flat_map(|folder| files_below(&root().join(folder), "toml"));

    let examples = files.filter(|file| configures_the_gateway(&read(file)));
    let environment = Environment::from([("AGENT_TOKEN", "whatever compose puts here")]);
    let faults = examples.filter_map(|file| {
        let error = Config::parse_within(&read(&file), &file, &environment).err()?;
        Some(format!("{}: {error}", file.display()))
    });
    let broken: Vec<String> = faults.collect();

    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
#[cfg_attr(not(feature = "quic"), ignore = "README.md shows the build with every feature")]
fn the_configurations_in_the_readme_are_good() {
    let readme = read(&root().join("README.md"));
    let blocks: Vec<&str> = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();

    assert!(!blocks.is_empty(), "README.md shows no configuration");
    let certificate = Certificate::make();
    for block in blocks {
        if let Err(error) = Config::parse(&certificate.put_into(block), Path::new("README.md")) {
            panic!("{error}\n{block}");
        }
    }
}

#[test]
fn every_field_of_the_metadata_names_its_reader_and_a_test() {
    let document = read(&root().join("ARCHITECTURE.md"));
    let table = document.split_once(METADATA).map_or("", |(_, rest)| rest);
    let rows: Vec<Vec<&str>> = table.lines().skip_while(|line| !line.starts_with("|-")).skip(1).map_while(cells).collect();
    let keepers = keepers();

    let named: BTreeSet<&str> = rows.iter().flat_map(|row| quoted(row[0])).collect();
    let missing: Vec<_> = Field::ALL.iter().map(|field| field.as_str()).filter(|field| !named.contains(field)).collect();
    assert!(missing.is_empty(), "fields without a row: {missing:?}");
    for row in rows {
        let tests = quoted(row[2]);
        assert!(!tests.is_empty() && tests.iter().all(|test| keepers.contains(*test)), "no such tests: {row:?}");
    }
}

/// The cells of a row of a table; `None` behind its end.
fn cells(line: &str) -> Option<Vec<&str>> {
    let cells: Vec<_> = line.strip_prefix('|')?.strip_suffix('|')?.split(" | ").collect();
    (cells.len() == 3).then_some(cells)
}

#[test]
fn every_invariant_names_the_tests_or_lints_that_hold_it() {
    let document = read(&root().join("ARCHITECTURE.md"));
    let invariants: Vec<&str> = document.split("\n\n").filter(|paragraph| paragraph.contains(INVARIANT)).collect();
    assert!(!invariants.is_empty(), "ARCHITECTURE.md states no invariant");
    let keepers = keepers();

    let mut loose = Vec::new();
    for invariant in invariants {
        let named = invariant.split_once(HELD_BY).map_or_else(Vec::new, |(_, names)| quoted(names));
        if named.is_empty() {
            loose.push(format!("names no keeper: {invariant}"));
        }
        loose.extend(named.into_iter().filter(|name| !keepers.contains(*name)).map(|name| format!("no test or lint: {name}")));
    }

    assert!(loose.is_empty(), "{loose:#?}");
}

/// Files that examples only name, made for this run: certificate and key must exist and belong together.
struct Certificate {
    folder: tempfile::TempDir,
}

impl Certificate {
    fn make() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let made = rcgen::generate_simple_self_signed(vec!["tools.example".to_owned()]).expect("a certificate can be made");
        fs::write(folder.path().join("cert.pem"), made.cert.pem()).expect("the folder can be written to");
        let key = folder.path().join("key.pem");
        fs::write(&key, made.key_pair.serialize_pem()).expect("the folder can be written to");
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        Self { folder }
    }

    /// The example, with the folder of these files in place of the one that it names.
    fn put_into(&self, example: &str) -> String {
        example.replace("\"/etc/twinway", &format!("\"{}", self.folder.path().display()))
    }
}

/// The packages of the workspace by name, each with the names of everything it depends on, for whatever purpose.
fn packages() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--no-deps", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages is an array");
    packages.iter().map(|package| (name_of(package), dependencies_of(package))).collect()
}

fn name_of(package: &Value) -> String {
    package["name"].as_str().expect("a package has a name").to_owned()
}

fn dependencies_of(package: &Value) -> BTreeSet<String> {
    package["dependencies"].as_array().expect("dependencies is an array").iter().map(name_of).collect()
}

/// Tells the gateway's configuration from other TOML by its tables.
fn configures_the_gateway(text: &str) -> bool {
    let Ok(table) = text.parse::<toml::Table>() else { return true };
    ["http", "p2p", "upstream", "peer"].iter().any(|name| table.contains_key(*name))
}

/// Whatever may hold an invariant: test functions, lints that are switched on, and paths that clippy.toml bans.
fn keepers() -> BTreeSet<String> {
    let mut keepers = BTreeSet::new();
    for folder in RUST_FOLDERS {
        for file in files_below(&root().join(folder), "rs") {
            keepers.extend(test_names(&read(&file)));
        }
    }
    let manifest: toml::Table = read(&root().join("Cargo.toml")).parse().expect("Cargo.toml is TOML");
    for lints in manifest["workspace"]["lints"].as_table().expect("there are lints").values() {
        keepers.extend(lints.as_table().expect("lints are tables").keys().cloned());
    }
    let bans: toml::Table = read(&root().join("clippy.toml")).parse().expect("clippy.toml is TOML");
    for ban in bans.values().filter_map(toml::Value::as_array).flatten() {
        keepers.extend(ban.get("path").and_then(toml::Value::as_str).map(str::to_owned));
    }
    keepers
}

/// The names of the functions that follow a test attribute, with those that `proptest!` makes.
fn test_names(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut attributed = false;
    for line in source.lines().map(str::trim_start) {
        let declaration = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "));
        if line.starts_with("#[test") || line.starts_with("#[tokio::test") {
            attributed = true;
        } else if let (true, Some(declaration)) = (attributed, declaration) {
            names.extend(declaration.split('(').next().map(str::to_owned));
            attributed = false;
        }
    }
    names
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn lines_with(file: &Path, needle: &str) -> Vec<String> {
    read(file).lines().filter(|line| line.contains(needle)).map(str::to_owned).collect()
}

/// The files of ours below a folder with this extension, in a stable order.
fn files_below(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries.map(|entry| entry.expect("an entry can be read")) {
            let path = entry.path();
            let foreign = FOREIGN_FOLDERS.iter().any(|name| path.file_name() == Some(OsStr::new(name)));
            // A link may lead in a circle or out of the repository.
            let kind = entry.file_type().expect("an entry has a type");
            if kind.is_dir() && !foreign {
                folders.push(path);
            } else if kind.is_file() && path.extension() == Some(OsStr::new(extension)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
