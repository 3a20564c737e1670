//! The SynIC of a VP with its pages, as all processors see it.
//!
//! It lies beside the VP rather than in it (`partition/table.rs`): whoever sends a message or an event does not have to wait
//! for a VP that another processor has in hand.

use tlfs::{HV_X64_MSR_SIEFP, HV_X64_MSR_SIMP, HvPageMsr};

use super::{EventFlagsPage, Message, MessagePage, NotPosted, Signal, Sint, Synic, SynicEffect};
use super::{free_slots, post};
use crate::apic::GeneralProtection;
use crate::lp::RootVpPages;
use crate::mem::addr::Spfn;
use crate::mem::page_box::{Frame, PageBox};

/// Whose the pages are.
#[derive(Debug)]
enum Pages {
    /// The VP's own, for its guest to lay over its memory.
    Own {
        messages: PageBox<MessagePage>,
        event_flags: PageBox<EventFlagsPage>,
    },
    /// Provided to the root.
    Provided(&'static RootVpPages),
}

/// The SynIC of a VP.
#[derive(Debug)]
pub struct VpSynic {
    registers: Synic,
    pages: Pages,
    /// SINTs for which messages wait in ports (bit n: SINTn), or have waited.
    waiting: u16,
}

impl VpSynic {
    /// A child's, after reset.
    pub const fn new(messages: PageBox<MessagePage>, event_flags: PageBox<EventFlagsPage>) -> Self {
        Self {
            registers: Synic::new(),
            pages: Pages::Own {
                messages,
                event_flags,
            },
            waiting: 0,
        }
    }

    /// The root's, after reset, over the pages that are provided to it.
    pub fn new_root(registers: Synic, pages: &'static RootVpPages) -> Self {
        Self {
            registers,
            pages: Pages::Provided(pages),
            waiting: 0,
        }
    }

    /// Ends it; its own pages come back.
    pub fn into_frames(self) -> Option<[Frame; 2]> {
        match self.pages {
            Pages::Own {
                messages,
                event_flags,
            } => Some([messages.into_frame(), event_flags.into_frame()]),
            Pages::Provided(_) => None,
        }
    }

    /// The registers.
    pub const fn registers(&self) -> &Synic {
        &self.registers
    }

    /// The message page.
    pub fn messages(&self) -> &MessagePage {
        match &self.pages {
            Pages::Own { messages, .. } => messages,
            Pages::Provided(pages) => &pages.messages,
        }
    }

    /// The event flags page.
    pub fn event_flags(&self) -> &EventFlagsPage {
        match &self.pages {
            Pages::Own { event_flags, .. } => event_flags,
            Pages::Provided(pages) => &pages.event_flags,
        }
    }

    /// Where the message page and the event flags page are in machine memory.
    pub fn frames(&self) -> [Spfn; 2] {
        match &self.pages {
            Pages::Own {
                messages,
                event_flags,
            } => [messages.spfn(), event_flags.spfn()],
            Pages::Provided(pages) => [pages.messages.spfn(), pages.event_flags.spfn()],
        }
    }

    /// Before a write of SIMP or SIEFP: a page that is switched on is empty (guest sheet, trap 22).
    pub fn prepare(&self, msr: u32, value: u64) {
        let on = HvPageMsr::from_bits(value).enabled();
        match msr {
            HV_X64_MSR_SIMP if on && self.registers.message_page().is_none() => {
                self.messages().clear();
            }
            HV_X64_MSR_SIEFP if on && self.registers.event_flags_page().is_none() => {
                self.event_flags().clear();
            }
            _ => {}
        }
    }

    /// WRMSR, as [`Synic::write`]. Where a page lies is the caller's business.
    ///
    /// # Errors
    /// #GP; nothing has changed then.
    pub fn write(&mut self, msr: u32, value: u64) -> Result<SynicEffect, GeneralProtection> {
        self.prepare(msr, value);
        self.registers.write(msr, value)
    }

    /// As [`post`].
    ///
    /// # Errors
    /// As [`post`].
    pub fn post(&self, sint: Sint, message: &Message, more: bool) -> Result<Signal, NotPosted> {
        post(&self.registers, self.messages(), sint, message, more)
    }

    /// Sets an event flag: whether it was clear before, and how the VP is told of it then.
    ///
    /// # Errors
    /// INVALID_SYNIC_STATE while the SynIC or its page is off or the SINT is masked, INVALID_PARAMETER for a flag that there
    /// is not.
    pub fn signal_event(&self, sint: Sint, flag: u16) -> Result<(bool, Signal), tlfs::HvStatus> {
        if !self.registers.takes_events(sint) {
            return Err(tlfs::HvStatus::INVALID_SYNIC_STATE);
        }
        match self.event_flags().set(sint, flag) {
            Some(true) => Ok((true, self.registers.signal(sint))),
            Some(false) => Ok((false, Signal::None)),
            None => Err(tlfs::HvStatus::INVALID_PARAMETER),
        }
    }

    /// A message waits for a SINT in a port.
    pub const fn wait(&mut self, sint: Sint) {
        self.waiting |= sint.bit();
    }

    /// For which of these SINTs (bit n: SINTn) messages may wait in ports; whoever asks looks there.
    pub const fn take_waiting(&mut self, sints: u16) -> u16 {
        let waiting = self.waiting & sints;
        self.waiting &= !sints;
        waiting
    }

    /// As [`free_slots`], of the SINTs that take messages.
    pub fn free_slots(&self, sints: u16) -> u16 {
        let takes = |sint: &Sint| self.registers.takes_messages(*sint);
        let taking = Sint::all()
            .filter(takes)
            .fold(0, |all, one| all | one.bit());
        free_slots(self.messages(), sints & taking)
    }

    /// What is asked at each interrupt.
    pub fn vectors(&self) -> SintVectors {
        self.registers.vectors()
    }
}

/// Which vectors are those of SINTs: the part of a SynIC that its VP has at hand, for interrupts and their ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SintVectors {
    /// A bit for each vector of a SINT that is not masked.
    used: [u64; 4],
    /// Of these, those that end themselves.
    auto_eoi: [u64; 4],
}

impl SintVectors {
    pub(super) fn of(synic: &Synic) -> Self {
        let mut all = Self::default();
        for sint in Sint::all().map(|sint| synic.sint(sint)) {
            if !sint.masked() {
                set(&mut all.used, sint.vector());
                if sint.auto_eoi() {
                    set(&mut all.auto_eoi, sint.vector());
                }
            }
        }
        all
    }

    /// Whether an interrupt with this vector is, or may be, a SINT's.
    pub fn are_used(&self, vector: u8) -> bool {
        has(&self.used, vector)
    }

    /// Whether an interrupt with this vector ends itself when it is injected.
    pub fn is_auto_eoi(&self, vector: u8) -> bool {
        has(&self.auto_eoi, vector)
    }
}

fn set(bits: &mut [u64; 4], vector: u8) {
    bits[usize::from(vector / 64)] |= 1 << (vector % 64);
}

fn has(bits: &[u64; 4], vector: u8) -> bool {
    bits[usize::from(vector / 64)] >> (vector % 64) & 1 != 0
}
