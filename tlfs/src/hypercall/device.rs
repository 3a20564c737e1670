//! Device interrupts (root sheet A.3.8, F.5).

use bitfield_struct::bitfield;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::hypercall::HvInterruptType;
use crate::ids::HvPartitionId;
use crate::macros::{wire_enum, wire_flags, wire_struct};
use crate::vp_set::HvVpSetHeader;

wire_enum! {
    /// Form of a device id, bits 63:62.
    pub struct HvDeviceType(u8);
    LOGICAL = 0, "HvDeviceTypeLogical";
    PCI = 1, "HvDeviceTypePci";
    IOAPIC = 2, "HvDeviceTypeIoapic";
    ACPI = 3, "HvDeviceTypeAcpi";
}

/// Id of a device; the middle depends on the type.
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvDeviceId {
    /// PCI: function 2:0, device 7:3, bus 15:8. IOAPIC: its id in the low byte.
    pub low: u16,
    /// PCI: segment.
    pub segment: u16,
    /// PCI behind a PCI-X bridge: subordinate bus.
    pub subordinate_bus: u8,
    /// PCI behind a PCI-X bridge: secondary bus.
    pub secondary_bus: u8,
    /// PCI: phantom function bits.
    #[bits(2)]
    pub phantom_function_bits: u8,
    /// PCI: the bridge takes the source id of the buses behind it.
    pub source_shadow: bool,
    /// Zero.
    #[bits(11)]
    pub reserved: u16,
    /// Form.
    #[bits(2)]
    pub device_type: u8,
}

impl HvDeviceId {
    /// Form.
    pub const fn form(&self) -> HvDeviceType {
        HvDeviceType(self.device_type())
    }

    /// An IOAPIC.
    pub const fn ioapic(id: u8) -> Self {
        Self::new()
            .with_device_type(HvDeviceType::IOAPIC.0)
            .with_low(id as u16)
    }

    /// A PCI function: `bdf` is bus 15:8, device 7:3, function 2:0.
    pub const fn pci(segment: u16, bdf: u16) -> Self {
        Self::new()
            .with_device_type(HvDeviceType::PCI.0)
            .with_segment(segment)
            .with_low(bdf)
    }
}

wire_enum! {
    /// What an interrupt entry is.
    pub struct HvInterruptSource(u32);
    /// MSI or MSI-X: address in the low half of the data, MSI data in the high half.
    MSI = 1, "HvInterruptSourceMsi";
    /// IOAPIC redirection entry.
    IOAPIC = 2, "HvInterruptSourceIoApic";
}

wire_struct! {
    /// What a device or IOAPIC has to be programmed with. UnmapDeviceInterrupt wants it exactly as returned.
    pub struct HvInterruptEntry [16] {
        /// What it is.
        source @ 0: HvInterruptSource,
        /// Zero.
        reserved @ 4: u32,
        /// MSI or redirection entry.
        data @ 8: u64,
    }
}

impl HvInterruptEntry {
    /// Entry for an MSI.
    pub const fn msi(address: u32, data: u32) -> Self {
        Self {
            source: HvInterruptSource::MSI,
            reserved: 0,
            data: address as u64 | (data as u64) << 32,
        }
    }

    /// Entry for an IOAPIC's redirection entry.
    pub const fn ioapic(redirection: u64) -> Self {
        Self {
            source: HvInterruptSource::IOAPIC,
            reserved: 0,
            data: redirection,
        }
    }
}

wire_enum! {
    /// How an interrupt is triggered.
    pub struct HvInterruptTriggerMode(u32);
    EDGE = 0, "HvInterruptTriggerModeEdge";
    LEVEL = 1, "HvInterruptTriggerModeLevel";
}

wire_flags! {
    /// Target of a device interrupt.
    pub struct HvDeviceInterruptTargetFlags(u32);
    /// To all VPs of the set.
    MULTICAST = 1 << 0;
    /// A VP set is given rather than a mask.
    PROCESSOR_SET = 1 << 1;
}

wire_struct! {
    /// Input of MapDeviceInterrupt. Variable header: the word of the valid banks counts as well as the banks
    /// (its size is banks + 1), unlike in SendSyntheticClusterIpiEx.
    pub struct HvInputMapDeviceInterrupt [80] {
        /// Partition.
        partition_id @ 0: HvPartitionId,
        /// Device.
        device_id @ 8: HvDeviceId,
        /// Zero.
        flags @ 16: u32,
        /// Base in the interrupt remapping table.
        base_irt_index @ 20: u32,
        /// Entry as the device knows it; zero.
        logical_interrupt_entry @ 24: HvInterruptEntry,
        /// Type.
        interrupt_type @ 40: HvInterruptType,
        /// How it is triggered.
        trigger_mode @ 44: HvInterruptTriggerMode,
        /// How many vectors.
        vector_count @ 48: u32,
        /// Zero.
        reserved @ 52: u32,
        /// Vector.
        vector @ 56: u32,
        /// What the set is.
        target_flags @ 60: HvDeviceInterruptTargetFlags,
        /// Target VPs.
        vp_set @ 64: HvVpSetHeader,
    }
}

wire_struct! {
    /// Output of MapDeviceInterrupt.
    pub struct HvOutputMapDeviceInterrupt [56] {
        /// What to program.
        interrupt_entry @ 0: HvInterruptEntry,
        /// Not known; zero.
        extended_status @ 16: [u64; 5],
    }
}

wire_struct! {
    /// Input of UnmapDeviceInterrupt: 36 bytes, so that its words cannot be aligned ones.
    pub struct HvInputUnmapDeviceInterrupt [36] {
        /// Partition.
        partition_id_bytes @ 0: U64,
        /// Device.
        device_id_bytes @ 8: U64,
        /// Source of the entry.
        entry_source @ 16: HvInterruptSource,
        /// Zero.
        entry_reserved @ 20: u32,
        /// Data of the entry.
        entry_data_bytes @ 24: U64,
        /// Flags.
        flags @ 32: u32,
    }
}

impl HvInputUnmapDeviceInterrupt {
    /// Input that undoes the MapDeviceInterrupt which returned `entry`.
    pub const fn new(
        partition_id: HvPartitionId,
        device_id: HvDeviceId,
        entry: HvInterruptEntry,
    ) -> Self {
        Self {
            partition_id_bytes: U64::new(partition_id.0),
            device_id_bytes: U64::new(device_id.into_bits()),
            entry_source: entry.source,
            entry_reserved: entry.reserved,
            entry_data_bytes: U64::new(entry.data),
            flags: 0,
        }
    }

    /// Partition.
    pub const fn partition_id(&self) -> HvPartitionId {
        HvPartitionId(self.partition_id_bytes.get())
    }

    /// Device.
    pub const fn device_id(&self) -> HvDeviceId {
        HvDeviceId::from_bits(self.device_id_bytes.get())
    }

    /// The entry that MapDeviceInterrupt returned.
    pub const fn interrupt_entry(&self) -> HvInterruptEntry {
        HvInterruptEntry {
            source: self.entry_source,
            reserved: self.entry_reserved,
            data: self.entry_data_bytes.get(),
        }
    }
}
