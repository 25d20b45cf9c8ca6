//! Twinway: one MCP endpoint for every tool its user owns.
//!
//! A call goes from a [`transports`] way in through [`mcp`] (what the client speaks), the [`catalog`] (which tool that
//! is), the [`pipeline`] (what every call passes through) and the [`router`] (which target answers) to a runtime, and
//! back the same way. [`app`] puts the parts together.

pub mod admin;
pub mod app;
pub mod catalog;
mod chain;
pub mod cli;
pub mod config;
pub mod layers;
pub mod mcp;
pub mod measure;
pub mod metadata;
pub mod peers;
pub mod pipeline;
pub mod readiness;
pub mod reload;
pub mod router;
pub mod search;
pub mod telemetry;
pub mod tls;
pub mod transports;
