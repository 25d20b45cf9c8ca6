//! Looks for byte streams whose frames depend on how the stream is cut.
#![no_main]
#![allow(dead_code, reason = "each target uses one of the shared properties")]

#[path = "../properties.rs"]
mod properties;

libfuzzer_sys::fuzz_target!(|input: (Vec<u8>, Vec<u8>)| {
    let (bytes, cuts) = input;
    properties::frames(&bytes, &cuts);
});
