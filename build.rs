//! Lists `shaders/shared/*.wgsl` for `src/gpu/shared.rs`, so that a new file needs no line of Rust.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=shaders/shared");
    let folder = |name| env::var_os(name).map(PathBuf::from).ok_or(io::ErrorKind::NotFound);
    let shared = folder("CARGO_MANIFEST_DIR")?.join("shaders/shared");
    let list = list(&shared)?;
    fs::write(folder("OUT_DIR")?.join("shared.rs"), list)
}

/// The files as a Rust expression, by name, so that equal folders give equal builds.
fn list(shared: &Path) -> io::Result<String> {
    let mut paths = fs::read_dir(shared)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "wgsl"));
    paths.sort();
    let mut out = "&[\n".to_owned();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let path = path.to_string_lossy();
        writeln!(out, "    ShaderSource {{ name: {name:?}, text: include_str!({path:?}) }},")
            .map_err(io::Error::other)?;
    }
    out.push_str("]\n");
    Ok(out)
}
