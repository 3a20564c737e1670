//! Names of things: partitions, virtual processors, ports, connections, trust levels; page size.

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::macros::wire_enum;

/// Bytes of a page: of hypercall blocks, SynIC pages, list elements ("pfn", "gpfn").
pub const HV_PAGE_SIZE: usize = 4096;
/// Binary logarithm of [`HV_PAGE_SIZE`].
pub const HV_PAGE_SHIFT: u32 = 12;
/// 4 KiB pages in a large (2 MiB) page.
pub const HV_LARGE_PAGE_PAGES: u64 = 512;

wire_enum! {
    /// Partition id. Nonzero, unique, not reused soon (root sheet A.3.1).
    pub struct HvPartitionId(u64);
    /// Never a partition; in an enumeration the end.
    INVALID = 0x0000_0000_0000_0000, "HV_PARTITION_ID_INVALID";
    /// The caller's own partition.
    SELF = 0xFFFF_FFFF_FFFF_FFFF, "HV_PARTITION_ID_SELF";
}

wire_enum! {
    /// Index of a virtual processor in its partition: dense, from 0.
    pub struct HvVpIndex(u32);
    /// Any VP: targets of ports, and of RegisterInterceptResult.
    ANY = 0xFFFF_FFFF, "HV_ANY_VP";
    /// The VP that makes the call.
    SELF = 0xFFFF_FFFE, "HV_VP_INDEX_SELF";
}

wire_enum! {
    /// Port id: 24 bits, the upper 8 must be zero. Numbered by the port's partition.
    pub struct HvPortId(u32);
}

wire_enum! {
    /// Connection id: 24 bits, the upper 8 must be zero. Numbered by the sender's partition.
    pub struct HvConnectionId(u32);
}

impl HvPortId {
    /// The id's 24 bits, `None` if one of the upper 8 is set.
    pub const fn id(self) -> Option<u32> {
        id24(self.0)
    }
}

impl HvConnectionId {
    /// The id's 24 bits, `None` if one of the upper 8 is set.
    pub const fn id(self) -> Option<u32> {
        id24(self.0)
    }
}

const fn id24(value: u32) -> Option<u32> {
    if value >> 24 == 0 { Some(value) } else { None }
}

/// Target trust level of a call, one byte (`HV_INPUT_VTL`). Zero: the level the VP is in.
#[bitfield(u8)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvInputVtl {
    /// Level.
    #[bits(4)]
    pub target_vtl: u8,
    /// Use `target_vtl` instead of the VP's current level.
    pub use_target_vtl: bool,
    /// Zero.
    #[bits(3)]
    pub reserved: u8,
}

impl HvInputVtl {
    /// Whether this names level 0, the only one that exists here: by default or explicitly.
    pub const fn is_vtl0(&self) -> bool {
        !self.use_target_vtl() || self.target_vtl() == 0
    }
}

/// Proximity domain (NUMA node) wish in calls that allocate (`HV_PROXIMITY_DOMAIN_INFO`).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct HvProximityDomainInfo {
    /// Domain.
    pub domain_id: u32,
    /// Bit 0: preferred; bit 31: the domain is valid.
    pub flags: u32,
}
const _: () = assert!(core::mem::size_of::<HvProximityDomainInfo>() == 8);
