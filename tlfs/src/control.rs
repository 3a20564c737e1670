//! The control word and the result word of a hypercall (guest sheet 5.1, root sheet A.1).

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::call_code::HvCallCode;
use crate::status::HvStatus;

/// Largest rep count or rep index: 12 bits.
pub const HV_HYPERCALL_MAX_REPS: u16 = 0xFFF;

/// What the caller puts into RCX.
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvHypercallInput {
    /// Call code.
    #[bits(16)]
    pub call_code: HvCallCode,
    /// Input in registers instead of memory.
    pub fast: bool,
    /// Length of the variable header in units of 8 bytes.
    #[bits(10)]
    pub variable_header_size: usize,
    /// Must be zero.
    #[bits(4)]
    pub reserved_27: u8,
    /// Addressed to the hypervisor below; must be zero without nesting.
    pub nested: bool,
    /// Number of list elements; zero for a simple call.
    #[bits(12)]
    pub rep_count: usize,
    /// Must be zero.
    #[bits(4)]
    pub reserved_44: u8,
    /// First element not yet done.
    #[bits(12)]
    pub rep_start: usize,
    /// Must be zero.
    #[bits(4)]
    pub reserved_60: u8,
}

impl HvHypercallInput {
    /// Control word of a simple call without a variable header.
    pub const fn simple(code: HvCallCode) -> Self {
        Self::new().with_call_code(code)
    }

    /// Control word of a rep call over `count` elements, starting with the first. Counts above
    /// [`HV_HYPERCALL_MAX_REPS`] do not fit: `None`.
    pub const fn rep(code: HvCallCode, count: usize) -> Option<Self> {
        if count > HV_HYPERCALL_MAX_REPS as usize {
            return None;
        }
        Some(Self::new().with_call_code(code).with_rep_count(count))
    }

    /// Whether the word is nothing but a call code: a simple call with its parameters in memory.
    pub const fn is_code_alone(&self) -> bool {
        self.into_bits() >> 16 == 0
    }

    /// Whether a bit is set that must be zero.
    pub const fn has_reserved_bits(&self) -> bool {
        self.reserved_27() != 0 || self.reserved_44() != 0 || self.reserved_60() != 0
    }

    /// Elements that remain: count minus start, `None` if the start is not below a nonzero count.
    pub fn reps_left(&self) -> Option<usize> {
        match self.rep_count().checked_sub(self.rep_start()) {
            Some(left) if left > 0 => Some(left),
            _ => None,
        }
    }
}

/// What the hypervisor puts into RAX.
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvHypercallResult {
    /// Status.
    #[bits(16)]
    pub call_status: HvStatus,
    /// Zero.
    #[bits(16)]
    pub reserved_16: u16,
    /// Elements done, counted from the start of the list and not from the rep start; right for errors too.
    #[bits(12)]
    pub reps_completed: usize,
    /// Zero.
    #[bits(20)]
    pub reserved_44: u32,
}

impl HvHypercallResult {
    /// Result of a simple call.
    pub const fn simple(status: HvStatus) -> Self {
        Self::new().with_call_status(status)
    }

    /// Result of a rep call: `reps_completed` counts from the start of the list and is cut to 12 bits.
    pub const fn rep(status: HvStatus, reps_completed: usize) -> Self {
        Self::new()
            .with_call_status(status)
            .with_reps_completed(reps_completed & HV_HYPERCALL_MAX_REPS as usize)
    }
}
