//! One virtual processor on VMX: its VMCS, and the state that the VMCS has no place for.

use crate::arch::exit::{IoExit, NestedFault};
use crate::arch::page::HwPages;
use crate::arch::state::{Gprs, PAT_RESET, Segment, TableRegister, cr0, rflags, vector};
use crate::arch::{CrIntercepts, Flush, VcpuConfig, VcpuKind};
use crate::mem::addr::Spa;

use super::capabilities::Capabilities;
use super::controls::primary;
use super::events::interruptibility;
use super::exits;
use super::fields::{Control, Field, Guest, Info};
use super::live::Live;
use super::vmcs::{self, Bank};

/// Cycles between two PAUSEs of one loop, at most.
const PLE_GAP: u64 = 128;
/// Cycles of such a loop before it exits.
const PLE_WINDOW: u64 = 4096;
/// The longest that a guest runs without an exit, in ticks of the TSC: about a millisecond. Interrupts end a run much
/// sooner. But Bochs (3.1) keeps them waiting in a guest that was entered with RFLAGS.IF off and does not touch that.
const LONGEST_RUN: u64 = 1 << 22;
/// EPT pointer: tables in write-back memory, of four levels.
const EPT_POINTER: u64 = 6 | 3 << 3;
/// EPT pointer: accessed and dirty flags.
const EPT_ACCESS_DIRTY: u64 = 1 << 6;
/// CR4.VMXE: on while VMX is, and hidden.
pub(super) const CR4_VMXE: u64 = 1 << 13;
/// CR0.NE: on while VMX is; the guest's own is shown.
pub(super) const CR0_NE: u64 = 1 << 5;
/// CR0 bits that a guest changes only in its imagination: NE, and the cache's, which are the machine's.
pub(super) const CR0_OURS: u64 = CR0_NE | cr0::CD | cr0::NW;
/// CR4.MCE: on while a guest runs, so that a machine check is reported rather than a shutdown; the guest's own is shown.
pub(super) const CR4_MCE: u64 = 1 << 6;
/// CR4 bits that the root changes only in its imagination, or not at all.
const CR4_OURS: u64 = CR4_VMXE | CR4_MCE;
/// CR4 bits that a child changes without an exit: VME, PVI, TSD, DE, PSE, PAE, PGE, PCE, OSFXSR, OSXMMEXCPT, UMIP,
/// FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP, PKE. The others turn on what CPUID hides and nobody switches.
const CR4_CHILDS: u64 = 0x7BF | 1 << 11 | 1 << 16 | 1 << 17 | 1 << 18 | 1 << 20 | 1 << 21 | 1 << 22;

/// A virtual processor. Both vendors' begin with the general registers, so that whose it is does not matter to reach them.
#[derive(Debug)]
#[repr(C)]
pub struct Vcpu {
    /// General registers. RSP goes to the VMCS at entry and comes back at exit.
    pub(super) gprs: Gprs,
    /// RSP as the VMCS has it.
    pub(super) vmcs_rsp: u64,
    pub(super) page: HwPages,
    pub(super) caps: Capabilities,
    pub(super) kind: VcpuKind,
    pub(super) guest: Bank<{ Guest::COUNT }>,
    pub(super) control: Bank<{ Control::COUNT }>,
    pub(super) info: Bank<{ Info::COUNT }>,
    /// Registers that stay in the processor while the VP is in hand.
    pub(super) live: Live,
    /// The last exit's reason, 16 bits and the flag of a failed entry.
    pub(super) reason: u32,
    /// The VP is in hand: its VMCS is current.
    pub(super) current: bool,
    /// The VMCS has been launched.
    pub(super) launched: bool,
    /// The processor that its VMCS is prepared for.
    pub(super) processor: Option<u32>,
    /// CR8.
    pub(super) cr8: u8,
    /// DR0 to DR3.
    pub(super) dr: [u64; 4],
    /// DR0 to DR3 are in the processor while the guest runs, so that it may use them directly.
    pub(super) debug_loaded: bool,
    pub(super) tsc_aux: u64,
    pub(super) spec_ctrl: u64,
    pub(super) debugctl: u64,
    /// Exceptions that the partition asked for.
    pub(super) wanted_exceptions: u32,
    /// Control register writes that the partition asked for.
    pub(super) wanted_cr: CrIntercepts,
    /// What the next run flushes.
    pub(super) flush: Flush,
    /// What the VMCS has of page directory pointers may not be what the registers ask for: see [`super::pae`].
    pub(super) pointers_missing: bool,
}

impl Vcpu {
    /// A VP in the state after reset. `page` is one page.
    pub fn new(page: HwPages, caps: Capabilities, config: &VcpuConfig) -> Self {
        let mut vcpu = Self {
            gprs: Gprs::default(),
            vmcs_rsp: 0,
            page,
            caps,
            kind: config.kind,
            guest: Bank::new(),
            control: Bank::new(),
            info: Bank::read_only(),
            live: Live::new(),
            reason: 0,
            current: false,
            launched: false,
            processor: None,
            cr8: 0,
            dr: [0; 4],
            debug_loaded: false,
            tsc_aux: 0,
            spec_ctrl: 0,
            debugctl: 0,
            wanted_exceptions: 0,
            wanted_cr: CrIntercepts::default(),
            flush: Flush::None,
            pointers_missing: false,
        };
        let revision = caps.vmcs_revision.to_le_bytes();
        if let Some(start) = vcpu.page.bytes_mut().first_chunk_mut() {
            *start = revision;
        }
        let controls = match config.kind {
            VcpuKind::Root => caps.root_controls,
            VcpuKind::Child => caps.controls,
        };
        for (field, value) in [
            (Control::PinBased, controls.pin),
            (Control::Primary, controls.primary),
            (Control::Secondary, controls.secondary),
            (Control::Exit, controls.exit),
            (Control::Entry, controls.entry),
        ] {
            vcpu.control.set(field, value.into());
        }
        vcpu.control.set(Control::Vpid, 1);
        vcpu.control.set(Control::EnclsExitingBitmap, u64::MAX);
        vcpu.control.set(Control::PleGap, PLE_GAP);
        vcpu.control.set(Control::PleWindow, PLE_WINDOW);
        vcpu.control.set(Control::Cr0Mask, CR0_OURS);
        vcpu.control.set(Control::Cr4Mask, vcpu.cr4_ours());
        vcpu.guest.set(Guest::VmcsLinkPointer, u64::MAX);
        // The exit does not save it, so each run begins with the same.
        let shift = caps.preemption_timer_shift.unwrap_or(0);
        let ticks = LONGEST_RUN >> shift;
        // With none an entry would end before the first instruction.
        vcpu.guest.set(Guest::PreemptionTimer, ticks.max(1));
        vcpu.set_nested_root(config.nested_root);
        vcpu.set_permission_maps(config.port_map, config.msr_map);
        vcpu.refresh_exceptions();
        vcpu.reset(0);
        vcpu
    }

    /// Ends the VP and returns the page of its VMCS. No processor may be about to run it, and the one that ran it is this.
    pub fn into_page(self) -> HwPages {
        if self.processor.is_some() {
            // SAFETY: it ran here, so this is ring 0 in VMX operation. What the processor keeps of the VMCS must be in
            // memory before the page is used for something else.
            unsafe { super::hardware::vmclear(self.page.spa().0) };
        }
        self.page
    }

    /// Puts the registers into their state after RESET (SDM volume 3, table 10-1), with `cpu_signature` in EDX. Pending
    /// events go, intercepts and memory stay.
    pub fn reset(&mut self, cpu_signature: u32) {
        self.gprs = Gprs {
            rdx: u64::from(cpu_signature),
            ..Gprs::default()
        };
        self.dr = [0; 4];
        (self.tsc_aux, self.spec_ctrl, self.debugctl, self.cr8) = (0, 0, 0, 0);
        for (name, segment) in Segment::after_reset() {
            self.set_segment(name, &segment);
        }
        self.set_gdtr(TableRegister::AFTER_RESET);
        self.set_idtr(TableRegister::AFTER_RESET);
        self.live.reset();
        self.set_efer(0);
        self.set_cr0(cr0::ET | cr0::CD | cr0::NW);
        self.set_cr3(0);
        self.set_cr4(0);
        self.set_dr7(0x400);
        self.set_rflags(rflags::FIXED);
        self.set_rip(0xFFF0);
        for field in [
            Guest::SysenterCs,
            Guest::SysenterEsp,
            Guest::SysenterEip,
            Guest::Interruptibility,
            Guest::ActivityState,
            Guest::PendingDebugExceptions,
            Guest::DebugCtl,
        ] {
            self.guest.set(field, 0);
        }
        self.guest.set(Guest::Pat, PAT_RESET);
        self.control.set(Control::EntryInterruption, 0);
        self.set_debug_loaded(false);
        self.set_interrupt_window(false);
        self.set_nmi_window(false);
    }

    /// The general registers.
    #[inline(always)]
    pub const fn gprs(&self) -> &Gprs {
        &self.gprs
    }

    /// The general registers, to change.
    #[inline(always)]
    pub const fn gprs_mut(&mut self) -> &mut Gprs {
        &mut self.gprs
    }

    /// Sets the root of the EPT. The TLB is the caller's business (`set_tlb`).
    pub fn set_nested_root(&mut self, root: Spa) {
        let access_dirty = if self.caps.ept_access_dirty {
            EPT_ACCESS_DIRTY
        } else {
            0
        };
        self.control
            .set(Control::EptPointer, root.0 | EPT_POINTER | access_dirty);
    }

    /// Sets the permission maps: two pages in a row and one page.
    pub fn set_permission_maps(&mut self, port_map: Spa, msr_map: Spa) {
        self.control.set(Control::IoBitmapA, port_map.0);
        self.control.set(Control::IoBitmapB, port_map.0 + 0x1000);
        self.control.set(Control::MsrBitmap, msr_map.0);
    }

    /// Sets the TLB tag (VPID, not 0) and what the next run flushes; a wider flush asked for earlier stays.
    #[inline(always)]
    pub fn set_tlb(&mut self, tag: u32, flush: Flush) {
        if self.flush != flush {
            self.flush = self.flush.max(flush);
        }
        if self.control.get(Control::Vpid) != u64::from(tag) {
            self.control.set(Control::Vpid, tag.into());
        }
    }

    /// Sets which exceptions (bit = vector) end the run as [`crate::arch::exit::Exit::Exception`].
    pub fn set_exception_intercepts(&mut self, vectors: u32) {
        self.wanted_exceptions = vectors;
        self.refresh_exceptions();
    }

    fn refresh_exceptions(&mut self) {
        // #MC belongs to the machine. #DB and #AC in an endless chain of deliveries would keep the processor in the
        // guest for ever, so a child's pass through here.
        let own = match self.kind {
            VcpuKind::Root => 1 << vector::MC,
            VcpuKind::Child => 1 << vector::MC | 1 << vector::DB | 1 << vector::AC,
        };
        let wanted = self.wanted_exceptions | own;
        self.control.set(Control::ExceptionBitmap, wanted.into());
    }

    /// CR4 bits whose change is not the guest's to make without an exit.
    const fn cr4_ours(&self) -> u64 {
        match self.kind {
            VcpuKind::Root => CR4_OURS,
            VcpuKind::Child => !CR4_CHILDS,
        }
    }

    /// Sets which control register writes end the run.
    pub fn set_cr_intercepts(&mut self, wanted: &CrIntercepts) {
        let (cr0, cr4) = (self.cr0(), self.cr4());
        let pointers_missing = self.pointers_missing;
        self.wanted_cr = *wanted;
        self.control.set(Control::Cr0Mask, wanted.cr0 | CR0_OURS);
        self.control
            .set(Control::Cr4Mask, wanted.cr4 | self.cr4_ours());
        // What the guest sees comes from elsewhere now.
        self.set_cr0(cr0);
        self.set_cr4(cr4);
        self.pointers_missing = pointers_missing;
        self.set_primary(primary::CR8_LOAD_EXITING, wanted.cr8);
    }

    /// Switches bits of the primary controls.
    pub(super) fn set_primary(&mut self, bits: u32, on: bool) {
        let old = self.control.get(Control::Primary);
        let new = if on {
            old | u64::from(bits)
        } else {
            old & !u64::from(bits)
        };
        if new != old {
            self.control.set(Control::Primary, new);
        }
    }

    /// The guest may use DR0 to DR3 without an exit, or not.
    pub(super) fn set_debug_loaded(&mut self, loaded: bool) {
        self.debug_loaded = loaded;
        self.set_primary(primary::MOV_DR_EXITING, !loaded);
    }

    /// Asks for [`crate::arch::exit::Exit::InterruptWindow`] as soon as RFLAGS.IF and the shadow allow an interrupt.
    pub fn set_interrupt_window(&mut self, wanted: bool) {
        self.set_primary(primary::INTERRUPT_WINDOW_EXITING, wanted);
    }

    /// Asks for [`crate::arch::exit::Exit::NmiWindow`] as soon as an NMI can be taken.
    pub fn set_nmi_window(&mut self, wanted: bool) {
        let state = self.known(Guest::Interruptibility);
        if wanted && state & interruptibility::STI != 0 {
            // Not every processor holds the window back behind STI, where no NMI can be injected; behind MOV SS all do.
            let state = state & !interruptibility::STI | interruptibility::MOV_SS;
            self.guest.set(Guest::Interruptibility, state);
        }
        self.set_primary(primary::NMI_WINDOW_EXITING, wanted);
    }

    /// One of [`Guest::AT_EXIT`].
    #[inline(always)]
    pub(super) fn known(&self, field: Guest) -> u64 {
        debug_assert!(Guest::AT_EXIT.contains(&field));
        self.guest.get(field)
    }

    /// Reads whatever the processor alone knows of it: other processors may look at it then.
    ///
    /// # Safety
    /// On the processor where it ran last.
    pub unsafe fn settle(&mut self) {
        for &field in Guest::ALL {
            self.field(field);
        }
        for &field in Info::ALL {
            self.told(field);
        }
        self.live.leave();
    }

    /// Leaves the processor for good: another one may run it.
    ///
    /// # Safety
    /// On the processor where it ran last, which is not about to run it.
    pub unsafe fn depart(&mut self) {
        // SAFETY: the caller's obligation is the same.
        unsafe { self.settle() };
        if self.processor.take().is_some() {
            // SAFETY: it ran here, so this is ring 0 in VMX operation; everything that the VMCS has is here too.
            unsafe { super::hardware::vmclear(self.page.spa().0) };
        }
        self.current = false;
        self.launched = false;
    }

    /// Nothing of it is known to the processor alone.
    pub fn is_settled(&self) -> bool {
        self.guest.is_complete() && self.info.is_complete() && self.live.is_complete()
    }

    /// A guest-state field.
    #[inline(always)]
    pub(super) fn field(&self, field: Guest) -> u64 {
        match self.guest.known(field) {
            Some(value) => value,
            None => {
                let value = self.vmread(field);
                self.guest.note(field, value);
                value
            }
        }
    }

    /// What the processor tells of the last exit.
    #[inline(always)]
    pub(super) fn told(&self, field: Info) -> u64 {
        match self.info.known(field) {
            Some(value) => value,
            None => {
                let value = self.vmread(field);
                self.info.note(field, value);
                value
            }
        }
    }

    #[inline(always)]
    fn vmread<F: Field>(&self, field: F) -> u64 {
        let encoding = F::ENCODINGS.get(field.index()).copied().unwrap_or(0);
        vmcs::read(self.page.spa(), self.current, encoding)
    }

    /// The port access that ended the last run. Anything after another exit.
    pub fn port_access(&self) -> IoExit {
        exits::port_access(self.told(Info::Qualification))
    }

    /// The second-level fault that ended the last run. Anything after another exit.
    pub fn nested_fault(&self) -> NestedFault {
        exits::nested_fault(
            self.told(Info::Qualification),
            self.told(Info::GuestPhysicalAddress),
            || self.told(Info::GuestLinearAddress),
        )
    }

    /// Length of the intercepted instruction.
    #[inline(always)]
    pub fn instruction_length(&self) -> Option<u8> {
        if !exits::tells_length(self.reason) {
            return None;
        }
        let length = self.told(Info::InstructionLength) as u8;
        (1..=15).contains(&length).then_some(length)
    }

    /// Bytes of the intercepted instruction: this processor does not tell.
    pub const fn instruction_bytes(&self) -> &[u8] {
        &[]
    }
}
