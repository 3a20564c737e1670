//! Loaders: from kernel images to guest memory and an entry state.
//!
//! Three boot protocols are known, told apart by the image itself unless one is asked for: Linux' 64-bit protocol (bzImage), PVH (an ELF image
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
    /// The protocol to use; `None`: the one that the image itself offers.
    pub protocol: Option<Protocol>,
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

impl core::fmt::Display for Protocol {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Linux64 => "Linux boot protocol",
            Self::Pvh => "PVH",
            Self::Multiboot => "multiboot",
        })
    }
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
    let wanted = |protocol| image.protocol.is_none_or(|wanted| wanted == protocol);
    if bzimage::is_bzimage(image.kernel) && wanted(Protocol::Linux64) {
        return bzimage::load(ram, image);
    }
    let elf = if elf_image::is_elf(image.kernel) {
        Some(elf_image::ElfImage::parse(image.kernel)?)
    } else {
        None
    };
    if let Some(elf) = &elf
        && wanted(Protocol::Pvh)
        && let Some(entry) = elf.pvh_entry()
    {
        return pvh::load(ram, image, elf, entry);
    }
    if wanted(Protocol::Multiboot)
        && let Some(header) = multiboot::Header::find(image.kernel)
    {
        return multiboot::load(ram, image, header, elf.as_ref());
    }
    Err(match (image.protocol, elf) {
        (Some(protocol), _) => LoadError::NotOfProtocol(protocol),
        (None, Some(_)) => LoadError::ElfWithoutProtocol,
        (None, None) => LoadError::NotAKernel,
    })
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
        protocol: None,
    };
    let _ = load(&mut ram, &image);
}
