//! Looks for messages that the envelope parser reads otherwise than a full parser.
#![no_main]
#![allow(dead_code, reason = "each target uses one of the shared properties")]

#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::envelope(bytes));
