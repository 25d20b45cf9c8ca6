//! Decisions as a table, and what a file survives.

use std::fs;

use tempfile::TempDir;

use super::*;

fn up() -> TargetId {
    TargetId::from("up")
}

/// Whether the tool is offered, or why not.
fn decide(pins: &Pins, mode: PinMode, tools: &[(&str, &str)]) -> Vec<Option<Cause>> {
    let of = pins.of(&up(), mode);
    let decided = tools.iter().map(|(tool, definition)| {
        let definition = Bytes::copy_from_slice(definition.as_bytes());
        match of.decide(&Arc::from(*tool), Fingerprint::of(&definition), &definition) {
            Standing::Offered => None,
            Standing::Quarantined(cause, _) => Some(cause),
        }
    });
    decided.collect()
}

fn quarantined(tool: &str, definition: &str) -> Quarantined {
    let definition = Bytes::copy_from_slice(definition.as_bytes());
    let fingerprint = Fingerprint::of(&definition);
    let (public, accepted) = (format!("up.{tool}").into(), None);
    Quarantined { public, target: up(), tool: tool.into(), cause: Cause::Changed, fingerprint, definition, accepted }
}

#[test]
fn each_mode_quarantines_what_it_says() {
    let (changed, new) = (Some(Cause::Changed), Some(Cause::New));
    let first = [("a", r#"{"n":1}"#), ("b", "{}")];
    let second = [("a", r#"{"n":2}"#), ("b", "{ }"), ("c", "{}")];
    let cases =
        [(PinMode::Off, [None, None, None]), (PinMode::Changed, [changed, None, None]), (PinMode::All, [changed, None, new])];
    for (mode, expected) in cases {
        let pins = Pins::default();
        assert_eq!(decide(&pins, mode, &first), [None, None], "{mode:?}");
        assert_eq!(decide(&pins, mode, &second), expected, "{mode:?}");
        assert_eq!(decide(&pins, mode, &first), [None, None], "{mode:?}: what was accepted comes back by itself");
    }
}

#[test]
fn pins_outlive_the_time_in_which_nobody_asks_for_them() {
    let pins = Pins::default();
    decide(&pins, PinMode::Changed, &[("a", r#"{"n":1}"#)]);

    assert_eq!(decide(&pins, PinMode::Off, &[("a", r#"{"n":2}"#)]), [None]);
    assert_eq!(decide(&pins, PinMode::All, &[("a", r#"{"n":2}"#), ("b", "{}")]), [Some(Cause::Changed), Some(Cause::New)]);
}

#[tokio::test]
async fn what_is_accepted_is_in_the_file_before_anybody_is_told_so() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pins.json");
    let pins = Pins::open(&path).unwrap();
    decide(&pins, PinMode::Changed, &[("a", r#"{"x":1.50,"lone":"\ud800"}"#)]);
    pins.save().await;

    let offered = quarantined("a", r#"{"x":2}"#);
    let (accepted, ()) = tokio::join!(pins.accept(&offered), pins.save());

    assert_eq!(accepted, Ok(()));
    let again = Pins::open(&path).unwrap();
    assert_eq!(again.0.state.lock().book, pins.0.state.lock().book);
    assert_eq!(decide(&again, PinMode::Changed, &[("a", r#"{"x":2}"#)]), [None]);
    assert_eq!(decide(&again, PinMode::Changed, &[("a", r#"{"x":1.5}"#)]), [Some(Cause::Changed)]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the draft is gone");
    assert!(!pins.is_unsaved());
}

#[tokio::test]
async fn whoever_accepts_is_told_when_the_file_cannot_be_written() {
    let folder = TempDir::new().unwrap();
    let pins = Pins::open(&folder.path().join("gone").join("pins.json")).unwrap();

    let offered = quarantined("a", "{}");
    let (accepted, ()) = tokio::join!(pins.accept(&offered), pins.save());

    assert!(matches!(accepted, Err(AcceptError::NotWritten(_))), "{accepted:?}");
    assert!(pins.is_unsaved(), "it is tried again");
    assert_eq!(decide(&pins, PinMode::Changed, &[("a", "{}")]), [None], "until the gateway ends it holds");
}

#[test]
fn a_broken_file_is_refused_and_stays() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("pins.json");
    let digest = Fingerprint::of(b"{}");
    let pin = format!(r#"{{"target":"up","tool":"a","digest":"{digest}","at":"2026-11-28T12:00:00Z"}}"#);
    let cases = [
        (String::new(), "EOF"),
        ("{\"version\":1,\"pins\":[".to_owned(), "EOF"),
        (r#"{"version":2,"pins":[]}"#.to_owned(), "version is 2"),
        (r#"{"version":1,"pins":[],"more":1}"#.to_owned(), "unknown field"),
        (format!(r#"{{"version":1,"pins":[{pin},{pin}]}}"#), "twice"),
        (format!(r#"{{"version":1,"pins":[{}]}}"#, pin.replace("sha256:", "md5:")), "not a digest"),
        (format!(r#"{{"version":1,"pins":[{}]}}"#, pin.replace("12:00", "25:00")), "25:00"),
    ];
    for (text, expected) in cases {
        fs::write(&path, &text).unwrap();

        let error = Pins::open(&path).unwrap_err().to_string();

        assert!(error.contains(expected) && error.contains("pins.json"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    assert!(matches!(Pins::open(folder.path()), Err(PinsError::Read { .. })), "a folder is no file");
    assert!(Pins::open(&folder.path().join("none.json")).is_ok());
}

#[test]
fn long_definitions_are_remembered_by_their_digest_alone() {
    let long = Bytes::from(format!("[\"{}\"]", "x".repeat(book::DEFINITION_BYTES_MAX)));

    let pin = Pin::new(&up(), &"a".into(), Fingerprint::of(&long), &long, SystemTime::now());

    assert_eq!(pin.definition, None);
}
