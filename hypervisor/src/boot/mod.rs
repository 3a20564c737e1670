//! From the UEFI loader's hand-over to `hypervisor::start`.
//!
//! The hypervisor moves: one block of RAM takes its image, page tables, stacks and pools, so that everything else, the
//! loader's memory included, can be the root's. [`enter`] prepares the block on the loader's page tables and stack,
//! `arrival` goes on on our own.

pub mod acpi;
mod arrival;
mod image;
mod machine;
pub mod memory;
pub mod paging;
mod plan;
pub mod pool;
pub mod secondary;
mod stacks;

use core::sync::atomic::{AtomicU64, Ordering};

use bootloader_api::BootInfo;
use bootloader_api::config::{BootloaderConfig, Mapping};

pub use machine::{Archive, FrameBuffer, Machine};

static IMAGE_BASE: AtomicU64 = AtomicU64::new(0);
static TSC_HZ: AtomicU64 = AtomicU64::new(0);

/// What is asked of the UEFI loader.
pub const LOADER_CONFIG: BootloaderConfig = {
    let mut config = BootloaderConfig::new_default();
    config.kernel_stack_size = 128 << 10;
    config.mappings.kernel_base = Mapping::FixedAddress(paging::IMAGE);
    config.mappings.physical_memory = Some(Mapping::FixedAddress(paging::PHYSICAL_MEMORY));
    config
};

/// Where the image is mapped: subtracted from an address of a panic's way here, it gives the address in the ELF file.
pub fn image_base() -> u64 {
    IMAGE_BASE.load(Ordering::Relaxed)
}

/// TSC ticks a second; 0 before they are known.
pub fn tsc_hz() -> u64 {
    TSC_HZ.load(Ordering::Relaxed)
}

/// Why the hypervisor does not start. Said on the serial line and the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// The processor.
    Processor(crate::arch::Refusal),
    /// The machine's memory has more holes than fit.
    TooManyRanges,
    /// Not enough RAM, or none in one piece: MiB found.
    TooLittleMemory(u64),
    /// No boot archive was given to the loader.
    NoArchive,
    /// The archive's header is damaged.
    DamagedArchive(boot_archive::ArchiveError),
    /// The loader did not keep what it promises.
    Loader(&'static str),
}

impl core::fmt::Display for BootError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Processor(refusal) => write!(f, "{refusal}"),
            Self::TooManyRanges => write!(f, "the firmware's memory map has too many pieces"),
            Self::TooLittleMemory(found) => {
                write!(
                    f,
                    "too little memory: {found} MiB found, {} MiB needed",
                    plan::MINIMUM_MIB
                )
            }
            Self::NoArchive => write!(
                f,
                "there is no boot archive beside the hypervisor on the boot disk"
            ),
            Self::DamagedArchive(error) => write!(f, "the boot archive is damaged: {error}"),
            Self::Loader(what) => write!(f, "the boot loader gave no {what}"),
        }
    }
}

impl From<crate::mem::table::TableError> for BootError {
    fn from(_: crate::mem::table::TableError) -> Self {
        Self::Loader("memory for page tables")
    }
}

/// Starts the hypervisor: describes the machine, moves to memory of its own and calls `start` there, on a stack of its
/// own, with interrupts off. Refuses with a message where that cannot be.
///
/// # Safety
/// Called once, by the loader, on the processor that booted, with the loader's `info`.
pub unsafe fn enter(info: &'static mut BootInfo, start: fn(Machine) -> !) -> ! {
    x86_64::instructions::interrupts::disable();
    crate::log::init(log::LevelFilter::Info);
    log::info!("Partita {}", env!("CARGO_PKG_VERSION"));
    IMAGE_BASE.store(info.kernel_image_offset, Ordering::Relaxed);
    plan::screen_of(info);
    // SAFETY: the loader's tables are active, and this is its hand-over (this function's contract).
    let refusal = match unsafe { plan::prepare(info, start) } {
        // SAFETY: `prepare` made the tables, and the arrival is the only thing to run on them.
        Ok(departure) => unsafe { departure.go() },
        Err(error) => error,
    };
    crate::log::refuse(refusal)
}
