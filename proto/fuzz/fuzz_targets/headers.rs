//! Looks for texts that do not survive a mirrored header.
#![no_main]
#![allow(dead_code, reason = "each target uses one of the shared properties")]

#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::mirrored_headers(bytes));
