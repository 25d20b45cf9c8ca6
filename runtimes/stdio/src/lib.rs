//! The stdio runtime: MCP servers that run as child processes, one message a line (2025-11-25 and 2026-07-28, transports).
//!
//! ```text
//! StdioRuntime ──► Target ──► Seat (a process and its conversation), for everybody
//!                    │  │
//!                    │  └───► Own ──► Seats, one for each principal or session
//!                    │
//!                    └─ lists what the server offers, publishes it on the board
//! ```

mod control;
mod lines;
mod own;
mod process;
mod runtime;
mod seat;
mod settings;
mod stderr;
mod target;

pub use control::{Plan, StdioControl};
pub use runtime::StdioRuntime;
pub use settings::{Server, Share};
