//! The choice between vendors, made once per machine.

use tlfs::HvProcessorVendor;

use super::constants::{self, ConstantMsr};
use super::cpuid::{CpuidSource, ThisProcessor};
use super::exit::{Event, Exit, IoExit, NestedFault};
use super::maps;
use super::msr::{MsrSource, ThisProcessorMsrs};
use super::page::HwPages;
use super::snapshot::{Snapshot, snapshot};
use super::state::{CodeAddress, Gprs, Segment, SegmentName, SystemRegister, TableRegister};
use super::{Counters, CrIntercepts, Flush, Refusal, VcpuConfig, VcpuKind};
use super::{svm, vmx};
use crate::mem::addr::Gpa;
use crate::mem::format::{Ept, LeafSize, Npt, Pat, SecondLevel};
use crate::mem::tlb::TagKind;

/// What the machine's virtualization can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capabilities {
    /// AMD SVM.
    Svm(svm::Capabilities),
    /// Intel VMX.
    Vmx(vmx::Capabilities),
}

impl Capabilities {
    /// Whose processor it is, in the interface's words.
    pub const fn vendor(&self) -> HvProcessorVendor {
        match self {
            Self::Svm(_) => HvProcessorVendor::AMD,
            Self::Vmx(_) => HvProcessorVendor::INTEL,
        }
    }

    /// The instruction by which guests make hypercalls. The other vendor's is #UD by the processor.
    pub const fn hypercall_instruction(&self) -> [u8; 3] {
        match self {
            Self::Svm(_) => [0x0F, 0x01, 0xD9],
            Self::Vmx(_) => [0x0F, 0x01, 0xC1],
        }
    }

    /// What an MSR of a child always reads, if it is one of those of this vendor (see [`constants`]).
    pub fn constant_msr(&self, msr: u32) -> Option<u64> {
        let all: &[ConstantMsr] = match self {
            Self::Svm(_) => &constants::AMD,
            Self::Vmx(_) => &constants::INTEL,
        };
        let found = all.iter().find(|entry| entry.number == msr);
        found.map(|entry| entry.value)
    }

    /// Whether a write of the root's to an MSR of the machine has no effect: what it means is the firmware's affair.
    pub fn root_ignores(&self, msr: u32) -> bool {
        maps::root_ignores(self, msr)
    }

    /// Number of TLB tags, tag 0 (the host's) included.
    pub const fn tlb_tags(&self) -> u32 {
        match self {
            Self::Svm(caps) => caps.asids,
            Self::Vmx(_) => vmx::VPIDS,
        }
    }

    /// What carries the tags, and what can be flushed by them.
    pub const fn tag_kind(&self) -> TagKind {
        match self {
            Self::Svm(caps) => TagKind::Asid {
                flush_by_asid: caps.flush_by_asid,
            },
            Self::Vmx(_) => TagKind::Vpid,
        }
    }

    /// The tables of a partition of this kind with `guest_bits` of guest physical address (32 to 48) on a processor with
    /// `physical_bits` (32 to 52), with leaves of at most `largest`.
    pub const fn second_level(
        &self,
        kind: VcpuKind,
        physical_bits: u8,
        guest_bits: u8,
        largest: LeafSize,
    ) -> SecondLevel {
        match self {
            Self::Svm(_) => {
                // Nested tables use the host's PAT.
                SecondLevel::Npt(Npt::new(physical_bits, guest_bits, Pat::PARTITA, largest))
            }
            Self::Vmx(caps) => {
                let features = caps.ept_features(kind, largest);
                SecondLevel::Ept(Ept::new(physical_bits, guest_bits, features))
            }
        }
    }
}

/// What this processor can do. MSRs are read only where CPUID tells of them.
///
/// # Errors
/// Why it cannot run the hypervisor.
pub fn probe(cpu: &impl CpuidSource, msrs: &impl MsrSource) -> Result<Capabilities, Refusal> {
    match svm::probe(cpu, msrs) {
        Err(Refusal::NoVirtualization) => vmx::probe(cpu, msrs).map(Capabilities::Vmx),
        other => other.map(Capabilities::Svm),
    }
}

/// What the processor that this runs on can do.
///
/// # Errors
/// Why it cannot run the hypervisor.
///
/// # Safety
/// Ring 0.
pub unsafe fn probe_here() -> Result<Capabilities, Refusal> {
    // SAFETY: ring 0 by contract, and `probe` asks only for MSRs that exist.
    probe(&ThisProcessor, &unsafe { ThisProcessorMsrs::new() })
}

/// The virtualization state of one physical processor.
#[derive(Debug)]
#[repr(C, u8)]
pub enum Processor {
    /// AMD SVM.
    Svm(svm::Processor),
    /// Intel VMX.
    Vmx(vmx::Processor),
}

impl Processor {
    /// Pages that [`Self::enable`] takes.
    pub const PAGES: usize = 2;

    /// Turns virtualization on for this processor.
    ///
    /// # Safety
    /// As [`svm::Processor::enable`] and [`vmx::Processor::enable`]: probed, ring 0 on processor `index` with its final
    /// descriptor tables and GS base, and the value stays on this processor.
    pub unsafe fn enable(index: u32, pages: [HwPages; Self::PAGES], caps: &Capabilities) -> Self {
        let [first, second] = pages;
        // SAFETY: the caller's obligations are the same.
        unsafe {
            match caps {
                Capabilities::Svm(caps) => {
                    Self::Svm(svm::Processor::enable(index, first, second, caps))
                }
                Capabilities::Vmx(caps) => {
                    Self::Vmx(vmx::Processor::enable(index, first, second, caps))
                }
            }
        }
    }

    /// The figures.
    pub const fn counters(&self) -> &Counters {
        match self {
            Self::Svm(p) => &p.counters,
            Self::Vmx(p) => &p.counters,
        }
    }

    /// The figures, for those who count outside this folder.
    pub const fn counters_mut(&mut self) -> &mut Counters {
        match self {
            Self::Svm(p) => &mut p.counters,
            Self::Vmx(p) => &mut p.counters,
        }
    }
}

/// The hardware half of a virtual processor.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a VP has a page to itself, whichever it is"
)]
#[repr(C, u8)]
pub enum VpHw {
    /// AMD SVM.
    Svm(svm::Vcpu),
    /// Intel VMX.
    Vmx(vmx::Vcpu),
}

/// A vendor's VPs, for code that is compiled once for each (`with_backend`).
pub trait Backend {
    /// Whether it is one of them.
    fn is_of(hw: &VpHw) -> bool;
}

impl Backend for svm::Vcpu {
    #[inline(always)]
    fn is_of(hw: &VpHw) -> bool {
        matches!(hw, VpHw::Svm(_))
    }
}

impl Backend for vmx::Vcpu {
    #[inline(always)]
    fn is_of(hw: &VpHw) -> bool {
        matches!(hw, VpHw::Vmx(_))
    }
}

/// An expression in which a name stands for the [`Backend`] of a VP: it is compiled once for each.
macro_rules! with_backend {
    ($hw:expr, $backend:ident => $what:expr) => {
        match $hw {
            $crate::arch::VpHw::Svm(_) => {
                type $backend = $crate::arch::svm::Vcpu;
                $what
            }
            $crate::arch::VpHw::Vmx(_) => {
                type $backend = $crate::arch::vmx::Vcpu;
                $what
            }
        }
    };
}
pub(crate) use with_backend;

macro_rules! forward {
    ($($(#[$attr:meta])* $name:ident(&$(($mut:tt))? self $(, $arg:ident: $ty:ty)*) $(-> $ret:ty)?;)+) => {
        $(
            $(#[$attr])*
            #[inline(always)]
            pub fn $name(&$($mut)? self $(, $arg: $ty)*) $(-> $ret)? {
                match self {
                    Self::Svm(vcpu) => vcpu.$name($($arg),*),
                    Self::Vmx(vcpu) => vcpu.$name($($arg),*),
                }
            }
        )+
    };
}

impl VpHw {
    /// Pages that [`Self::new`] takes.
    pub const PAGES: usize = 1;

    /// A VP in the state after reset.
    pub fn new(page: HwPages, caps: &Capabilities, config: &VcpuConfig) -> Self {
        match caps {
            Capabilities::Svm(caps) => Self::Svm(svm::Vcpu::new(page, *caps, config)),
            Capabilities::Vmx(caps) => Self::Vmx(vmx::Vcpu::new(page, *caps, config)),
        }
    }

    /// Ends the VP and returns its page. No processor may be about to run it.
    pub fn into_page(self) -> HwPages {
        match self {
            Self::Svm(vcpu) => vcpu.into_page(),
            Self::Vmx(vcpu) => vcpu.into_page(),
        }
    }

    /// Runs the VP on this processor until it leaves the guest, under a TLB tag of which `flush` goes first, interrupts off
    /// before and after; see [`svm::Vcpu::run`] and
    /// [`vmx::Vcpu::run`].
    ///
    /// # Safety
    /// As there: `processor` is this one, the VP that it ran before has left it ([`Self::leave`]), and the VP's tables and
    /// maps leave the hypervisor alone.
    #[inline(always)]
    pub unsafe fn run(&mut self, processor: &mut Processor, tag: u32, flush: Flush) -> Exit {
        // SAFETY: the caller's obligations are the same.
        unsafe {
            match (self, processor) {
                (Self::Svm(vcpu), Processor::Svm(processor)) => {
                    vcpu.set_tlb(tag, flush);
                    vcpu.run(processor)
                }
                (Self::Vmx(vcpu), Processor::Vmx(processor)) => {
                    vcpu.set_tlb(tag, flush);
                    vcpu.run(processor)
                }
                _ => other_vendor(),
            }
        }
    }

    /// Makes sure whose it is, which every caller knows: what follows, as far as it is inlined, does not ask again for each
    /// register.
    #[inline(always)]
    pub fn is_of<B: Backend>(&self) {
        if !B::is_of(self) {
            other_vendor();
        }
    }

    /// The VP leaves this processor, since another one is to run here. Its registers can be read and changed as before.
    ///
    /// # Safety
    /// The VP last ran here, or never.
    pub unsafe fn leave(&mut self) {
        match self {
            // VMRUN and #VMEXIT leave nothing in the processor.
            Self::Svm(_) => {}
            // SAFETY: the caller's obligation is the same.
            Self::Vmx(vcpu) => unsafe { vcpu.leave() },
        }
    }

    /// What messages and the register page show of it.
    #[inline(never)]
    pub fn snapshot(&self) -> Snapshot {
        match self {
            Self::Svm(vcpu) => snapshot!(vcpu),
            Self::Vmx(vcpu) => snapshot!(vcpu),
        }
    }

    /// Before a turn: gives the processor the page directory pointers of 32-bit PAE paging, if the VP's registers ask for
    /// others since they were set. `read` reads the four at an address of the guest.
    ///
    /// # Errors
    /// Those of `read`: the VP cannot run.
    #[inline(always)]
    pub fn load_directory_pointers<E>(
        &mut self,
        read: impl FnOnce(Gpa) -> Result<[u64; 4], E>,
    ) -> Result<(), E> {
        match self {
            // With nested paging, walks read them from memory (manual volume 2, 15.25.10).
            Self::Svm(_) => Ok(()),
            Self::Vmx(vcpu) => vcpu.load_directory_pointers(read),
        }
    }

    /// Makes the VP readable for other processors.
    ///
    /// # Safety
    /// On the processor where it ran last, if it ran.
    pub unsafe fn settle(&mut self) {
        match self {
            // VMRUN and #VMEXIT leave nothing in the processor.
            Self::Svm(_) => {}
            // SAFETY: the caller's obligation is the same.
            Self::Vmx(vcpu) => unsafe { vcpu.settle() },
        }
    }

    /// The VP leaves the processor for good: any may run it next.
    ///
    /// # Safety
    /// On the processor where it ran last, if it ran; it is not about to run there.
    pub unsafe fn depart(&mut self) {
        match self {
            Self::Svm(_) => {}
            // SAFETY: the caller's obligations are the same.
            Self::Vmx(vcpu) => unsafe { vcpu.depart() },
        }
    }

    /// Other processors may read the VP's registers.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Svm(_) => true,
            Self::Vmx(vcpu) => vcpu.is_settled(),
        }
    }

    forward! {
        /// The state after RESET, with the processor signature in EDX; intercepts and memory stay.
        reset(&(mut) self, cpu_signature: u32);
        /// General registers.
        gprs(&self) -> &Gprs;
        /// General registers, to change.
        gprs_mut(&(mut) self) -> &mut Gprs;
        /// RIP.
        rip(&self) -> u64;
        /// Sets RIP.
        set_rip(&(mut) self, value: u64);
        /// RFLAGS.
        rflags(&self) -> u64;
        /// Sets RFLAGS.
        set_rflags(&(mut) self, value: u64);
        /// CR0.
        cr0(&self) -> u64;
        /// Sets CR0.
        set_cr0(&(mut) self, value: u64);
        /// CR2.
        cr2(&self) -> u64;
        /// Sets CR2.
        set_cr2(&(mut) self, value: u64);
        /// CR3.
        cr3(&self) -> u64;
        /// Sets CR3.
        set_cr3(&(mut) self, value: u64);
        /// CR4.
        cr4(&self) -> u64;
        /// Sets CR4.
        set_cr4(&(mut) self, value: u64);
        /// CR8, 0 to 15.
        cr8(&self) -> u8;
        /// Sets CR8.
        set_cr8(&(mut) self, value: u8);
        /// EFER as the guest sees it.
        efer(&self) -> u64;
        /// Sets EFER; validity is the caller's affair.
        set_efer(&(mut) self, value: u64);
        /// DR0 to DR3.
        dr(&self, number: usize) -> u64;
        /// Sets DR0 to DR3.
        set_dr(&(mut) self, number: usize, value: u64);
        /// DR6.
        dr6(&self) -> u64;
        /// Sets DR6.
        set_dr6(&(mut) self, value: u64);
        /// DR7.
        dr7(&self) -> u64;
        /// Sets DR7.
        set_dr7(&(mut) self, value: u64);
        /// Privilege level.
        cpl(&self) -> u8;
        /// A segment register.
        segment(&self, name: SegmentName) -> Segment;
        /// Sets a segment register; SS sets the privilege level too.
        set_segment(&(mut) self, name: SegmentName, segment: &Segment);
        /// GDTR.
        gdtr(&self) -> TableRegister;
        /// Sets GDTR.
        set_gdtr(&(mut) self, value: TableRegister);
        /// IDTR.
        idtr(&self) -> TableRegister;
        /// Sets IDTR.
        set_idtr(&(mut) self, value: TableRegister);
        /// A register that is an MSR of the VP.
        system_register(&self, register: SystemRegister) -> u64;
        /// Sets a register that is an MSR of the VP; validity is the caller's affair.
        set_system_register(&(mut) self, register: SystemRegister, value: u64);
        /// What of the state the processor refuses to enter, as far as it is known.
        refusal(&self) -> Option<&'static str>;
        /// Where the code at RIP is.
        code_address(&self) -> CodeAddress;
        /// In 64-bit code.
        in_64_bit_code(&self) -> bool;
        /// The event of the next entry.
        pending_event(&self) -> Option<Event>;
        /// Replaces the event of the next entry.
        set_pending_event(&(mut) self, pending: Option<Event>);
        /// Delivers an event at the next entry; false for a triple fault.
        #[must_use = "a triple fault is the VP's end"]
        inject(&(mut) self, event: Event) -> bool;
        /// An external interrupt could be delivered.
        can_take_interrupt(&self) -> bool;
        /// An NMI could be delivered.
        can_take_nmi(&self) -> bool;
        /// The interrupt shadow.
        interrupt_shadow(&self) -> bool;
        /// Sets the interrupt shadow.
        set_interrupt_shadow(&(mut) self, shadow: bool);
        /// NMIs wait for IRET.
        nmi_masked(&self) -> bool;
        /// Masks or unmasks NMIs.
        set_nmi_masked(&(mut) self, masked: bool);
        /// Asks for an exit when an interrupt can be taken. The exit ends the request.
        set_interrupt_window(&(mut) self, wanted: bool);
        /// The event of the next entry is an interrupt that the processor may deliver twice, unless something ends the run
        /// as soon as it is delivered.
        repeats_event(&self) -> bool;
        /// Asks for an exit when an NMI can be taken. The exit ends the request.
        set_nmi_window(&(mut) self, wanted: bool);
        /// Moves RIP behind an emulated instruction.
        advance_rip(&(mut) self, length: u8);
        /// Length of the intercepted instruction, where the processor tells.
        instruction_length(&self) -> Option<u8>;
        /// Bytes of the intercepted instruction, where the processor tells.
        instruction_bytes(&self) -> &[u8];
        /// The port access that ended the last run. Anything after another exit.
        port_access(&self) -> IoExit;
        /// The second-level fault that ended the last run. Anything after another exit.
        nested_fault(&self) -> NestedFault;
        /// Exceptions (bit = vector) that end the run.
        set_exception_intercepts(&(mut) self, vectors: u32);
        /// Control register writes that end the run.
        set_cr_intercepts(&(mut) self, wanted: &CrIntercepts);
    }
}

#[cold]
fn other_vendor() -> ! {
    unreachable!("a VP of another vendor's")
}
