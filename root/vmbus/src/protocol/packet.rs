//! Packets in a ring (section 7.2).

use tlfs::{wire_enum, wire_struct};

/// Bytes of a unit in which a descriptor counts.
pub const PACKET_UNIT: u32 = 8;
/// Bytes of a packet descriptor.
pub const DESCRIPTOR_SIZE: u32 = size_of::<PacketDescriptor>() as u32;
/// Bytes of the trailer behind each packet (trap 23).
pub const TRAILER_SIZE: u32 = size_of::<PacketTrailer>() as u32;
/// Flag of a descriptor: the sender waits for a completion.
pub const COMPLETION_REQUESTED: u16 = 1;

wire_enum! {
    /// Type of a packet.
    pub struct PacketType(u16);
    INVALID = 0x0, "INVALID";
    DATA_IN_BAND = 0x6, "DATA_IN_BAND";
    DATA_USING_TRANSFER_PAGES = 0x7, "DATA_USING_TRANSFER_PAGES";
    DATA_USING_GPADL = 0x8, "DATA_USING_GPADL";
    DATA_USING_GPA_DIRECT = 0x9, "DATA_USING_GPA_DIRECT";
    CANCEL_REQUEST = 0xA, "CANCEL_REQUEST";
    COMPLETION = 0xB, "COMPLETION";
}

wire_struct! {
    /// First 16 bytes of a packet.
    pub struct PacketDescriptor [16] {
        /// Type.
        packet_type @ 0: PacketType,
        /// Where the payload starts, in units of 8 bytes, at least 2.
        data_offset8 @ 2: u16,
        /// The whole packet without trailer, in units of 8 bytes.
        length8 @ 4: u16,
        /// Flags.
        flags @ 6: u16,
        /// Opaque, all 64 bits of it (trap 27).
        transaction_id @ 8: u64,
    }
}

wire_struct! {
    /// Last 8 bytes of a packet.
    pub struct PacketTrailer [8] {
        /// Zero.
        reserved @ 0: u32,
        /// Index where the packet starts.
        start @ 4: u32,
    }
}

wire_struct! {
    /// Behind the descriptor of a packet with GPA direct ranges.
    pub struct GpaDirectHeader [8] {
        /// Ignored.
        reserved @ 0: u32,
        /// Ranges that follow.
        range_count @ 4: u32,
    }
}

wire_struct! {
    /// A range of pages: in GPA direct packets, and in the range buffer of a GPADL. Its page numbers follow, 8 bytes each.
    pub struct PageRangeHeader [8] {
        /// Bytes.
        byte_count @ 0: u32,
        /// Bytes of the first page before the range.
        byte_offset @ 4: u32,
    }
}

impl PageRangeHeader {
    /// How many page numbers follow.
    pub fn pages(&self) -> u64 {
        (u64::from(self.byte_offset) + u64::from(self.byte_count))
            .div_ceil(tlfs::HV_PAGE_SIZE as u64)
    }

    /// Whether the range starts in its first page.
    pub fn starts_in_first_page(&self) -> bool {
        (self.byte_offset as usize) < tlfs::HV_PAGE_SIZE
    }
}

wire_struct! {
    /// Behind the descriptor of a packet that uses transfer pages.
    pub struct TransferPagesHeader [8] {
        /// Which buffer of the guest: its driver chose the number.
        page_set_id @ 0: u16,
        /// 0.
        sender_owns_set @ 2: u8,
        /// Zero.
        reserved @ 3: u8,
        /// Ranges that follow.
        range_count @ 4: u32,
    }
}

wire_struct! {
    /// A part of a transfer page set.
    pub struct TransferPageRange [8] {
        /// Bytes.
        byte_count @ 0: u32,
        /// Offset in the buffer.
        byte_offset @ 4: u32,
    }
}
