//! The `twinway` program: reads the command line, does what it says, and ends with an exit code that means something.

use std::process::ExitCode;

/// As quick as the system's for small calls, within what can be measured; benches/README.md has the memory in use.
#[cfg(not(feature = "system-allocator"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before any TLS is set up: more than one provider may be linked, and rustls does not guess.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    twinway::cli::run()
}
