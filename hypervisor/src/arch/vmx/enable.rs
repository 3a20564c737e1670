//! Turning VMX on, and what one processor has of its own.

use x86_64::instructions::tables::{sgdt, sidt};

use crate::arch::Counters;
use crate::arch::msr::{MSR_EFER, MSR_PAT, SwitchedMsrs, rdmsr, wrmsr};
use crate::arch::page::HwPages;

use super::capabilities::{
    Capabilities, FEATURE_CONTROL_LOCK, FEATURE_CONTROL_VMX, MSR_FEATURE_CONTROL,
};
use super::fields::host;
use super::hardware;
use super::live::Held;

const MSR_FS_BASE: u32 = 0xC000_0100;
const MSR_GS_BASE: u32 = 0xC000_0101;
/// VTPR in the virtual-APIC page.
const TASK_PRIORITY: usize = 0x80;

/// The state of one physical processor that running VPs needs.
#[derive(Debug)]
#[repr(C)]
pub struct Processor {
    /// Figures for the statistics pages. At the same place whoever's processor it is.
    pub counters: Counters,
    /// Index of the processor, to know whether a VMCS is prepared for it.
    pub(super) index: u32,
    /// The processor's own page for VMX operation. Kept to stay alive, never read.
    _vmxon: HwPages,
    /// Where the guest's task priority is while it runs; nothing else of the page is used.
    pub(super) virtual_apic: HwPages,
    /// TSC_AUX and SPEC_CTRL.
    pub(super) msrs: SwitchedMsrs,
    /// What is in the registers that no exit switches.
    pub(super) held: Held,
}

impl Processor {
    /// Turns VMX on for the processor that this runs on. `vmxon` and `virtual_apic` are one page each.
    ///
    /// # Safety
    /// * [`super::probe`] must have succeeded;
    /// * the code must run on the processor `index` in ring 0 with its final descriptor tables and GS base;
    /// * the value must only be used on this processor, and live as long as VMX is on here.
    pub unsafe fn enable(
        index: u32,
        mut vmxon: HwPages,
        virtual_apic: HwPages,
        caps: &Capabilities,
    ) -> Self {
        if let Some(start) = vmxon.bytes_mut().first_chunk_mut() {
            *start = caps.vmcs_revision.to_le_bytes();
        }
        let mut counters = Counters::default();
        // SAFETY: probe succeeded, so the MSR and the control register bits exist, and the firmware lets us; the page is
        // ours alone. The hypervisor uses none of the registers in `Held`.
        let held = unsafe {
            let features = rdmsr(MSR_FEATURE_CONTROL);
            if features & FEATURE_CONTROL_LOCK == 0 {
                let on = features | FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX;
                wrmsr(MSR_FEATURE_CONTROL, on);
            }
            let (mut cr0, mut cr4): (u64, u64);
            core::arch::asm!("mov {}, cr0", "mov {}, cr4", out(reg) cr0, out(reg) cr4, options(nomem, nostack));
            cr0 |= caps.cr0_fixed.ones;
            cr4 |= caps.cr4_fixed.ones;
            core::arch::asm!("mov cr0, {}", "mov cr4, {}", in(reg) cr0, in(reg) cr4, options(nostack));
            assert!(
                hardware::vmxon(vmxon.spa().0),
                "the processor refuses VMXON"
            );
            Held::take(&mut counters)
        };
        Self {
            index,
            _vmxon: vmxon,
            virtual_apic,
            // SAFETY: ring 0; CPUID told of the MSRs.
            msrs: unsafe { SwitchedMsrs::enable(caps.tsc_aux, caps.spec_ctrl) },
            held,
            counters,
        }
    }

    /// Writes the host-state area of the current VMCS: the state that this runs in.
    ///
    /// # Safety
    /// This processor, with a current VMCS.
    pub(super) unsafe fn write_host_state(&self) {
        let (cr0, cr3, cr4): (u64, u64, u64);
        let [es, cs, ss, ds, fs, gs, tr]: [u16; 7];
        // SAFETY: reads of registers that exist, in ring 0; the fields describe the state that we are in, so that an exit
        // comes back to it.
        unsafe {
            core::arch::asm!(
                "mov {}, cr0", "mov {}, cr3", "mov {}, cr4",
                out(reg) cr0, out(reg) cr3, out(reg) cr4, options(nomem, nostack)
            );
            core::arch::asm!(
                "mov {0:x}, es", "mov {1:x}, cs", "mov {2:x}, ss", "mov {3:x}, ds", "mov {4:x}, fs", "mov {5:x}, gs",
                "str {6:x}",
                out(reg) es, out(reg) cs, out(reg) ss, out(reg) ds, out(reg) fs, out(reg) gs, out(reg) tr,
                options(nomem, nostack)
            );
            for (field, selector) in host::SELECTORS
                .into_iter()
                .zip([es, cs, ss, ds, fs, gs, tr])
            {
                // An entry wants table indicator and requested privilege level to be zero.
                hardware::vmwrite(field, u64::from(selector & !7));
            }
            let gdt = sgdt();
            for (field, value) in [
                (host::CR0, cr0),
                (host::CR3, cr3),
                (host::CR4, cr4),
                (host::PAT, rdmsr(MSR_PAT)),
                (host::EFER, rdmsr(MSR_EFER)),
                (host::FS_BASE, rdmsr(MSR_FS_BASE)),
                (host::GS_BASE, rdmsr(MSR_GS_BASE)),
                (host::TR_BASE, tss_base(gdt.base.as_u64(), tr)),
                (host::GDTR_BASE, gdt.base.as_u64()),
                (host::IDTR_BASE, sidt().base.as_u64()),
                (host::SYSENTER_CS, 0),
                (host::SYSENTER_ESP, 0),
                (host::SYSENTER_EIP, 0),
                (host::RIP, hardware::vmx_exit as *const () as u64),
            ] {
                hardware::vmwrite(field, value);
            }
        }
    }

    /// Sets the guest's task priority class for its next run.
    #[inline(always)]
    pub(super) fn set_task_priority(&mut self, cr8: u8) {
        // SAFETY: inside the page, which is ours; the processor uses it only while a guest runs.
        unsafe { self.task_priority_byte().write_volatile(cr8 << 4) };
    }

    /// The guest's task priority class after its run.
    #[inline(always)]
    pub(super) fn task_priority(&self) -> u8 {
        // SAFETY: as in `set_task_priority`.
        unsafe { self.task_priority_byte().read_volatile() >> 4 }
    }

    #[inline(always)]
    const fn task_priority_byte(&self) -> *mut u8 {
        let page = self.virtual_apic.cast::<u8>().as_ptr();
        // SAFETY: inside the page.
        unsafe { page.add(TASK_PRIORITY) }
    }
}

/// The base in the TSS descriptor at selector `tr`.
///
/// # Safety
/// `gdt` is the base of the GDT in use, `tr` the selector in TR.
unsafe fn tss_base(gdt: u64, tr: u16) -> u64 {
    let descriptor = (gdt + u64::from(tr & !7)) as *const u64;
    // SAFETY: the descriptor was loaded from there, both halves.
    let (low, high) = unsafe { (descriptor.read(), descriptor.add(1).read()) };
    (low >> 16 & 0xFF_FFFF) | (low >> 56 & 0xFF) << 24 | high << 32
}

#[cfg(any(test, feature = "test-support"))]
impl Processor {
    /// A processor for tests on the host, which counts and never runs a guest.
    pub fn for_test(index: u32, vmxon: HwPages, virtual_apic: HwPages) -> Self {
        Self {
            index,
            _vmxon: vmxon,
            virtual_apic,
            msrs: SwitchedMsrs::default(),
            held: Held::for_test(),
            counters: Counters::default(),
        }
    }
}
