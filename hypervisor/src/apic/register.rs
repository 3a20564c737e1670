//! The registers, by their place in the APIC's register space.

use super::lvt::LvtEntry;

/// A register of the local APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// APIC id.
    Id,
    /// Version and number of LVT entries.
    Version,
    /// Task priority.
    TaskPriority,
    /// Processor priority.
    ProcessorPriority,
    /// End of interrupt.
    Eoi,
    /// Logical destination.
    LogicalDestination,
    /// Destination format: of the xAPIC page alone.
    DestinationFormat,
    /// Spurious interrupt vector, and the software enable.
    SpuriousVector,
    /// In-service register 0 to 7.
    InService(u8),
    /// Trigger mode register 0 to 7.
    TriggerMode(u8),
    /// Interrupt request register 0 to 7.
    InterruptRequest(u8),
    /// Error status.
    ErrorStatus,
    /// Interrupt command.
    InterruptCommand,
    /// The destination of the interrupt command: of the xAPIC page alone.
    InterruptDestination,
    /// A local vector table entry.
    Lvt(LvtEntry),
    /// Timer's initial count.
    InitialCount,
    /// Timer's current count.
    CurrentCount,
    /// Timer's divide configuration.
    DivideConfiguration,
    /// Self IPI: not of the xAPIC page.
    SelfIpi,
}

impl Register {
    /// From an x2APIC MSR's number less 0x800.
    #[inline(always)]
    pub const fn from_index(index: u32) -> Option<Self> {
        Some(match index {
            0x02 => Self::Id,
            0x03 => Self::Version,
            0x08 => Self::TaskPriority,
            0x0A => Self::ProcessorPriority,
            0x0B => Self::Eoi,
            0x0D => Self::LogicalDestination,
            0x0F => Self::SpuriousVector,
            0x10..=0x17 => Self::InService(index as u8 & 7),
            0x18..=0x1F => Self::TriggerMode(index as u8 & 7),
            0x20..=0x27 => Self::InterruptRequest(index as u8 & 7),
            0x28 => Self::ErrorStatus,
            0x2F => Self::Lvt(LvtEntry::Cmci),
            0x30 => Self::InterruptCommand,
            0x32 => Self::Lvt(LvtEntry::Timer),
            0x33 => Self::Lvt(LvtEntry::Thermal),
            0x34 => Self::Lvt(LvtEntry::Performance),
            0x35 => Self::Lvt(LvtEntry::Lint0),
            0x36 => Self::Lvt(LvtEntry::Lint1),
            0x37 => Self::Lvt(LvtEntry::Error),
            0x38 => Self::InitialCount,
            0x39 => Self::CurrentCount,
            0x3E => Self::DivideConfiguration,
            0x3F => Self::SelfIpi,
            _ => return None,
        })
    }

    /// From the offset in the xAPIC page in steps of 16 bytes.
    pub(super) const fn in_page(index: u32) -> Option<Self> {
        match index {
            0x0E => Some(Self::DestinationFormat),
            0x31 => Some(Self::InterruptDestination),
            0x3F => None,
            index => Self::from_index(index),
        }
    }
}
