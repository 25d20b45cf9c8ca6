//! Looks for `_meta` objects that are read otherwise than by a full parser.
#![no_main]
#![allow(dead_code, reason = "each target uses one of the shared properties")]

#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::request_meta(bytes));
