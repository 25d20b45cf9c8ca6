//! Compiles the gRPC services in pure Rust, so that nobody needs `protoc`.

use std::{env, error::Error, fs, path::PathBuf};

const PROTOS: [&str; 3] = ["twinway/v1/bootstrap.proto", "twinway/v1/peer.proto", "twinway/v1/workflow.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=twinway");

    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(PROTOS)?;

    // Server reflection answers from these bytes.
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("twinway.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
