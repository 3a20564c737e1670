//! The Linux guest that ships with nothing but its recipe: Debian's kernel for virtual machines and an initramfs
//! with BusyBox and the kernel's modules for VMBus, all taken from the distribution's packages.

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

/// Modules of the kernel that the guest has, in the order in which they are to be loaded.
const MODULES: [&str; 2] = ["hv_vmbus", "hv_utils"];
/// Where a kernel has them, below its folder of modules.
const MODULE_FOLDER: &str = "kernel/drivers/hv";

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
    let unpacked = paths::target_dir("guests/linux")?;
    if !kernel.exists() || modules(&unpacked).is_err() {
        let package = apt::dependency(KERNEL, "linux-image-")?;
        apt::unpack(&package, &unpacked)?;
        paths::write(&kernel, &paths::read(&find_kernel(&unpacked)?)?)?;
    }
    let busybox = folder.join("busybox/bin/busybox");
    if !busybox.exists() {
        apt::unpack(BUSYBOX, &paths::target_dir("guests/busybox")?)?;
    }
    let initrd = folder.join("initrd.gz");
    let packed = initramfs(&paths::read(&busybox)?, &modules(&unpacked)?)
        .context("the guest's initramfs cannot be packed")?;
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

/// The modules, each with its name and contents.
fn modules(unpacked: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let folder = unpacked.join("lib/modules");
    let mut versions =
        std::fs::read_dir(&folder).with_context(|| format!("no folder {}", folder.display()))?;
    let version = versions
        .next()
        .with_context(|| format!("{} is empty", folder.display()))??;
    let read = |name| {
        let path = version.path().join(MODULE_FOLDER).join(name);
        Ok((name, paths::read(&path.with_extension("ko"))?))
    };
    MODULES.into_iter().map(read).collect()
}

/// A gzipped newc archive: the same bytes for the same input.
fn initramfs(busybox: &[u8], modules: &[(&str, Vec<u8>)]) -> Result<Vec<u8>> {
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
    for folder in ["bin", "dev", "etc", "lib", "proc", "root", "sys", "tmp"] {
        add(&mut archive, folder, 0o040_755, &[])?;
    }
    add(&mut archive, "bin/busybox", 0o100_755, busybox)?;
    add(&mut archive, "bin/sh", 0o120_777, b"busybox")?;
    for (name, content) in modules {
        let path = format!("lib/{name}.ko");
        add(&mut archive, &path, 0o100_644, content)?;
    }
    add(&mut archive, "init", 0o100_755, INIT.as_bytes())?;
    trailer(&mut archive)?;
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::fast());
    gzip.write_all(&archive)?;
    Ok(gzip.finish()?)
}
