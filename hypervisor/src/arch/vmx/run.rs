//! Running a VP until its next exit.

use crate::arch::exit::{CrExit, Event, ExceptionExit, Exit};
use crate::arch::state::{cr0, dr6, dr7, vector};
use crate::arch::{Flush, debug};

use super::enable::Processor;
use super::events::{self, information};
use super::exits::{self, reason};
use super::fields::{Control, Field, Guest, Info, VM_INSTRUCTION_ERROR};
use super::hardware;
use super::vcpu::{CR0_OURS, CR4_MCE, Vcpu};

/// INVEPT and INVVPID: one context.
const SINGLE_CONTEXT: u64 = 1;
/// All contexts.
const ALL_CONTEXTS: u64 = 2;
/// VM-instruction error: an entry with invalid control fields.
const INVALID_CONTROL_FIELDS: u64 = 7;
/// Exit code of an entry that the processor refused without looking at the guest: this, and the VM-instruction error.
const REFUSED: u64 = 1 << 31 | 1 << 30;

impl Vcpu {
    /// Runs the VP on this processor until it leaves the guest. Called and returning with interrupts off.
    ///
    /// On return a physical interrupt that ended the run is still pending (it is not acknowledged): the caller opens its
    /// window for it. [`Exit::Internal`] was dealt with here; the caller opens its window all the same and runs the VP on.
    ///
    /// # Safety
    /// * `processor` must be the one this runs on, and [`Self::leave`] must have been called for the VP that it ran last,
    ///   if that was another;
    /// * EPT and permission maps of the VP must give the guest nothing that the hypervisor relies on, and stay as they are
    ///   during the run but for what `set_tlb` flushes.
    #[inline(always)]
    pub unsafe fn run(&mut self, processor: &mut Processor) -> Exit {
        // SAFETY: this is the processor.
        unsafe { self.before_entry(processor) };
        processor.counters.section.end();
        // SAFETY: `arrive` has made the VMCS current and complete; the caller vouches for the tables and maps in it;
        // `gprs` is ours and writable.
        let refused = unsafe { hardware::vmx_enter(&raw mut self.gprs, u64::from(self.launched)) };
        if refused != 0 {
            return self.refused(refused, processor);
        }
        // SAFETY: this is the processor, and the VMCS is still current.
        unsafe { self.after_exit(processor) };
        // An entry that failed over the guest's state has not launched the VMCS.
        self.launched |= self.reason & reason::ENTRY_FAILED == 0;
        match exits::common(self.reason) {
            Some(exit) => exit,
            None => self.rare_exit(),
        }
    }

    // On the way of every exit: what happens to few of them is in functions of its own, out of line.
    #[inline(always)]
    unsafe fn before_entry(&mut self, processor: &mut Processor) {
        // SAFETY: the processor, in ring 0, with our VMCS current from here on.
        unsafe {
            if !self.current {
                self.arrive(processor);
            }
            if self.gprs.rsp != self.vmcs_rsp {
                self.guest.set(Guest::Rsp, self.gprs.rsp);
            }
            if self.guest.is_dirty(Guest::Rflags) || self.guest.is_dirty(Guest::Interruptibility) {
                self.reconcile_shadow();
            }
            if self.debug_loaded || self.dr7_enables() {
                self.load_debug_registers();
            }
            let write = |encoding, value| hardware::vmwrite(encoding, value);
            if let Some(rip) = self.guest.take_change(Guest::Rip) {
                write(Guest::ENCODINGS[Guest::Rip as usize], rip);
            }
            self.guest.flush(Guest::Rip, write);
            if self.control.is_changed() {
                if self.control.is_dirty(Control::EntryInterruption) {
                    self.settle_error_code();
                }
                self.control.flush(Control::Vpid, write);
            }
            self.live
                .enter(&mut processor.held, &mut processor.counters);
            processor
                .msrs
                .enter(self.tsc_aux, self.spec_ctrl, &mut processor.counters);
            processor.set_task_priority(self.cr8);
            if self.flush != Flush::None {
                self.flush_translations(processor);
            }
        }
        processor.counters.runs += 1;
    }

    /// DR7 was changed from outside, and enables breakpoints. (The guest itself cannot without an exit.)
    #[inline(always)]
    fn dr7_enables(&self) -> bool {
        self.guest.is_dirty(Guest::Dr7) && self.dr7() & dr7::ENABLED != 0
    }

    /// Puts the VP's VMCS into the processor.
    #[cold]
    unsafe fn arrive(&mut self, processor: &mut Processor) {
        let vmcs = self.page.spa().0;
        // SAFETY: VMX is on (`Processor::enable`). The page is ours, begins with the revision, and no other processor has
        // it active: a VP departs before it has its turns elsewhere.
        unsafe {
            let fresh = self.processor != Some(processor.index);
            let mut fine = true;
            if fresh {
                fine &= hardware::vmclear(vmcs);
                self.launched = false;
            }
            fine &= hardware::vmptrld(vmcs);
            assert!(fine, "the processor refuses a VMCS");
            if fresh {
                self.processor = Some(processor.index);
                // Kept elsewhere, or changed by the processor together with EFER.
                self.guest.set(Guest::Rsp, self.gprs.rsp);
                self.settle_long_mode();
                self.guest.write_all();
                self.control.write_all();
                self.control
                    .set(Control::VirtualApicAddress, processor.virtual_apic.spa().0);
                processor.write_host_state();
            }
        }
        self.live.arrive();
        self.current = true;
    }

    /// The VP leaves the processor, because another one is to run there.
    ///
    /// # Safety
    /// It last ran on this processor, or never.
    pub unsafe fn leave(&mut self) {
        self.live.leave();
        self.current = false;
    }

    #[cold]
    unsafe fn flush_translations(&mut self, processor: &mut Processor) {
        let ept = self.control.get(Control::EptPointer);
        // SAFETY: VMX is on; the types exist where the capabilities say so, those of all contexts everywhere.
        unsafe {
            match self.flush {
                Flush::None => {}
                Flush::Domain if self.caps.invept_single => hardware::invept(SINGLE_CONTEXT, ept),
                Flush::Domain => hardware::invept(ALL_CONTEXTS, 0),
                // A VPID alone is never flushed.
                Flush::Tag | Flush::All => {
                    hardware::invept(ALL_CONTEXTS, 0);
                    hardware::invvpid(ALL_CONTEXTS, 0);
                }
            }
        }
        self.flush = Flush::None;
        processor.counters.tlb_flushes += 1;
    }

    #[inline(always)]
    unsafe fn after_exit(&mut self, processor: &mut Processor) {
        // SAFETY: the VMCS is current.
        unsafe {
            processor
                .msrs
                .leave(self.spec_ctrl, &mut processor.counters);
            let reason = hardware::vmread(Info::ENCODINGS[Info::Reason as usize]) as u32;
            // What lies between tells of circumstances.
            self.reason = reason & (reason::BASIC | reason::ENTRY_FAILED);
            self.vmcs_rsp = hardware::vmread(Guest::ENCODINGS[Guest::Rsp as usize]);
        }
        let section = &mut processor.counters.section;
        section.begin(|| (u64::from(self.reason), self.gprs.rcx));
        self.gprs.rsp = self.vmcs_rsp;
        self.guest.forget();
        for field in Guest::AT_EXIT {
            // SAFETY: the VMCS is current.
            let value = unsafe { hardware::vmread(Guest::ENCODINGS[field as usize]) };
            self.guest.note(field, value);
        }
        self.info.forget();
        self.live.exited();
        self.cr8 = processor.task_priority();
        // The exit has made the field invalid.
        self.control.assume(Control::EntryInterruption, 0);
        if self.debug_loaded {
            self.store_debug_registers();
        }
    }

    #[cold]
    fn load_debug_registers(&mut self) {
        if !self.debug_loaded {
            self.set_debug_loaded(true);
        }
        debug::load(&self.dr);
    }

    #[cold]
    fn store_debug_registers(&mut self) {
        self.dr = debug::save();
        if self.dr7() & dr7::ENABLED == 0 {
            self.set_debug_loaded(false);
        }
    }

    /// The processor did not enter and did not say why in the exit reason: an event that cannot be, or an error of the
    /// hypervisor's.
    #[cold]
    fn refused(&mut self, how: u64, processor: &mut Processor) -> Exit {
        // SAFETY: this is the processor; VMX is on, and with failure 2 the VMCS is current.
        let error = unsafe {
            processor
                .msrs
                .leave(self.spec_ctrl, &mut processor.counters);
            match how {
                2 => hardware::vmread(VM_INSTRUCTION_ERROR),
                _ => 0,
            }
        };
        let section = &mut processor.counters.section;
        section.begin(|| (REFUSED | error, self.gprs.rcx));
        if error == INVALID_CONTROL_FIELDS {
            // Ours are what the processor allows; the event to be injected is among them too.
            return Exit::InvalidState;
        }
        Exit::Unknown {
            code: REFUSED | error,
            info: how,
        }
    }

    #[cold]
    pub(super) fn rare_exit(&mut self) -> Exit {
        if self.reason & reason::ENTRY_FAILED != 0 {
            self.keep_event();
        }
        if exits::may_interrupt_delivery(self.reason) {
            self.requeue_interrupted_event();
        }
        match self.reason {
            reason::EXCEPTION_OR_NMI => self.exception_or_nmi(),
            reason::EPT_VIOLATION => {
                self.block_nmis_again(self.told(Info::Qualification));
                Exit::NestedFault
            }
            reason::INTERRUPT_WINDOW => {
                self.set_interrupt_window(false);
                Exit::InterruptWindow
            }
            reason::NMI_WINDOW => {
                self.set_nmi_window(false);
                Exit::NmiWindow
            }
            reason::MOV_DR => {
                // The guest uses its debug registers: it gets them for this run.
                self.set_debug_loaded(true);
                Exit::Internal
            }
            reason::MACHINE_CHECK_IN_ENTRY => Exit::Exception(ExceptionExit {
                vector: vector::MC,
                error_code: None,
                parameter: 0,
            }),
            reason::CONTROL_REGISTER => self.control_register(),
            other => exits::rare(other, self.told(Info::Qualification)),
        }
    }

    /// A failed entry has not delivered its event: it stays pending, as all else stays as it was.
    fn keep_event(&mut self) {
        let encoding = Control::ENCODINGS[Control::EntryInterruption as usize];
        // SAFETY: the VMCS is current: its entry has just failed.
        let raw = unsafe { hardware::vmread(encoding) };
        self.control.set(Control::EntryInterruption, raw);
    }

    /// A write of CR0 or CR4 that changes bits of which nobody but the hypervisor keeps the guest's values is let through:
    /// with those in the shadow the instruction does not exit again. So the processor makes all its checks and loads what a
    /// change of paging loads.
    fn control_register(&mut self) -> Exit {
        let exit = exits::rare(self.reason, self.told(Info::Qualification));
        let Exit::ControlRegister(CrExit {
            register,
            write: true,
            gpr: Some(gpr),
        }) = exit
        else {
            return exit;
        };
        let value = self.gprs.get(gpr.into()).unwrap_or(0);
        let value = if self.in_64_bit_code() {
            value
        } else {
            value & 0xFFFF_FFFF
        };
        let (mask, shadow, shown, wanted, ours) = match register {
            0 => {
                let (shown, wanted) = (self.cr0(), self.wanted_cr.cr0);
                (
                    Control::Cr0Mask,
                    Control::Cr0Shadow,
                    shown,
                    wanted,
                    CR0_OURS,
                )
            }
            4 => {
                let (shown, wanted) = (self.cr4(), self.wanted_cr.cr4);
                (Control::Cr4Mask, Control::Cr4Shadow, shown, wanted, CR4_MCE)
            }
            _ => return exit,
        };
        let changed = (value ^ shown) & self.control.get(mask);
        if changed & (wanted | !ours) != 0 {
            return exit;
        }
        if register == 0 && value & (cr0::NW | cr0::CD) == cr0::NW {
            return Exit::Absent {
                general_protection: true,
            };
        }
        let value = self.control.get(shadow) & !ours | value & ours;
        self.control.set(shadow, value);
        Exit::Internal
    }

    fn exception_or_nmi(&mut self) -> Exit {
        let raw = self.told(Info::InterruptionInformation);
        let event = events::decode(raw, || self.told(Info::InterruptionErrorCode), || 0);
        let (number, error_code) = match event {
            Some(Event::Nmi) => {
                // It was taken, unlike an interrupt: its handler is called as if it came now. That ends with IRET, which
                // lets the next one in.
                hardware::call_nmi_handler();
                return Exit::Nmi;
            }
            Some(Event::Exception { vector, error_code }) => (vector, error_code),
            // INT3, INTO, INT1.
            Some(Event::Software { vector, .. }) => (vector, None),
            Some(Event::Interrupt(_)) | None => return exits::rare(self.reason, raw),
        };
        if number != vector::DF {
            self.block_nmis_again(raw);
        }
        let parameter = match number {
            vector::PF => self.told(Info::Qualification),
            vector::DB => self.note_debug_conditions(),
            _ => 0,
        };
        let exception = ExceptionExit {
            vector: number,
            error_code,
            parameter,
        };
        let software = raw & information::TYPE_MASK != information::HARDWARE_EXCEPTION;
        if matches!(number, vector::DB | vector::AC) {
            return self.pass_exception(exception, software);
        }
        Exit::Exception(exception)
    }

    /// An intercepted #DB leaves it to us to say in DR6 what it came from.
    fn note_debug_conditions(&mut self) -> u64 {
        let conditions = self.told(Info::Qualification) & (dr6::MATCHES | dr6::BD | dr6::BS);
        let value = self.dr6() & !dr6::MATCHES | conditions;
        self.set_dr6(value);
        // The exit has left no pending ones; with a shadow and TF the next entry wants the single step there.
        self.reconcile_shadow();
        value
    }

    /// #DB and #AC are intercepted for the hypervisor's own sake; unless the partition asked too, the guest gets them.
    /// `software`: by INT1, behind which it goes on.
    fn pass_exception(&mut self, e: ExceptionExit, software: bool) -> Exit {
        if self.wanted_exceptions & 1 << e.vector != 0 {
            return Exit::Exception(e);
        }
        let event = if software {
            Event::Software {
                vector: e.vector,
                length: self.told(Info::InstructionLength) as u8,
            }
        } else {
            Event::Exception {
                vector: e.vector,
                error_code: e.error_code,
            }
        };
        if self.inject(event) {
            Exit::Internal
        } else {
            Exit::Shutdown
        }
    }
}
