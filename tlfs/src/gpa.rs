//! Flags of the calls that change a GPA space (root sheet A.3.3).

use crate::macros::wire_flags;

wire_flags! {
    /// How MapGpaPages maps (`HV_MAP_GPA_FLAGS`).
    pub struct HvMapGpaFlags(u32);
    /// Readable.
    READABLE = 0x1;
    /// Writable.
    WRITABLE = 0x2;
    /// Executable in supervisor mode.
    KERNEL_EXECUTABLE = 0x4;
    /// Executable in user mode.
    USER_EXECUTABLE = 0x8;
    /// Executable.
    EXECUTABLE = 0xC;
    /// All rights.
    PERMISSIONS_MASK = 0xF;
    /// Rights may be narrowed later; Linux sets it on all RAM.
    ADJUSTABLE = 0x8000;
    /// Present, but any access is a GPA intercept. The source list is all zeros and means nothing.
    NO_ACCESS = 0x1_0000;
    /// Backed by zeros.
    ZEROED = 0x2_0000;
    /// Backed by ones. As a value ZEROED and NO_ACCESS together.
    ONES = 0x3_0000;
    /// No overlay page may lie here.
    NO_OVERLAY = 0x10_0000;
    /// Uncached; Linux sets it for MMIO.
    NOT_CACHED = 0x20_0000;
    /// Clear accessed.
    CLEAR_ACCESSED = 0x0100_0000;
    /// Set accessed.
    SET_ACCESSED = 0x0200_0000;
    /// Clear dirty.
    CLEAR_DIRTY = 0x0400_0000;
    /// Set dirty.
    SET_DIRTY = 0x0800_0000;
    /// Do not set range accessed.
    NOT_RANGE_ACCESSED = 0x1000_0000;
    /// One list element is 2 MiB: the base is still counted in 4 KiB and a multiple of 512.
    LARGE_PAGE = 0x8000_0000;
}

wire_flags! {
    /// How UnmapGpaPages unmaps (`HV_UNMAP_GPA_FLAGS`).
    pub struct HvUnmapGpaFlags(u32);
    /// Keep the pages precommitted.
    KEEP_PRECOMMITTED = 0x1;
    /// One rep is 2 MiB.
    LARGE_PAGE = 0x2;
}

wire_flags! {
    /// What GetGpaPagesAccessStates does after it has reported.
    pub struct HvGpaPageAccessStateFlags(u64);
    /// Clear accessed.
    CLEAR_ACCESSED = 1 << 0;
    /// Set accessed.
    SET_ACCESSED = 1 << 1;
    /// Clear dirty.
    CLEAR_DIRTY = 1 << 2;
    /// Set dirty.
    SET_DIRTY = 1 << 3;
}

wire_flags! {
    /// What GetGpaPagesAccessStates reports of a page, one byte each.
    pub struct HvGpaPageAccessState(u8);
    /// Accessed.
    ACCESSED = 1 << 0;
    /// Dirty.
    DIRTY = 1 << 1;
}
