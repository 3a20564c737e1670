//! What is latched for the processor beside the vectors: NMI, INIT, startup IPI and the line of a PIC.

use super::LocalApic;
use super::lvt::{LvtEntry, LvtMode};

/// The line of a PIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtIntLine {
    Idle,
    Asserted(u8),
    Acknowledged,
}

/// What became of the ExtINT interrupt that HvCallClearVirtualInterrupt takes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleared {
    /// The VP had taken it.
    Acknowledged,
    /// The VP has not taken it, and no longer will.
    NotAcknowledged,
    /// There was none.
    Idle,
}

impl LocalApic {
    /// A startup IPI counts only for a VP that waits for one, or will once it has taken its INIT (guest sheet 9); the
    /// first one counts.
    pub(super) fn accept_startup(&mut self, vector: u8) -> bool {
        let waits = self.waiting_for_startup || (self.init && !self.base.is_bsp());
        if !waits || self.startup.is_some() {
            return false;
        }
        self.startup = Some(vector);
        true
    }

    /// Something can be delivered, if the VP takes it: what ends a HLT, given RFLAGS.IF for all but NMI and INIT.
    pub const fn has_pending(&self) -> bool {
        self.has_interrupt() || self.has_unmaskable()
    }

    /// Something is requested or latched, whether or not it can be delivered now: the entry path looks closer.
    #[inline]
    pub const fn wants_attention(&self) -> bool {
        self.irr.top() != 0 || self.has_unmaskable() || self.pending_ext_int().is_some()
    }

    /// The highest request passes what is in service, but not the task priority.
    pub const fn is_blocked_by_task_priority(&self) -> bool {
        let top = self.irr.top() & 0xF0;
        top > self.isr.top() & 0xF0 && top <= self.tpr & 0xF0
    }

    /// An interrupt that RFLAGS.IF masks can be delivered.
    pub const fn has_interrupt(&self) -> bool {
        self.next_interrupt().is_some() || self.pending_ext_int().is_some()
    }

    /// An NMI, INIT or startup IPI is latched.
    pub const fn has_unmaskable(&self) -> bool {
        self.nmi || self.init || self.startup.is_some()
    }

    /// An NMI is latched.
    pub const fn nmi_pending(&self) -> bool {
        self.nmi
    }

    /// Takes the latched NMI for injection.
    pub fn take_nmi(&mut self) -> bool {
        core::mem::take(&mut self.nmi)
    }

    /// Takes a latched INIT: the APIC gets its INIT state, NMIs are forgotten, and a VP that is not the BSP waits for
    /// its startup IPI. The caller gives the VP's registers their INIT state.
    pub fn take_init(&mut self) -> bool {
        if !core::mem::take(&mut self.init) {
            return false;
        }
        self.nmi = false;
        self.waiting_for_startup = !self.base.is_bsp();
        self.reset_registers();
        true
    }

    /// Takes a latched startup IPI: the VP starts at `vector << 12` (CS selector `vector << 8`). Not before the INIT that
    /// precedes it is taken.
    pub fn take_startup(&mut self) -> Option<u8> {
        if self.init {
            return None;
        }
        let vector = self.startup.take()?;
        self.waiting_for_startup = false;
        Some(vector)
    }

    /// The VP waits for a startup IPI (InternalActivityState, startup suspend).
    pub const fn is_waiting_for_startup(&self) -> bool {
        self.waiting_for_startup
    }

    /// Sets whether the VP waits for a startup IPI, when its state is set from outside.
    pub fn set_waiting_for_startup(&mut self, waiting: bool) {
        self.waiting_for_startup = waiting;
        if !waiting {
            self.startup = None;
        }
    }

    /// The vector of an ExtINT interrupt that can be injected: it passes through LINT0, or past a disabled APIC.
    pub const fn pending_ext_int(&self) -> Option<u8> {
        match self.ext_int {
            ExtIntLine::Asserted(vector) if self.passes_ext_int() => Some(vector),
            _ => None,
        }
    }

    const fn passes_ext_int(&self) -> bool {
        let lint0 = LvtEntry::Lint0;
        !self.base.is_enabled()
            || (!self.lvt.is_masked(lint0) && matches!(self.lvt.mode(lint0), LvtMode::ExtInt))
    }

    /// Takes the ExtINT interrupt for injection; the APIC has no part in its end.
    pub fn take_ext_int(&mut self) -> Option<u8> {
        let vector = self.pending_ext_int()?;
        self.ext_int = ExtIntLine::Acknowledged;
        Some(vector)
    }

    /// Drops the ExtINT line and says whether the VP had taken the interrupt.
    pub fn clear_ext_int(&mut self) -> Cleared {
        match core::mem::replace(&mut self.ext_int, ExtIntLine::Idle) {
            ExtIntLine::Acknowledged => Cleared::Acknowledged,
            ExtIntLine::Asserted(_) => Cleared::NotAcknowledged,
            ExtIntLine::Idle => Cleared::Idle,
        }
    }
}
