//! The revisions of MCP.

/// The stateless revision.
pub const MODERN: &str = "2026-07-28";

/// The newest revision with sessions: what a server answers to a revision it does not know.
pub const LATEST_LEGACY: &str = "2025-11-25";

/// A client that sends no version header after `initialize` is taken to speak this (2025-11-25, transports).
pub const ASSUMED_LEGACY: &str = "2025-03-26";

/// The revisions with sessions, newest first.
pub const LEGACY: [&str; 4] = [LATEST_LEGACY, "2025-06-18", ASSUMED_LEGACY, "2024-11-05"];

/// The revision with that name, when it has sessions.
#[must_use]
pub fn legacy(name: &str) -> Option<&'static str> {
    LEGACY.into_iter().find(|revision| *revision == name)
}
