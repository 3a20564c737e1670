//! The APIC itself: acceptance, priority, service and the latches beside the vectors.

use super::addressing::{Addressing, Logical};
use super::base::{ApicBase, Mode};
use super::icr::{Command, Delivery, Destination, Icr, Trigger, logical_id};
use super::lvt::{Lvt, LvtEntry, LvtMode};
use super::signals::ExtIntLine;
use super::timer::Timer;
use super::vectors::VectorSet;
use super::{Effect, FIRST_VECTOR, GeneralProtection};
use crate::time::RefTime;

/// Version register: an integrated APIC (0x14) with seven LVT entries (23:16 is the number of the last).
pub(super) const VERSION: u32 = 0x0006_0014;

pub(super) const SVR_ENABLE: u32 = 1 << 8;
/// Vector, enable, and the focus bit that software may leave set.
pub(super) const SVR_BITS: u32 = 0x3FF;
const SVR_RESET: u32 = 0xFF;

/// ESR bits.
pub(super) mod error {
    /// A vector below 16 was to be sent.
    pub const SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
    /// A vector below 16 arrived, or is programmed in the LVT.
    pub const RECEIVE_ILLEGAL_VECTOR: u32 = 1 << 6;
    /// A register of the xAPIC page that there is not was accessed.
    pub const ILLEGAL_REGISTER: u32 = 1 << 7;
}

/// The local APIC of one VP.
#[derive(Clone, Debug)]
pub struct LocalApic {
    pub(super) id: u32,
    pub(super) base: ApicBase,
    /// What the guest wrote in xAPIC mode; as after reset in the others.
    pub(super) logical: Logical,
    pub(super) tpr: u8,
    /// Derived from `tpr` and `isr`, and kept so that looking for an interrupt is cheap.
    pub(super) ppr: u8,
    pub(super) irr: VectorSet,
    pub(super) isr: VectorSet,
    pub(super) tmr: VectorSet,
    pub(super) svr: u32,
    /// What the guest reads: the errors up to its last write.
    pub(super) esr: u32,
    /// Errors since then.
    pub(super) errors: u32,
    pub(super) icr: Icr,
    pub(super) lvt: Lvt,
    pub(super) timer: Timer,
    pub(super) ext_int: ExtIntLine,
    pub(super) nmi: bool,
    pub(super) init: bool,
    pub(super) startup: Option<u8>,
    pub(super) waiting_for_startup: bool,
}

impl LocalApic {
    /// The APIC of a VP after power-on, in x2APIC mode. Every VP but the BSP waits for a startup IPI.
    pub const fn new(id: u32, bsp: bool) -> Self {
        Self {
            id,
            base: ApicBase::reset(bsp),
            logical: Logical::RESET,
            tpr: 0,
            ppr: 0,
            irr: VectorSet::EMPTY,
            isr: VectorSet::EMPTY,
            tmr: VectorSet::EMPTY,
            svr: SVR_RESET,
            esr: 0,
            errors: 0,
            icr: Icr::restored(0),
            lvt: Lvt::RESET,
            timer: Timer::RESET,
            ext_int: ExtIntLine::Idle,
            nmi: false,
            init: false,
            startup: None,
            waiting_for_startup: !bsp,
        }
    }

    /// Gives the registers the values that reset and INIT give them. Id, APIC base and what is latched for the
    /// processor stay.
    pub(super) fn reset_registers(&mut self) {
        *self = Self {
            base: self.base,
            ext_int: self.ext_int,
            nmi: self.nmi,
            init: self.init,
            startup: self.startup,
            waiting_for_startup: self.waiting_for_startup,
            ..Self::new(self.id, false)
        };
    }

    /// APIC id.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// The APIC base MSR.
    pub const fn base(&self) -> ApicBase {
        self.base
    }

    /// Writes the APIC base MSR. Disabling the APIC loses its state, as the architecture says.
    pub fn write_base(&mut self, value: u64) -> Result<Effect, GeneralProtection> {
        let old = self.base.mode();
        self.base = self.base.written(value)?;
        match (old, self.base.mode()) {
            (Mode::XApic | Mode::X2Apic, Mode::Disabled) => self.reset_registers(),
            (Mode::XApic, Mode::X2Apic) => {
                // The destination field means something else now.
                self.icr = Icr::restored(self.icr.value() & u64::from(u32::MAX));
                self.logical = Logical::RESET;
            }
            _ => {}
        }
        Ok(Effect::Readdressed)
    }

    /// Sets the APIC base as a register of the VP (HvCallSetVpRegisters): any mode from any other, and the BSP flag.
    /// `None`, without effect, for a value that the MSR cannot have.
    pub fn set_base(&mut self, value: u64) -> Option<()> {
        self.base = ApicBase::new(value)?;
        match self.base.mode() {
            Mode::Disabled => self.reset_registers(),
            Mode::XApic => {}
            Mode::X2Apic => self.logical = Logical::RESET,
        }
        Some(())
    }

    /// Enabled in the APIC base and in the spurious-vector register: accepts interrupts.
    pub const fn is_software_enabled(&self) -> bool {
        self.base.is_enabled() && self.svr & SVR_ENABLE != 0
    }

    /// The id as its register shows it: an xAPIC has eight bits, at the top.
    pub(super) const fn shown_id(&self) -> u32 {
        match self.base.mode() {
            Mode::XApic => self.id << 24,
            Mode::X2Apic | Mode::Disabled => self.id,
        }
    }

    /// The logical id as its register shows it: an x2APIC's follows from its id.
    pub(super) const fn shown_logical_id(&self) -> u32 {
        match self.base.mode() {
            Mode::XApic => self.logical.register(),
            Mode::X2Apic | Mode::Disabled => logical_id(self.id),
        }
    }

    /// What decides which messages are for this APIC, beside its id.
    pub const fn addressing(&self) -> Addressing {
        Addressing::new(self.base.mode(), self.logical)
    }

    /// Whether a message with this destination is for this APIC; `is_sender` for a shorthand's sake.
    pub const fn matches(&self, destination: Destination, is_sender: bool) -> bool {
        self.addressing().include(self.id, destination, is_sender)
    }

    /// How busy the VP is with interrupts: input of [`lowest_priority`](super::lowest_priority), smallest wins. `None`
    /// for an APIC that takes no part.
    pub const fn arbitration_priority(&self) -> Option<u8> {
        if self.is_software_enabled() {
            Some(self.ppr)
        } else {
            None
        }
    }

    /// Takes what arrives. `true` if there is something new for the VP to do: it has to be kicked or woken.
    pub fn accept(&mut self, delivery: Delivery) -> bool {
        match delivery {
            Delivery::Fixed { vector, trigger } => self.accept_vector(vector, trigger),
            Delivery::Smi => false,
            Delivery::Nmi => !core::mem::replace(&mut self.nmi, true),
            Delivery::Init => {
                // Undoes a start that has not happened yet.
                self.startup = None;
                !core::mem::replace(&mut self.init, true)
            }
            Delivery::Startup { vector } => self.accept_startup(vector),
            Delivery::ExtInt { vector } => {
                self.ext_int = ExtIntLine::Asserted(vector);
                self.pending_ext_int().is_some()
            }
            Delivery::Local { entry, pic_vector } => self.accept_local(entry, pic_vector),
        }
    }

    fn accept_vector(&mut self, vector: u8, trigger: Trigger) -> bool {
        if !self.is_software_enabled() {
            return false;
        }
        if vector < FIRST_VECTOR {
            return self.note_error(error::RECEIVE_ILLEGAL_VECTOR);
        }
        match trigger {
            Trigger::Edge => self.tmr.remove(vector),
            Trigger::Level => self.tmr.insert(vector),
        };
        self.irr.insert(vector)
    }

    /// A local input: delivered as its LVT entry says. Without an APIC the pins are the processor's INTR and NMI.
    fn accept_local(&mut self, entry: LvtEntry, pic_vector: u8) -> bool {
        let mode = match (self.base.mode(), entry) {
            (Mode::Disabled, LvtEntry::Lint0) => LvtMode::ExtInt,
            (Mode::Disabled, LvtEntry::Lint1) => LvtMode::Nmi,
            (Mode::Disabled, _) => return false,
            _ if self.lvt.is_masked(entry) => return false,
            _ => self.lvt.mode(entry),
        };
        match mode {
            LvtMode::Fixed => self.accept_local_vector(entry),
            LvtMode::Nmi => self.accept(Delivery::Nmi),
            LvtMode::Init => self.accept(Delivery::Init),
            LvtMode::ExtInt => self.accept(Delivery::ExtInt { vector: pic_vector }),
            LvtMode::Smi | LvtMode::Reserved => false,
        }
    }

    fn accept_local_vector(&mut self, entry: LvtEntry) -> bool {
        let trigger = self.lvt.trigger(entry);
        if trigger == Trigger::Level {
            if self.lvt.remote_irr(entry) {
                return false;
            }
            self.lvt.set_remote_irr(entry);
        }
        self.accept_vector(self.lvt.vector(entry), trigger)
    }

    /// Notes an error for the ESR; the first of its kind since the guest last wrote the ESR raises the error interrupt.
    pub(super) fn note_error(&mut self, error: u32) -> bool {
        let new = self.errors & error == 0;
        self.errors |= error;
        if !new || self.lvt.is_masked(LvtEntry::Error) {
            return false;
        }
        let vector = self.lvt.vector(LvtEntry::Error);
        if vector < FIRST_VECTOR {
            self.errors |= error::RECEIVE_ILLEGAL_VECTOR;
            return false;
        }
        self.accept_vector(vector, Trigger::Edge)
    }

    /// Task priority, all eight bits.
    pub const fn tpr(&self) -> u8 {
        self.tpr
    }

    /// Sets the task priority.
    pub fn set_tpr(&mut self, tpr: u8) {
        self.tpr = tpr;
        self.update_ppr();
    }

    /// CR8: the task priority's class.
    pub const fn cr8(&self) -> u8 {
        self.tpr >> 4
    }

    /// The guest moved to CR8. A value equal to the present one leaves the TPR's low bits alone, so that the run loop
    /// can copy the processor's CR8 back after every exit.
    pub fn set_cr8(&mut self, cr8: u8) {
        if self.cr8() != cr8 & 15 {
            self.set_tpr(cr8 << 4);
        }
    }

    pub(super) fn update_ppr(&mut self) {
        let served = self.isr.top() & 0xF0;
        self.ppr = if self.tpr & 0xF0 >= served {
            self.tpr
        } else {
            served
        };
    }

    /// The vector to inject now if the VP takes interrupts: the highest requested one, if its class is above the
    /// processor priority's.
    #[inline]
    pub const fn next_interrupt(&self) -> Option<u8> {
        let top = self.irr.top();
        if top & 0xF0 > self.ppr & 0xF0 {
            Some(top)
        } else {
            None
        }
    }

    /// The highest requested vector, whatever the priority: the CR8 value below which a guest has to go before it can
    /// be injected is its upper half.
    pub const fn highest_request(&self) -> Option<u8> {
        match self.irr.top() {
            0 => None,
            top => Some(top),
        }
    }

    /// `vector` is being injected: it is in service until its EOI. `false`, without effect, if it was not requested.
    pub fn begin(&mut self, vector: u8) -> bool {
        if !self.irr.remove(vector) {
            return false;
        }
        self.isr.insert(vector);
        self.update_ppr();
        true
    }

    /// `vector` of a SINT with AutoEOI is being injected: it is ended at once (guest sheet 7.4).
    pub fn begin_auto_eoi(&mut self, vector: u8) -> bool {
        self.irr.remove(vector)
    }

    /// The processor's interrupt acknowledge cycle: the next interrupt, now in service, or the spurious vector, which
    /// never is, if there is none any more.
    pub fn acknowledge(&mut self) -> u8 {
        match self.next_interrupt() {
            Some(vector) => {
                self.begin(vector);
                vector
            }
            None => self.svr as u8,
        }
    }

    /// Whether the end of the interrupt in service means nothing to anybody: it is the only one, of an edge, and none waits.
    pub fn ends_quietly(&self) -> bool {
        let only = self.isr.top();
        self.irr.top() == 0 && self.isr.is_only(only) && !self.tmr.contains(only)
    }

    /// Ends the highest interrupt in service.
    pub fn end_of_interrupt(&mut self) -> Effect {
        let vector = self.isr.top();
        if !self.isr.remove(vector) {
            return Effect::None;
        }
        self.update_ppr();
        let level = self.tmr.contains(vector);
        if level {
            self.lvt.end_of_level(vector);
        }
        Effect::EndOfInterrupt { vector, level }
    }

    /// Executes an interrupt command.
    pub(super) fn send(&mut self, icr: Icr) -> Effect {
        match icr.command() {
            Command::Nothing => Effect::None,
            Command::Illegal => {
                self.note_error(error::SEND_ILLEGAL_VECTOR);
                Effect::None
            }
            Command::Send(message) if message.destination == Destination::OnlySelf => {
                self.accept(message.delivery);
                Effect::None
            }
            Command::Send(message) => Effect::Ipi(message),
        }
    }

    /// When to call [`tick`](Self::tick); `None` if the timer delivers nothing.
    pub fn next_deadline(&self) -> Option<RefTime> {
        if self.lvt.is_masked(LvtEntry::Timer) {
            return None;
        }
        self.timer.deadline(self.lvt.is_periodic())
    }

    /// Brings the timer to `now`, delivering its interrupt if it expired; `true` if that is something new.
    pub fn tick(&mut self, now: RefTime) -> bool {
        self.timer.advance(now, self.lvt.is_periodic())
            && !self.lvt.is_masked(LvtEntry::Timer)
            && self.accept_vector(self.lvt.vector(LvtEntry::Timer), Trigger::Edge)
    }
}
