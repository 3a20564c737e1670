//! A guest's own page tables, walked in software as the processor would: for HvCallTranslateVirtualAddress (root
//! sheet A.3.4) and for fetching instructions.
//!
//! The tables are the guest's memory and may change at any time. Each entry is read once; accessed and dirty bits are set
//! by compare-and-exchange against what was read, and a change in between starts the walk again, a bounded number of times.
//!
//! Sources: AMD APM vol. 2, chapter 5; Intel SDM vol. 3, 4.3 to 4.7; TLFS `HvCallTranslateVirtualAddress`.

mod check;
mod entry;
#[cfg(test)]
mod fake;
mod fetch;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
mod walk;

pub use fetch::fetch;
pub use walk::translate;

use bitflags::bitflags;

use super::addr::Gpa;

bitflags! {
    /// What kind of access is asked about, with the values of HV_TRANSLATE_GVA_CONTROL_FLAGS. Flags of the TLFS that are
    /// not here change nothing about the walk.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TranslateFlags: u64 {
        /// The page must be readable.
        const READ = 0x1;
        /// The page must be writable.
        const WRITE = 0x2;
        /// The page must be executable.
        const EXECUTE = 0x4;
        /// Not checked against user or supervisor pages, SMEP, SMAP and protection keys.
        const PRIVILEGE_EXEMPT = 0x8;
        /// Accessed and dirty bits are set as the access would.
        const SET_PAGE_TABLE_BITS = 0x10;
        /// Checked as a supervisor access, whatever the CPL.
        const SUPERVISOR_ACCESS = 0x40;
        /// Checked as a user access, whatever the CPL. With both, both must be allowed.
        const USER_ACCESS = 0x80;
        /// SMAP counts even if RFLAGS.AC is set.
        const ENFORCE_SMAP = 0x100;
        /// SMAP does not count.
        const OVERRIDE_SMAP = 0x200;
    }
}

/// What of a VP's state decides how it translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagingState {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
    /// RFLAGS.AC.
    pub alignment_check: bool,
    /// CPL, 0 to 3.
    pub cpl: u8,
    /// PKRU; matters with CR4.PKE.
    pub pkru: u32,
    /// The VP's physical address width, 32 to 52.
    pub physical_bits: u8,
    /// The VP's CPUID has 1 GiB pages.
    pub gib_pages: bool,
}

/// Why guest physical memory could not be accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GpaFault {
    /// Nothing is mapped there.
    Unmapped,
    /// Mapped without read access (or execute access, for a fetch).
    NoReadAccess,
    /// Mapped without write access.
    NoWriteAccess,
    /// An overlay page lies there that must not be accessed so.
    IllegalOverlay,
    /// The parent intercepts it.
    Intercept,
}

/// The guest's physical memory. Words are 8-aligned.
pub trait GuestMemory {
    /// Reads a word in one access.
    ///
    /// # Errors
    ///
    /// [`GpaFault`]
    fn read_u64(&self, at: Gpa) -> Result<u64, GpaFault>;

    /// Replaces `old` by `new` in one access. Returns what was found, `old` on success.
    ///
    /// # Errors
    ///
    /// [`GpaFault`]
    fn compare_exchange_u64(&self, at: Gpa, old: u64, new: u64) -> Result<u64, GpaFault>;

    /// Whether an address can be accessed (by READ, WRITE and EXECUTE in `access`).
    ///
    /// # Errors
    ///
    /// [`GpaFault`]
    fn check(&self, at: Gpa, access: TranslateFlags) -> Result<(), GpaFault>;
}

/// A successful translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Guest physical address.
    pub gpa: Gpa,
    /// Bytes of the page that it lies in: 4 KiB to 1 GiB. 4 KiB without paging.
    pub page_bytes: u64,
    /// Index into the guest's PAT. None without paging (write-back).
    pub pat_index: Option<u8>,
}

/// Why there is no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkError {
    /// The address is not canonical: a data access gets #GP or #SS, no #PF.
    NotCanonical,
    /// An entry is not present.
    NotPresent {
        /// Of the #PF.
        error_code: u32,
    },
    /// All entries are present, but do not allow the access.
    PrivilegeViolation {
        /// Of the #PF.
        error_code: u32,
    },
    /// A reserved bit is set in an entry.
    InvalidPageTableFlags {
        /// Of the #PF.
        error_code: u32,
    },
    /// A table or the page itself cannot be accessed in guest physical memory.
    Gpa {
        /// The address that could not.
        gpa: Gpa,
        /// Why.
        fault: GpaFault,
    },
}

impl WalkError {
    /// HV_TRANSLATE_GVA_RESULT_CODE. An address that is not canonical counts as not present.
    pub const fn result_code(self) -> u32 {
        match self {
            Self::NotCanonical | Self::NotPresent { .. } => 1,
            Self::PrivilegeViolation { .. } => 2,
            Self::InvalidPageTableFlags { .. } => 3,
            Self::Gpa { fault, .. } => match fault {
                GpaFault::Unmapped => 4,
                GpaFault::NoReadAccess => 5,
                GpaFault::NoWriteAccess => 6,
                GpaFault::IllegalOverlay => 7,
                GpaFault::Intercept => 8,
            },
        }
    }
}

impl PagingState {
    const CR0_WP: u64 = 1 << 16;
    const CR0_PG: u64 = 1 << 31;
    const CR4_PSE: u64 = 1 << 4;
    const CR4_PAE: u64 = 1 << 5;
    const CR4_LA57: u64 = 1 << 12;
    const CR4_SMEP: u64 = 1 << 20;
    const CR4_SMAP: u64 = 1 << 21;
    const CR4_PKE: u64 = 1 << 22;
    const EFER_LMA: u64 = 1 << 10;
    const EFER_NXE: u64 = 1 << 11;

    const fn cr4_has(&self, bits: u64) -> bool {
        self.cr4 & bits == bits
    }

    const fn write_protect(&self) -> bool {
        self.cr0 & Self::CR0_WP != 0
    }

    const fn no_execute_enabled(&self) -> bool {
        self.efer & Self::EFER_NXE != 0
    }
}
