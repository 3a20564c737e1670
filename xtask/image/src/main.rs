//! Writes a bootable UEFI disk image: `partita-image HYPERVISOR ARCHIVE IMAGE`.
//!
//! A program of its own because the loader inside is compiled for UEFI, which takes another toolchain than the one
//! `cargo xtask` runs with. `cargo xtask` builds it once and calls it for every image.

use std::path::PathBuf;
use std::process::ExitCode;

use bootloader::{BootConfig, UefiBoot};
use bootloader_boot_config::LevelFilter;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [hypervisor, archive, image] = arguments.as_slice() else {
        eprintln!("usage: partita-image HYPERVISOR ARCHIVE IMAGE");
        return ExitCode::from(2);
    };
    // The serial line belongs to the hypervisor; the loader speaks up only when something is wrong.
    let mut config = BootConfig::default();
    config.log_level = LevelFilter::Warn;
    let result = UefiBoot::new(hypervisor)
        .set_ramdisk(archive)
        .set_boot_config(&config)
        .create_disk_image(image);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("partita-image: {error:#}");
            ExitCode::FAILURE
        }
    }
}
