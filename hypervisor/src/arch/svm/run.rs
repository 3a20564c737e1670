//! Running a VP until its next exit.

use crate::arch::exit::{Event, ExceptionExit, Exit};
use crate::arch::state::{dr7, vector};
use crate::arch::{Flush, debug};

use super::bits::{clean, event, exit_code, tlb_control};
use super::enable::Processor;
use super::vcpu::{NmiState, Vcpu};
use super::{exits, hardware};

impl Vcpu {
    /// Runs the VP on this processor until it leaves the guest. Called and returning with interrupts off.
    ///
    /// On return a physical interrupt or NMI that ended the run is still pending (SVM does not acknowledge): the caller
    /// opens its window for it. [`Exit::Internal`] was dealt with here; the caller opens its window all the same and runs
    /// the VP on.
    ///
    /// # Safety
    /// * `processor` must be the one this runs on;
    /// * the nested tables and the permission maps of the VP must give the guest nothing that the hypervisor relies on,
    ///   and stay as they are during the run but for what `set_tlb` flushes.
    #[inline(always)]
    pub unsafe fn run(&mut self, processor: &mut Processor) -> Exit {
        self.before_entry(processor);
        processor.counters.section.end();
        // SAFETY: `Processor::enable` set up SVM and the host page; the VMCB is ours, and the caller vouches for the
        // tables and maps in it; `gprs` is ours and writable.
        unsafe {
            hardware::svm_enter(
                &raw mut self.gprs,
                self.vmcb_spa().0,
                processor.host_state.spa().0,
            );
        }
        let section = &mut processor.counters.section;
        section.begin(|| (self.control().exit_code, self.gprs.rcx));
        self.after_exit(processor);
        match exits::common(self.control()) {
            Some(exit) => exit,
            None => self.rare_exit(),
        }
    }

    // On the way of every exit: what happens to few of them is in functions of its own, out of line.
    #[inline(always)]
    pub(super) fn before_entry(&mut self, processor: &mut Processor) {
        if self.last_processor != Some(processor.index) {
            self.last_processor = Some(processor.index);
            self.dirty(clean::ALL);
        }
        let (rax, rsp) = (self.gprs.rax, self.gprs.rsp);
        let save = self.save_mut();
        save.rax = rax;
        save.rsp = rsp;
        if self.control().event_inj != 0 {
            self.prepare_event();
        }
        if self.interrupt_shadow() {
            self.note_shadow();
        }
        if self.debug_loaded || self.save().dr7 & dr7::ENABLED != 0 {
            self.load_debug_registers();
        }
        // SAFETY: this processor's, ring 0.
        unsafe {
            processor
                .msrs
                .enter(self.tsc_aux, self.spec_ctrl, &mut processor.counters);
        }
        if self.flush != Flush::None {
            processor.counters.tlb_flushes += 1;
        }
        processor.counters.vmloads += 2;
        processor.counters.vmsaves += 1;
        processor.counters.runs += 1;
    }

    #[inline(always)]
    pub(super) fn after_exit(&mut self, processor: &mut Processor) {
        // SAFETY: as at the entry.
        unsafe {
            processor
                .msrs
                .leave(self.spec_ctrl, &mut processor.counters)
        };
        let save = self.save();
        (self.gprs.rax, self.gprs.rsp) = (save.rax, save.rsp);
        let clean = self.clean_bits;
        self.control_mut().clean_bits = clean;
        if self.flush != Flush::None {
            self.flush = Flush::None;
            self.control_mut().tlb_control = tlb_control::NONE;
        }
        if self.debug_loaded {
            self.store_debug_registers();
        }
        self.settle_events();
    }

    /// After exit: what became of the event of this entry.
    #[inline(always)]
    pub(super) fn settle_events(&mut self) {
        if self.posted.is_some() {
            self.settle_interrupt();
        }
        if self.shadowed_at.is_some() {
            self.settle_shadow();
        }
        self.control_mut().event_inj = 0;
        if self.software_rip.is_some() || self.control().exit_int_info & event::VALID != 0 {
            self.requeue_interrupted_event();
        }
        if self.nmi != NmiState::Open {
            self.observe_iret();
        }
    }

    #[cold]
    fn load_debug_registers(&mut self) {
        if !self.debug_loaded {
            self.debug_loaded = true;
            self.refresh_intercepts();
        }
        debug::load(&self.dr);
    }

    #[cold]
    fn store_debug_registers(&mut self) {
        self.dr = debug::save();
        if self.save().dr7 & dr7::ENABLED == 0 {
            self.debug_loaded = false;
            self.refresh_intercepts();
        }
    }

    #[cold]
    pub(super) fn rare_exit(&mut self) -> Exit {
        let exit = exits::decode(self.control(), self.save(), self.caps.decode_assists);
        self.own_exit(&exit).unwrap_or(exit)
    }

    /// Exits that only this folder knows of.
    fn own_exit(&mut self, exit: &Exit) -> Option<Exit> {
        match *exit {
            Exit::Unknown {
                code: exit_code::DR0_READ..=exit_code::DR15_WRITE,
                ..
            } => {
                // The guest uses its debug registers: it gets them for this run.
                self.debug_loaded = true;
                self.refresh_intercepts();
                Some(Exit::Internal)
            }
            Exit::Unknown {
                code: exit_code::IRET,
                ..
            } => {
                self.iret_begins();
                Some(Exit::Internal)
            }
            Exit::InterruptWindow => {
                self.set_interrupt_window(false);
                None
            }
            Exit::Exception(e) if e.vector == vector::DB && self.debug_exit_ends_step() => {
                Some(if core::mem::take(&mut self.nmi_window) {
                    Exit::NmiWindow
                } else {
                    Exit::Internal
                })
            }
            Exit::Exception(e) if matches!(e.vector, vector::DB | vector::AC) => {
                self.pass_exception(e)
            }
            _ => None,
        }
    }

    /// #DB and #AC are intercepted for the hypervisor's own sake; unless the partition asked too, the guest gets them.
    fn pass_exception(&mut self, e: ExceptionExit) -> Option<Exit> {
        if self.wanted_exceptions & 1 << e.vector != 0 {
            return None;
        }
        let event = Event::Exception {
            vector: e.vector,
            error_code: e.error_code,
        };
        Some(if self.inject(event) {
            Exit::Internal
        } else {
            Exit::Shutdown
        })
    }
}
