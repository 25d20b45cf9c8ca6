//! What goes to standard output and standard error.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;

/// Prints for people or for programs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) const fn new(json: bool) -> Self {
        Self { json }
    }

    pub(super) const fn is_json(self) -> bool {
        self.json
    }

    /// The document for programs, or the text for people.
    pub(super) fn either(self, document: &impl Serialize, text: &str) -> io::Result<()> {
        if self.json { self.raw_line(&serde_json::to_string(document)?) } else { self.raw_line(text) }
    }

    /// A line for people; nothing for programs.
    pub(super) fn say(self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { self.raw_line(text) }
    }

    /// A line for whoever it is.
    pub(super) fn raw_line(self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
    }

    pub(super) fn raw(self, bytes: &[u8]) -> io::Result<()> {
        io::stdout().lock().write_all(bytes)
    }

    /// A line on standard error. When that is closed there is nowhere left to say so.
    pub(super) fn complain(self, text: &str, document: &Value) {
        self.remark("error", text, document);
    }

    /// A line on standard error that is no complaint.
    pub(super) fn note(self, text: &str) {
        self.remark("note", text, &text.into());
    }

    fn remark(self, kind: &str, text: &str, document: &Value) {
        let line = if self.json { format!("{}\n", serde_json::json!({ kind: document })) } else { format!("twinway: {text}\n") };
        drop(io::stderr().lock().write_all(line.as_bytes()));
    }
}
