//! Where things lie. Everything that `cargo xtask` makes or fetches is under `target/`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The top folder of the project.
pub fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// `target/NAME`, which may not exist yet.
pub fn target(name: &str) -> PathBuf {
    root().join("target").join(name)
}

/// `target/NAME` as a folder that exists.
pub fn target_dir(name: &str) -> Result<PathBuf> {
    let path = target(name);
    std::fs::create_dir_all(&path)
        .with_context(|| format!("cannot make the folder {}", path.display()))?;
    Ok(path)
}

/// Reads a file, or says which one could not be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a file, or says which one could not be written. The file appears whole or not at all.
pub fn write(path: &Path, content: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    std::fs::write(&partial, content)
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
