//! Reference time, synthetic timers, crash control (guest sheet 4.5 to 4.12).

use bitfield_struct::bitfield;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::macros::wire_struct;

/// Reference time units (100 ns) in a second.
pub const HV_REFERENCE_TIME_HZ: u64 = 10_000_000;

wire_struct! {
    /// Start of the reference TSC page: reference time = ((tsc * scale) >> 64) + offset.
    ///
    /// To change it: write sequence 0, then scale and offset, then the next sequence that is not 0, in this order.
    pub struct HvReferenceTscPage [24] {
        /// 0: the page says nothing, use the MSR.
        tsc_sequence @ 0: u32,
        /// Zero.
        reserved @ 4: u32,
        /// 64.64 fixed point fraction.
        tsc_scale @ 8: u64,
        /// 100 ns.
        tsc_offset @ 16: i64,
    }
}

impl HvReferenceTscPage {
    /// Scale for a TSC of `tsc_hz`. `None` unless the TSC is faster than the reference time.
    pub const fn scale_for(tsc_hz: u64) -> Option<u64> {
        if tsc_hz <= HV_REFERENCE_TIME_HZ {
            return None;
        }
        Some((((HV_REFERENCE_TIME_HZ as u128) << 64) / tsc_hz as u128) as u64)
    }

    /// Reference time at `tsc`, in 100 ns, modulo 2^64. Meaningless while the sequence is 0.
    pub const fn reference_time(&self, tsc: u64) -> u64 {
        let scaled = ((tsc as u128 * self.tsc_scale as u128) >> 64) as u64;
        scaled.wrapping_add_signed(self.tsc_offset)
    }
}

/// MSR STIMERn_CONFIG (guest sheet 4.10).
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvStimerConfig {
    /// Runs.
    pub enable: bool,
    /// The count is a period.
    pub periodic: bool,
    /// May wait until the VP runs for another reason.
    pub lazy: bool,
    /// A write of a nonzero count enables.
    pub auto_enable: bool,
    /// Vector of direct mode.
    pub apic_vector: u8,
    /// Interrupt at the local APIC instead of a message.
    pub direct_mode: bool,
    /// Must be zero.
    #[bits(3)]
    pub reserved_13: u8,
    /// SINT of message mode.
    #[bits(4)]
    pub sintx: u8,
    /// Must be zero.
    #[bits(44)]
    pub reserved_20: u64,
}

impl HvStimerConfig {
    /// Whether a bit is set that must be zero: general protection fault.
    pub const fn has_reserved_bits(&self) -> bool {
        self.reserved_13() != 0 || self.reserved_20() != 0
    }
}

/// MSR CRASH_CTL (guest sheet 4.12). A read tells what is supported, a write what happened.
#[bitfield(u64)]
#[derive(PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvCrashCtl {
    /// Zero.
    #[bits(58)]
    pub reserved: u64,
    /// Phase before the operating system.
    #[bits(3)]
    pub pre_os_id: u8,
    /// No crash dump will follow.
    pub no_crash_dump: bool,
    /// P3 is the GPA and P4 the length in bytes of a text, one page at most.
    pub crash_message: bool,
    /// P0 to P4 are given.
    pub crash_notify: bool,
}
