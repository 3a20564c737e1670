//! The Linux guest that ships with nothing but its recipe: Debian's kernel for virtual machines and an initramfs
//! with BusyBox, both taken from the distribution's packages.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cpio::NewcBuilder;
use cpio::newc::trailer;
use flate2::{Compression, GzBuilder};

use super::apt;
use crate::paths;

const KERNEL: &str = "linux-image-cloud-amd64";
const BUSYBOX: &str = "busybox-static";

/// First process of the guest.
const INIT: &str = include_str!("guest-init.sh");

/// A kernel and its initramfs.
#[derive(Clone, Debug)]
pub struct LinuxGuest {
    /// The bzImage.
    pub kernel: PathBuf,
    /// The compressed initramfs.
    pub initrd: PathBuf,
}

/// Fetches the packages and packs the guest, each once.
///
/// # Errors
/// If a package cannot be had or the initramfs cannot be written.
pub fn linux() -> Result<LinuxGuest> {
    let folder = paths::target_dir("guests")?;
    let kernel = folder.join("vmlinuz");
    if !kernel.exists() {
        let package = apt::dependency(KERNEL, "linux-image-")?;
        let unpacked = paths::target_dir("guests/linux")?;
        apt::unpack(&package, &unpacked)?;
        paths::write(&kernel, &paths::read(&find_kernel(&unpacked)?)?)?;
    }
    let busybox = folder.join("busybox/bin/busybox");
    if !busybox.exists() {
        apt::unpack(BUSYBOX, &paths::target_dir("guests/busybox")?)?;
    }
    let initrd = folder.join("initrd.gz");
    let packed =
        initramfs(&paths::read(&busybox)?).context("the guest's initramfs cannot be packed")?;
    if !std::fs::read(&initrd).is_ok_and(|old| old == packed) {
        paths::write(&initrd, &packed)?;
    }
    Ok(LinuxGuest { kernel, initrd })
}

fn find_kernel(unpacked: &Path) -> Result<PathBuf> {
    let boot = unpacked.join("boot");
    for entry in
        std::fs::read_dir(&boot).with_context(|| format!("no folder {}", boot.display()))?
    {
        let path = entry?.path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
        {
            return Ok(path);
        }
    }
    anyhow::bail!(
        "{} has no vmlinuz-*; delete {} and run the command again",
        boot.display(),
        unpacked.display()
    )
}

/// A gzipped newc archive: the same bytes for the same input.
fn initramfs(busybox: &[u8]) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    let mut inode = 0;
    let mut add = |archive: &mut Vec<u8>, name: &str, mode: u32, content: &[u8]| -> Result<()> {
        inode += 1;
        let mut file = NewcBuilder::new(name)
            .ino(inode)
            .mode(mode)
            .write(archive, u32::try_from(content.len())?);
        file.write_all(content)?;
        file.finish()?;
        Ok(())
    };
    for folder in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        add(&mut archive, folder, 0o040_755, &[])?;
    }
    add(&mut archive, "bin/busybox", 0o100_755, busybox)?;
    add(&mut archive, "bin/sh", 0o120_777, b"busybox")?;
    add(&mut archive, "init", 0o100_755, INIT.as_bytes())?;
    trailer(&mut archive)?;
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::fast());
    gzip.write_all(&archive)?;
    Ok(gzip.finish()?)
}
