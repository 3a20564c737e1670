//! The machine, as the integrating code gets it.

use core::ptr::NonNull;

use super::acpi::Processors;
use super::memory::MemoryMap;
use super::paging::HostTables;
use super::pool::Pool;
use crate::arch::Capabilities;
use crate::arch::fpu::FpuFormat;
use crate::cpu::apic::{LocalApic, Mode};
use crate::cpu::local::Local;
use crate::log::PixelOrder;
use crate::mem::addr::Spa;
use crate::mem::phys::PhysMap;

/// The firmware's frame buffer.
#[derive(Clone, Copy, Debug)]
pub struct FrameBuffer {
    /// Its first byte.
    pub start: Spa,
    /// Its bytes.
    pub bytes: u64,
    /// Pixels in a line.
    pub width: usize,
    /// Lines.
    pub height: usize,
    /// Pixels from the start of a line to the next.
    pub stride: usize,
    /// Bytes of a pixel.
    pub bytes_per_pixel: usize,
    /// Order of the colours.
    pub order: PixelOrder,
}

/// The boot archive, in RAM of the root. Its header is checked, its contents are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Its first byte, page-aligned.
    pub start: Spa,
    /// Its length by its header, a multiple of 4096.
    pub length: u64,
    /// Offset of the loader image in it.
    pub loader_offset: u64,
    /// Length of the loader image, its zeroed data included.
    pub loader_length: u64,
}

/// Everything the boot code found out and made.
#[derive(Debug)]
pub struct Machine {
    /// All memory up to the end of RAM and ACPI tables.
    pub phys: PhysMap,
    /// The page tables that are active.
    pub tables: HostTables,
    /// The memory as the root gets it: the hypervisor's own block is reserved in it, the loader's memory is RAM.
    pub memory: MemoryMap,
    /// The hypervisor's own block, first byte and byte after the last: image, page tables, stacks, pool.
    pub own: (Spa, Spa),
    /// What is left of the block, a contiguous piece.
    pub pool: Pool,
    /// The boot archive.
    pub archive: Archive,
    /// The RSDP, if the firmware has one.
    pub rsdp: Option<Spa>,
    /// The firmware's frame buffer, if it has one. It is the root's.
    pub frame_buffer: Option<FrameBuffer>,
    /// TSC ticks a second.
    pub tsc_hz: u64,
    /// Processors by the MADT; the one that booted is the first.
    pub processors: Processors,
    /// What virtualization can do here.
    pub capabilities: Capabilities,
    /// Which floating point state there is.
    pub fpu_format: FpuFormat,
    /// How local APICs are reached here.
    pub apic_mode: Mode,
    /// Their registers in memory, mapped, where that is how.
    pub apic_registers: Option<NonNull<u32>>,
    /// The local APIC of the processor that booted, on; the run loop takes it.
    pub apic: Option<LocalApic>,
    /// The block of the processor that booted, installed.
    pub local: &'static Local,
}
