//! One virtual processor on SVM: its VMCB, and the little state that the VMCB has no place for.

use core::ptr::NonNull;

use crate::arch::exit::{IoExit, NestedFault};
use crate::arch::page::HwPages;
use crate::arch::state::{Gprs, PAT_RESET, Segment, TableRegister, cr0, efer, rflags, vector};
use crate::arch::{CrIntercepts, Flush, VcpuConfig, VcpuKind};
use crate::mem::addr::Spa;

use super::bits::{clean, misc1, misc2, misc3, tlb_control, vintr};
use super::enable::Capabilities;
use super::exits;
use super::vmcb::{Control, Save, Vmcb};

/// PAUSEs of one loop before the filter reports it.
const PAUSE_COUNT: u16 = 3000;
/// Longest distance of two PAUSEs of one loop, in cycles.
const PAUSE_THRESHOLD: u16 = 128;

/// What a VP does about NMIs, which this processor does not virtualize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NmiState {
    /// NMIs are deliverable.
    Open,
    /// Delivered, and IRET is awaited.
    Masked,
    /// The last instruction without NMIs is about to execute: once RIP is another, they are open.
    Returning {
        /// Its RIP.
        rip: u64,
        /// It is an IRET, rather than the instruction in an interrupt shadow.
        iret: bool,
        /// It is single-stepped, and this was the guest's own TF.
        stepping: Option<bool>,
    },
}

/// A virtual processor. Both vendors' begin with the general registers, so that whose it is does not matter to reach them.
#[derive(Debug)]
#[repr(C)]
pub struct Vcpu {
    /// General registers. RAX and RSP go to the VMCB at entry and come back at exit.
    pub(super) gprs: Gprs,
    pub(super) vmcb: HwPages,
    pub(super) caps: Capabilities,
    pub(super) kind: VcpuKind,
    /// DR0 to DR3: not in the VMCB.
    pub(super) dr: [u64; 4],
    /// DR0 to DR3 are in the processor while the guest runs, so that it may use them directly.
    pub(super) debug_loaded: bool,
    pub(super) nmi: NmiState,
    pub(super) nmi_window: bool,
    /// RIP before and after a software interrupt injected at this entry.
    pub(super) software_rip: Option<(u64, u64)>,
    /// The event of this entry is a virtual interrupt with this vector, see [`Self::post_interrupt`].
    pub(super) posted: Option<u8>,
    /// RIP of this entry, if it is in an interrupt shadow that the processor forgets, see [`Self::note_shadow`].
    pub(super) shadowed_at: Option<u64>,
    pub(super) tsc_aux: u64,
    pub(super) spec_ctrl: u64,
    pub(super) debugctl: u64,
    /// Exceptions that the partition asked for.
    pub(super) wanted_exceptions: u32,
    /// The processor that ran it last: clean bits hold nowhere else.
    pub(super) last_processor: Option<u32>,
    /// Writes of control registers (bit = register) that end the run.
    pub(super) cr_writes: u16,
    /// Clean bits after a run: all, where the processor knows them.
    pub(super) clean_bits: u32,
    /// What the next run flushes.
    pub(super) flush: Flush,
}

impl Vcpu {
    /// A VP in the state after reset. `vmcb` is one page.
    pub fn new(vmcb: HwPages, caps: Capabilities, config: &VcpuConfig) -> Self {
        let mut vcpu = Self {
            gprs: Gprs::default(),
            vmcb,
            caps,
            kind: config.kind,
            dr: [0; 4],
            debug_loaded: false,
            nmi: NmiState::Open,
            nmi_window: false,
            software_rip: None,
            posted: None,
            shadowed_at: None,
            tsc_aux: 0,
            spec_ctrl: 0,
            debugctl: 0,
            wanted_exceptions: 0,
            last_processor: None,
            cr_writes: 0,
            clean_bits: if caps.clean_bits { clean::ALL } else { 0 },
            flush: Flush::None,
        };
        let control = vcpu.control_mut();
        control.iopm_base = config.port_map.0;
        control.msrpm_base = config.msr_map.0;
        control.nested_cr3 = config.nested_root.0;
        control.np_enable = 1;
        control.guest_asid = 1;
        control.intercept_misc2 = misc2::VMRUN
            | misc2::VMMCALL
            | misc2::VMLOAD
            | misc2::VMSAVE
            | misc2::STGI
            | misc2::CLGI
            | misc2::SKINIT
            | misc2::WBINVD
            | misc2::MONITOR
            | misc2::MWAIT
            | misc2::MWAIT_ARMED
            | misc2::XSETBV
            | misc2::RDPRU;
        if config.kind == VcpuKind::Child {
            // CPUID hides it, and TSC_AUX is the machine's.
            control.intercept_misc2 |= misc2::RDTSCP;
        }
        control.intercept_misc3 = misc3::INVLPGB | misc3::INVLPGB_ILLEGAL | misc3::TLBSYNC;
        if caps.pause_filter {
            control.pause_filter_count = PAUSE_COUNT;
            control.pause_filter_threshold = if caps.pause_threshold {
                PAUSE_THRESHOLD
            } else {
                0
            };
        }
        vcpu.refresh_intercepts();
        vcpu.reset(0);
        vcpu
    }

    /// Ends the VP and returns the page of its VMCB. No processor may be about to run it.
    pub fn into_page(self) -> HwPages {
        self.vmcb
    }

    /// Puts the registers into their state after RESET (manual volume 2, table 14-1), with `cpu_signature` in EDX. Pending
    /// events go, intercepts and memory stay.
    pub fn reset(&mut self, cpu_signature: u32) {
        self.gprs = Gprs {
            rdx: u64::from(cpu_signature),
            ..Gprs::default()
        };
        self.dr = [0; 4];
        self.debug_loaded = false;
        self.nmi = NmiState::Open;
        self.nmi_window = false;
        self.software_rip = None;
        (self.tsc_aux, self.spec_ctrl, self.debugctl) = (0, 0, 0);
        for (name, segment) in Segment::after_reset() {
            self.set_segment(name, &segment);
        }
        self.set_gdtr(TableRegister::AFTER_RESET);
        self.set_idtr(TableRegister::AFTER_RESET);
        let control = self.control_mut();
        control.vintr = vintr::MASKING;
        control.interrupt_shadow = 0;
        control.event_inj = 0;
        control.exit_int_info = 0;
        let save = self.save_mut();
        save.cpl = 0;
        save.efer = efer::SVME;
        (save.cr0, save.cr2, save.cr3, save.cr4) = (cr0::ET | cr0::CD | cr0::NW, 0, 0, 0);
        (save.dr6, save.dr7) = (0xFFFF_0FF0, 0x400);
        (save.rflags, save.rip) = (rflags::FIXED, 0xFFF0);
        (
            save.star,
            save.lstar,
            save.cstar,
            save.sfmask,
            save.kernel_gs_base,
        ) = (0, 0, 0, 0, 0);
        (save.sysenter_cs, save.sysenter_esp, save.sysenter_eip) = (0, 0, 0);
        save.g_pat = PAT_RESET;
        self.refresh_intercepts();
        self.dirty(clean::ALL);
    }

    /// The general registers.
    pub const fn gprs(&self) -> &Gprs {
        &self.gprs
    }

    /// The general registers, to change.
    pub const fn gprs_mut(&mut self) -> &mut Gprs {
        &mut self.gprs
    }

    /// Sets the root of the nested page tables. The TLB is the caller's business (`set_tlb`).
    pub fn set_nested_root(&mut self, root: Spa) {
        self.control_mut().nested_cr3 = root.0;
        self.dirty(clean::NESTED);
    }

    /// Sets the permission maps: three pages and two pages, page-aligned.
    pub fn set_permission_maps(&mut self, port_map: Spa, msr_map: Spa) {
        self.control_mut().iopm_base = port_map.0;
        self.control_mut().msrpm_base = msr_map.0;
        self.dirty(clean::PERMISSION_MAPS);
    }

    /// Sets the TLB tag (not 0) and what the next run flushes; a wider flush asked for earlier stays. A flush of one tag
    /// becomes one of all where the processor cannot do better.
    #[inline]
    pub fn set_tlb(&mut self, tag: u32, flush: Flush) {
        if self.flush != flush {
            self.ask_flush(flush);
        }
        if self.control().guest_asid != tag {
            self.control_mut().guest_asid = tag;
            self.dirty(clean::ASID);
        }
    }

    #[cold]
    fn ask_flush(&mut self, flush: Flush) {
        self.flush = self.flush.max(flush);
        self.control_mut().tlb_control = match self.flush {
            Flush::None => tlb_control::NONE,
            Flush::Tag | Flush::Domain if self.caps.flush_by_asid => tlb_control::THIS_GUEST,
            Flush::Tag | Flush::Domain | Flush::All => tlb_control::ALL,
        };
    }

    /// Sets which exceptions (bit = vector) end the run as [`crate::arch::exit::Exit::Exception`].
    pub fn set_exception_intercepts(&mut self, vectors: u32) {
        self.wanted_exceptions = vectors;
        self.refresh_intercepts();
    }

    /// Sets which control register writes end the run: any of a register of which a change is wanted.
    pub fn set_cr_intercepts(&mut self, wanted: &CrIntercepts) {
        self.cr_writes = u16::from(wanted.cr0 != 0)
            | u16::from(wanted.cr4 != 0) << 4
            | u16::from(wanted.cr8) << 8;
        self.refresh_intercepts();
    }

    /// Recomputes every intercept that depends on the VP's state.
    pub(super) fn refresh_intercepts(&mut self) {
        let mut one = misc1::INTR
            | misc1::NMI
            | misc1::INIT
            | misc1::RDPMC
            | misc1::CPUID
            | misc1::RSM
            | misc1::INVD
            | misc1::HLT
            | misc1::INVLPGA
            | misc1::IOIO_PROT
            | misc1::MSR_PROT
            | misc1::TASK_SWITCH
            | misc1::SHUTDOWN;
        if self.kind == VcpuKind::Root {
            // The root owns the machine's performance counters, and may switch tasks.
            one &= !(misc1::RDPMC | misc1::TASK_SWITCH);
        }
        if self.caps.pause_filter {
            one |= misc1::PAUSE;
        }
        if self.window_requested() {
            one |= misc1::VINTR;
        }
        if self.nmi == NmiState::Masked {
            one |= misc1::IRET;
        }
        // #MC belongs to the machine. #DB and #AC in an endless chain of deliveries would keep the processor in the
        // guest for ever, physical interrupts off, so a child's pass through here.
        let mut exceptions = self.wanted_exceptions | 1 << vector::MC;
        let stepping = matches!(
            self.nmi,
            NmiState::Returning {
                stepping: Some(_),
                ..
            }
        );
        if self.kind == VcpuKind::Child || stepping {
            exceptions |= 1 << vector::DB;
        }
        if self.kind == VcpuKind::Child {
            exceptions |= 1 << vector::AC;
        }
        // DR0 to DR3, and DR7 (and DR5, its alias) because with it they gain effect.
        let (debug_reads, debug_writes) = if self.debug_loaded {
            (0, 0)
        } else {
            (0x0F, 0xAF)
        };
        let cr_writes = self.cr_writes;
        let control = self.control_mut();
        control.intercept_misc1 = one;
        control.intercept_exceptions = exceptions;
        control.intercept_dr_read = debug_reads;
        control.intercept_dr_write = debug_writes;
        control.intercept_cr_read = 0;
        control.intercept_cr_write = cr_writes;
        self.dirty(clean::INTERCEPTS);
    }

    /// Says that `bits` of [`clean`] changed.
    pub(super) fn dirty(&mut self, bits: u32) {
        self.control_mut().clean_bits &= !bits;
    }

    /// Physical address of the VMCB.
    pub(super) const fn vmcb_spa(&self) -> Spa {
        self.vmcb.spa()
    }

    pub(super) fn control(&self) -> &Control {
        // SAFETY: the page is mapped, initialized and ours (HwPages); every bit pattern is a valid Vmcb; the processor
        // writes it only inside `svm_enter`, during which no reference lives.
        unsafe { &self.vmcb.cast::<Vmcb>().as_ref().control }
    }

    pub(super) fn control_mut(&mut self) -> &mut Control {
        // SAFETY: as in `control`; `&mut self` excludes other references.
        unsafe { &mut self.vmcb_pointer().as_mut().control }
    }

    /// The port access that ended the last run. Anything after another exit.
    pub fn port_access(&self) -> IoExit {
        exits::port_access(self.control().exit_info1)
    }

    /// The second-level fault that ended the last run. Anything after another exit.
    pub fn nested_fault(&self) -> NestedFault {
        let control = self.control();
        exits::nested_fault(control.exit_info1, control.exit_info2)
    }

    pub(super) fn save(&self) -> &Save {
        // SAFETY: as in `control`.
        unsafe { &self.vmcb.cast::<Vmcb>().as_ref().save }
    }

    pub(super) fn save_mut(&mut self) -> &mut Save {
        // SAFETY: as in `control_mut`.
        unsafe { &mut self.vmcb_pointer().as_mut().save }
    }

    fn vmcb_pointer(&mut self) -> NonNull<Vmcb> {
        self.vmcb.cast()
    }
}
