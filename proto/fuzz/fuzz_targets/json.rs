//! Looks for texts that the scanner and serde_json judge differently.
#![no_main]
#![allow(dead_code, reason = "each target uses one of the shared properties")]

#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::scanner(bytes));
