//! What a Linux guest needs for the key/value service of VMBus beside its kernel's driver: the distribution's daemon, the library
//! that it is linked with, and the file that says which system this is.

use std::path::Path;

use anyhow::Result;

use super::apt;
use super::initramfs::Initramfs;
use crate::paths;

const PACKAGES: [&str; 3] = ["hyperv-daemons", "libc6", "base-files"];

/// Programs, as the packages and the guest have them.
const PROGRAMS: [&str; 3] = [
    "usr/sbin/hv_kvp_daemon",
    "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
    "lib/x86_64-linux-gnu/libc.so.6",
];
const RELEASE: &str = "usr/lib/os-release";

/// An initramfs that goes behind a guest's own.
///
/// # Errors
/// If a package cannot be had.
pub fn initramfs() -> Result<Vec<u8>> {
    let folder = paths::target_dir("guests/daemons")?;
    let mut files = PROGRAMS.iter().chain(&[RELEASE]);
    if !files.all(|file| folder.join(file).is_file()) {
        for package in PACKAGES {
            apt::unpack(package, &folder)?;
        }
    }
    pack(&folder)
}

fn pack(folder: &Path) -> Result<Vec<u8>> {
    let mut initramfs = Initramfs::default();
    for name in [
        "etc",
        "lib",
        "lib/x86_64-linux-gnu",
        "lib64",
        "usr",
        "usr/sbin",
        "var",
        // The daemon keeps its pairs below.
        "var/lib",
    ] {
        initramfs.folder(name)?;
    }
    for name in PROGRAMS {
        initramfs.program(name, &paths::read(&folder.join(name))?)?;
    }
    let loader = "/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
    initramfs.link("lib64/ld-linux-x86-64.so.2", loader)?;
    initramfs.file("etc/os-release", &paths::read(&folder.join(RELEASE))?)?;
    initramfs.pack()
}
