//! Is SVM there, and turning it on.

use crate::arch::Refusal;
use crate::arch::cpuid::CpuidSource;
use crate::arch::features::Feature;
use crate::arch::msr::{MSR_EFER, MsrSource, SwitchedMsrs, rdmsr, wrmsr};
use crate::arch::page::HwPages;
use crate::arch::state::efer;

use super::hardware;

/// MSR with the SVM lock and disable bits.
const MSR_VM_CR: u32 = 0xC001_0114;
/// MSR with the address of the host save area.
const MSR_VM_HSAVE_PA: u32 = 0xC001_0117;
/// VM_CR: SVM is disabled, EFER.SVME cannot be set.
const VM_CR_SVMDIS: u64 = 1 << 4;

/// What this processor's SVM can do. All processors of a machine are taken to be alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Number of TLB tags, tag 0 (the host's) included.
    pub asids: u32,
    /// The next RIP is saved on intercepted instructions.
    pub nrip_save: bool,
    /// Instruction bytes and register numbers are saved on some exits.
    pub decode_assists: bool,
    /// One tag can be flushed alone.
    pub flush_by_asid: bool,
    /// VMCB clean bits are honoured.
    pub clean_bits: bool,
    /// PAUSE loops can be found.
    pub pause_filter: bool,
    /// The pause filter has a threshold.
    pub pause_threshold: bool,
    /// IA32_SPEC_CTRL exists.
    pub spec_ctrl: bool,
    /// TSC_AUX exists (RDTSCP or RDPID).
    pub tsc_aux: bool,
    /// An interrupt given to VMRUN as an event may be delivered twice, see `Vcpu::post_interrupt`.
    pub repeats_interrupts: bool,
    /// VMRUN does not bring the interrupt shadow back, see `Vcpu::note_shadow`.
    pub forgets_shadow: bool,
}

impl Capabilities {
    /// What the processor may have or not, as far as the hypervisor uses it.
    pub(in crate::arch) const fn features(&self) -> [Feature; 5] {
        [
            ("next RIP", self.nrip_save),
            ("flush by ASID", self.flush_by_asid),
            ("decode assists", self.decode_assists),
            ("clean bits", self.clean_bits),
            ("pause filter", self.pause_filter),
        ]
    }
}

/// Name of QEMU's software CPU in CPUID leaf 0x4000_0000, EBX, ECX, EDX: "TCGTCGTCGTCG".
const TCG: [u32; 3] = [0x5447_4354, 0x4354_4743, 0x4743_5447];

/// What CPUID and VM_CR say about SVM.
///
/// # Errors
/// The reason why this processor cannot run the hypervisor. VM_CR is read only once CPUID says that SVM exists.
pub fn probe(cpu: &impl CpuidSource, msrs: &impl MsrSource) -> Result<Capabilities, Refusal> {
    let extended = cpu.cpuid_checked(0x8000_0001, 0);
    if extended.ecx & (1 << 2) == 0 {
        return Err(Refusal::NoVirtualization);
    }
    if msrs.read(MSR_VM_CR) & VM_CR_SVMDIS != 0 {
        return Err(Refusal::DisabledByFirmware);
    }
    let svm = cpu.cpuid_checked(0x8000_000A, 0);
    let has = |bit: u32| svm.edx & (1 << bit) != 0;
    if !has(0) {
        return Err(Refusal::NoNestedPaging);
    }
    // Tag 0 is the host's, so a guest needs a second one.
    if svm.ebx < 2 {
        return Err(Refusal::NoTlbTags);
    }
    let features = cpu.cpuid_checked(0x8000_0008, 0);
    let below = cpu.cpuid_checked(0x4000_0000, 0);
    let hypervisor_present = cpu.cpuid_checked(1, 0).ecx & (1 << 31) != 0;
    let rdpid = cpu.cpuid_checked(7, 0).ecx & (1 << 22) != 0;
    let tcg = hypervisor_present && [below.ebx, below.ecx, below.edx] == TCG;
    Ok(Capabilities {
        asids: svm.ebx,
        nrip_save: has(3),
        clean_bits: has(5),
        flush_by_asid: has(6),
        decode_assists: has(7),
        pause_filter: has(10),
        pause_threshold: has(12),
        // IBRS or STIBP or SSBD, by AMD's leaf or by Intel's.
        spec_ctrl: features.ebx & (1 << 14 | 1 << 15 | 1 << 24) != 0
            || cpu.cpuid_checked(7, 0).edx & (1 << 26 | 1 << 27 | 1 << 31) != 0,
        tsc_aux: extended.edx & (1 << 27) != 0 || rdpid,
        repeats_interrupts: tcg,
        forgets_shadow: tcg,
    })
}

/// The state of one physical processor that running VPs needs.
#[derive(Debug)]
#[repr(C)]
pub struct Processor {
    /// Figures for the statistics pages. At the same place whoever's processor it is.
    pub counters: crate::arch::Counters,
    /// Index of the processor, to know whether a VMCB may still be cached here.
    pub(super) index: u32,
    /// The processor's own page for its state during VMRUN. Kept to stay alive, never read.
    _host_save: HwPages,
    /// Where VMSAVE put the host's FS, GS, TR, LDTR and system call MSRs, to be loaded after each run.
    pub(super) host_state: HwPages,
    /// TSC_AUX and SPEC_CTRL.
    pub(super) msrs: SwitchedMsrs,
}

impl Processor {
    /// Turns SVM on for the processor that this runs on. `host_save` and `host_state` are one page each.
    ///
    /// # Safety
    /// * [`probe`] must have succeeded;
    /// * the code must run on the processor `index` in ring 0 with its final GS base, TR and system call MSRs: they are
    ///   what every later run restores;
    /// * the value must only be used on this processor, and live as long as SVM is on here.
    pub unsafe fn enable(
        index: u32,
        host_save: HwPages,
        host_state: HwPages,
        caps: &Capabilities,
    ) -> Self {
        // SAFETY: probe succeeded, so EFER.SVME may be set and the MSRs exist; the pages are ours alone (HwPages).
        unsafe {
            wrmsr(MSR_EFER, rdmsr(MSR_EFER) | efer::SVME);
            wrmsr(MSR_VM_HSAVE_PA, host_save.spa().0);
            hardware::vmsave(host_state.spa().0);
        }
        Self {
            index,
            _host_save: host_save,
            host_state,
            // SAFETY: ring 0; CPUID told of the MSRs.
            msrs: unsafe { SwitchedMsrs::enable(caps.tsc_aux, caps.spec_ctrl) },
            counters: crate::arch::Counters::default(),
        }
    }
}

#[cfg(any(test, feature = "test-support"))]
impl Processor {
    /// A processor for tests on the host, which counts and never runs a guest.
    pub fn for_test(index: u32, host_save: HwPages, host_state: HwPages) -> Self {
        Self {
            index,
            _host_save: host_save,
            host_state,
            msrs: SwitchedMsrs::default(),
            counters: crate::arch::Counters::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::cpuid::Recorded;

    /// QEMU's `-cpu max` under TCG.
    const QEMU: Recorded = Recorded(&[
        (0, 0, [0x16, 0, 0, 0]),
        (1, 0, [0x663, 0, 1 << 31, 0]),
        (
            0x4000_0000,
            0,
            [0x4000_0001, 0x5447_4354, 0x4354_4743, 0x4743_5447],
        ),
        (0x8000_0000, 0, [0x8000_001F, 0, 0, 0]),
        (0x8000_0001, 0, [0x663, 0, 0x0000_01F7, 0x2C10_0800]),
        (0x8000_000A, 0, [1, 16, 0, 0x1001_0001]),
    ]);
    /// A Zen 2 server processor.
    const ZEN2: Recorded = Recorded(&[
        (0, 0, [0x10, 0, 0, 0]),
        (0x8000_0000, 0, [0x8000_0020, 0, 0, 0]),
        (0x8000_0001, 0, [0x0083_0F10, 0, 0x75C2_37FF, 0x2FD3_FBFF]),
        (0x8000_0008, 0, [0x3030, 0x18CF_F757, 0x7027, 0x10000]),
        (0x8000_000A, 0, [1, 0x8000, 0, 0x0113_BCFF]),
    ]);

    #[test]
    fn the_software_processor_has_nested_paging_and_little_else() {
        let caps = probe(&QEMU, &|_| 0).unwrap();
        assert_eq!(caps.asids, 16);
        assert!(caps.tsc_aux && caps.repeats_interrupts && caps.forgets_shadow);
        assert!(
            !caps.nrip_save && !caps.decode_assists && !caps.flush_by_asid && !caps.pause_filter
        );
    }

    #[test]
    fn a_server_processor_has_the_assists() {
        let caps = probe(&ZEN2, &|_| 0).unwrap();
        assert_eq!(caps.asids, 0x8000);
        assert!(caps.nrip_save && caps.decode_assists && caps.flush_by_asid && caps.pause_filter);
        assert!(caps.clean_bits && caps.pause_threshold && caps.spec_ctrl);
        assert!(!caps.repeats_interrupts && !caps.forgets_shadow);
    }

    #[test]
    fn each_lack_has_its_own_refusal() {
        let none = Recorded(&[
            (0x8000_0000, 0, [0x8000_0008, 0, 0, 0]),
            (0x8000_0001, 0, [0; 4]),
        ]);
        let asked = |_| panic!("VM_CR does not exist without SVM");
        assert_eq!(probe(&none, &asked), Err(Refusal::NoVirtualization));
        assert_eq!(probe(&QEMU, &|_| 1 << 4), Err(Refusal::DisabledByFirmware));
        let flat = Recorded(&[
            (0x8000_0000, 0, [0x8000_000A, 0, 0, 0]),
            (0x8000_0001, 0, [0, 0, 1 << 2, 0]),
            (0x8000_000A, 0, [1, 16, 0, 0]),
        ]);
        assert_eq!(probe(&flat, &|_| 0), Err(Refusal::NoNestedPaging));
    }
}
