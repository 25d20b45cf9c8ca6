//! The `twinway` program.
fn main() {}
