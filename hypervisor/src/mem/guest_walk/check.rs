//! Whether an access is allowed by what the entries say together.

use super::entry::{Mode, NO_EXECUTE, USER, WRITABLE};
use super::{PagingState, TranslateFlags};

/// Bits of a #PF error code.
const PF_PRESENT: u32 = 1;
const PF_WRITE: u32 = 1 << 1;
const PF_USER: u32 = 1 << 2;
const PF_RESERVED: u32 = 1 << 3;
const PF_FETCH: u32 = 1 << 4;
const PF_KEY: u32 = 1 << 5;

/// Rights of all entries of a walk together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rights {
    user: bool,
    writable: bool,
    no_execute: bool,
    key: u32,
}

impl Rights {
    pub(super) const ALL: Self = Self {
        user: true,
        writable: true,
        no_execute: false,
        key: 0,
    };

    /// Adds an entry of the walk. The key is the last one's, the leaf's.
    pub(super) const fn and(self, mode: Mode, entry: u64) -> Self {
        let wide = !matches!(mode, Mode::Bits32);
        Self {
            user: self.user && entry & USER != 0,
            writable: self.writable && entry & WRITABLE != 0,
            no_execute: self.no_execute || wide && entry & NO_EXECUTE != 0,
            key: (entry >> 59) as u32 & 0xF,
        }
    }
}

/// An access to be checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'s> {
    pub(super) state: &'s PagingState,
    pub(super) mode: Mode,
    pub(super) flags: TranslateFlags,
}

impl Request<'_> {
    /// Checked as a user access, as a supervisor access; neither if exempt.
    fn rings(&self) -> (bool, bool) {
        let user = self.flags.contains(TranslateFlags::USER_ACCESS);
        let supervisor = self.flags.contains(TranslateFlags::SUPERVISOR_ACCESS);
        match (user, supervisor) {
            (false, false) => (self.state.cpl == 3, self.state.cpl != 3),
            rings => rings,
        }
    }

    /// The error code when an entry is not present.
    pub(super) fn not_present(&self) -> u32 {
        let mut code = 0;
        if self.flags.contains(TranslateFlags::WRITE) {
            code |= PF_WRITE;
        }
        if self.rings().0 {
            code |= PF_USER;
        }
        let nx = self.mode != Mode::Bits32 && self.state.no_execute_enabled();
        if self.flags.contains(TranslateFlags::EXECUTE)
            && (nx || self.state.cr4_has(PagingState::CR4_SMEP))
        {
            code |= PF_FETCH;
        }
        code
    }

    /// The error code when an entry has a reserved bit set.
    pub(super) fn reserved(&self) -> u32 {
        self.not_present() | PF_PRESENT | PF_RESERVED
    }

    /// The error code when the entries forbid the access.
    pub(super) fn violation(&self, rights: Rights) -> Option<u32> {
        let violation = self.not_present() | PF_PRESENT;
        if self.flags.contains(TranslateFlags::PRIVILEGE_EXEMPT) {
            return self.forbids_kind(rights, false).then_some(violation);
        }
        let (user, supervisor) = self.rings();
        if user && (!rights.user || self.forbids_kind(rights, true)) {
            return Some(violation);
        }
        if supervisor && (self.forbids_kind(rights, false) || self.forbids_supervisor(rights)) {
            return Some(violation);
        }
        self.forbids_key(rights, user).then_some(violation | PF_KEY)
    }

    /// Read-only pages and pages that are not executable.
    fn forbids_kind(&self, rights: Rights, user: bool) -> bool {
        let write = self.flags.contains(TranslateFlags::WRITE) && !rights.writable;
        let fetch = self.flags.contains(TranslateFlags::EXECUTE) && rights.no_execute;
        fetch || write && (user || self.state.write_protect())
    }

    /// SMEP and SMAP: user pages in supervisor mode. RFLAGS.AC opens them to code of CPL 0 to 2 only, not to what the
    /// processor itself accesses as a supervisor while CPL is 3.
    fn forbids_supervisor(&self, rights: Rights) -> bool {
        let state = self.state;
        let data = self
            .flags
            .intersects(TranslateFlags::READ | TranslateFlags::WRITE);
        let smap = state.cr4_has(PagingState::CR4_SMAP)
            && !self.flags.contains(TranslateFlags::OVERRIDE_SMAP)
            && (self.flags.contains(TranslateFlags::ENFORCE_SMAP)
                || !state.alignment_check
                || state.cpl == 3);
        let smep =
            state.cr4_has(PagingState::CR4_SMEP) && self.flags.contains(TranslateFlags::EXECUTE);
        rights.user && (data && smap || smep)
    }

    /// Protection keys of user pages, for data accesses in long mode.
    fn forbids_key(&self, rights: Rights, user: bool) -> bool {
        if !self.mode.is_long() || !self.state.cr4_has(PagingState::CR4_PKE) || !rights.user {
            return false;
        }
        let key = self.state.pkru >> (2 * rights.key);
        let (access_disabled, write_disabled) = (key & 1 != 0, key & 2 != 0);
        let write = self.flags.contains(TranslateFlags::WRITE);
        let data = write || self.flags.contains(TranslateFlags::READ);
        data && access_disabled || write && write_disabled && (user || self.state.write_protect())
    }
}
