//! Loaders: from kernel images to guest memory and an entry state.
//!
//! Three boot protocols are known, told apart by the image itself: Linux' 64-bit protocol (bzImage), PVH (an ELF image
//! with the Xen note for a 32-bit entry, as vmlinux has) and multiboot 1. An image is input from outside: whatever is
//! in it, loading ends with a state or a [`LoadError`] that says what is wrong with it.

mod bytes;
mod bzimage;
mod elf_image;
mod error;
mod multiboot;
mod place;
mod pvh;
mod registers;

use alloc::vec::Vec;

use tlfs::HvRegisterAssoc;

pub use error::LoadError;

use crate::layout;
use crate::ram::GuestRam;

/// What to start.
#[derive(Clone, Copy, Debug)]
pub struct BootImage<'a> {
    /// The kernel file.
    pub kernel: &'a [u8],
    /// The initial RAM disk, or a payload's one module.
    pub initrd: Option<&'a [u8]>,
    /// The kernel's command line.
    pub command_line: &'a str,
    /// Seed for the guest's random number generator. Real randomness or nothing.
    pub rng_seed: Option<[u8; 32]>,
    /// GPA of the RSDP.
    pub rsdp: u64,
}

/// A boot protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Linux' 64-bit boot protocol.
    Linux64,
    /// PVH.
    Pvh,
    /// Multiboot 1.
    Multiboot,
}

/// The state in which VP 0 starts.
#[derive(Clone, Debug)]
pub struct InitialState {
    /// How the kernel is started.
    pub protocol: Protocol,
    /// Registers to set, in this order; all others keep their reset values.
    pub registers: Vec<HvRegisterAssoc>,
}

/// Puts a kernel, its initrd and its boot information into guest memory.
///
/// Guest memory must be all zero, but for the ACPI tables. On an error it is in no usable state.
pub fn load<R: GuestRam>(ram: &mut R, image: &BootImage<'_>) -> Result<InitialState, LoadError> {
    if image.kernel.is_empty() {
        return Err(LoadError::Empty);
    }
    if ram.layout().low_end() < layout::ONE_MIB {
        return Err(LoadError::TooLittleMemory {
            have: ram.layout().size(),
        });
    }
    if elf_image::is_elf(image.kernel) {
        let elf = elf_image::ElfImage::parse(image.kernel)?;
        if let Some(entry) = elf.pvh_entry() {
            return pvh::load(ram, image, &elf, entry);
        }
        let header = multiboot::Header::find(image.kernel).ok_or(LoadError::ElfWithoutProtocol)?;
        return multiboot::load(ram, image, header, Some(&elf));
    }
    if bzimage::is_bzimage(image.kernel) {
        return bzimage::load(ram, image);
    }
    match multiboot::Header::find(image.kernel) {
        Some(header) => multiboot::load(ram, image, header, None),
        None => Err(LoadError::NotAKernel),
    }
}

#[cfg(test)]
mod tests;

/// Fuzz target: any bytes as a kernel image. Nothing but a panic is a failure.
pub fn fuzz_bzimage(data: &[u8]) {
    let mut ram = crate::ram::VecRam::new(8 << 20);
    let image = BootImage {
        kernel: data,
        initrd: Some(&data[..data.len().min(5000)]),
        command_line: "console=ttyS0",
        rng_seed: Some([7; 32]),
        rsdp: layout::ACPI_TABLES,
    };
    let _ = load(&mut ram, &image);
}
