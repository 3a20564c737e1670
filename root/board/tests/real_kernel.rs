//! The loader against a distribution's kernel.
//!
//! Ignored unless asked for, since it needs a file: `PARTITA_BZIMAGE=path cargo test -p board -- --ignored`.

use board::layout::{ACPI_TABLES, BOOT_INFO};
use board::load::{BootImage, LoadError, Protocol, load};
use board::ram::{GuestRam, VecRam};

fn kernel() -> Vec<u8> {
    let path = std::env::var("PARTITA_BZIMAGE").expect("PARTITA_BZIMAGE names a bzImage");
    std::fs::read(path).expect("the file is readable")
}

fn image(kernel: &[u8]) -> BootImage<'_> {
    BootImage {
        kernel,
        initrd: Some(&[1; 100]),
        command_line: "console=ttyS0",
        rng_seed: None,
        rsdp: ACPI_TABLES,
        protocol: None,
    }
}

#[test]
#[ignore = "needs PARTITA_BZIMAGE"]
fn a_distribution_kernel_loads_in_256_mib() {
    let kernel = kernel();
    let mut ram = VecRam::new(256 << 20);
    let state = load(&mut ram, &image(&kernel)).expect("the kernel loads");
    assert_eq!(state.protocol, Protocol::Linux64);
    let mut magic = [0; 4];
    ram.read(BOOT_INFO + 0x202, &mut magic).expect("RAM");
    assert_eq!(&magic, b"HdrS");
}

#[test]
#[ignore = "needs PARTITA_BZIMAGE"]
fn a_distribution_kernel_that_is_cut_off_or_gets_too_little_memory_is_refused() {
    let kernel = kernel();
    let mut ram = VecRam::new(256 << 20);
    let half = &kernel[..kernel.len() / 2];
    let cut = load(&mut ram, &image(half)).map(|_| ());
    assert!(matches!(cut, Err(LoadError::Truncated { .. })), "{cut:?}");
    let mut ram = VecRam::new(16 << 20);
    let small = load(&mut ram, &image(&kernel)).map(|_| ());
    assert!(matches!(small, Err(LoadError::Place { .. })), "{small:?}");
}
