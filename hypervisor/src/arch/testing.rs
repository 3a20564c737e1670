//! Processors that tests on the host choose from.

use super::{Capabilities, Processor, VpHw, svm, vmx};
use crate::arch::exit::{ExceptionExit, Exit, IoExit, NestedFault};
use crate::arch::page::HwPages;

/// Whose processor a machine of tests has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// AMD: SVM without anything that may be missing, as QEMU's software CPU has it.
    Amd,
    /// Intel: VMX with everything that the hypervisor uses where it is there.
    Intel,
}

impl Vendor {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Amd, Self::Intel];

    /// All there are. Each is told to the test's output before it is worked with, so that a test that fails says with which.
    pub fn each() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().inspect(|_vendor| {
            #[cfg(test)]
            println!("{_vendor:?}:");
        })
    }

    /// Any of them, for property tests: half of the cases each.
    #[cfg(test)]
    pub fn any() -> impl proptest::strategy::Strategy<Value = Self> {
        proptest::sample::select(&Self::ALL[..])
    }

    /// What the processor can do.
    ///
    /// # Panics
    /// When its own hypervisor refuses it.
    pub fn capabilities(self) -> Capabilities {
        match self {
            Self::Amd => Capabilities::Svm(svm::Capabilities {
                asids: 16,
                ..svm::Capabilities::default()
            }),
            Self::Intel => Capabilities::Vmx(vmx::Capabilities::complete()),
        }
    }
}

impl Processor {
    /// A processor that counts and never runs a guest.
    pub fn for_test(index: u32, pages: [HwPages; Self::PAGES], caps: &Capabilities) -> Self {
        let [first, second] = pages;
        match caps {
            Capabilities::Svm(_) => Self::Svm(svm::Processor::for_test(index, first, second)),
            Capabilities::Vmx(_) => Self::Vmx(vmx::Processor::for_test(index, first, second)),
        }
    }
}

/// What ends a run, at the instruction that RIP is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// CPUID.
    Cpuid,
    /// RDMSR.
    Rdmsr,
    /// WRMSR.
    Wrmsr,
    /// The vendor's hypercall instruction.
    Hypercall,
    /// HLT.
    Halt,
    /// XSETBV.
    Xsetbv,
    /// WBINVD.
    Wbinvd,
    /// RDPMC.
    Rdpmc,
    /// MONITOR.
    Monitor,
    /// MOV to CR0, CR4 or CR8 from a general register.
    MovToCr {
        /// Which control register.
        register: u8,
        /// Number of the general register.
        gpr: u8,
    },
    /// A port access.
    Io(IoExit),
    /// An exception. The parameter of #DB are the bits that it adds to DR6.
    Exception(ExceptionExit),
    /// A second-level fault. Not every processor tells all of it.
    Nested(NestedFault),
    /// A triple fault.
    TripleFault,
    /// A task switch.
    TaskSwitch,
}

impl VpHw {
    /// The VP after the end of a run, as the processor leaves it. `length` is the instruction's.
    pub fn exit_over(&mut self, cause: Cause, length: u8) -> Exit {
        match self {
            Self::Svm(vcpu) => vcpu.exit_over(cause),
            Self::Vmx(vcpu) => vcpu.exit_over(cause, length),
        }
    }

    /// From now on the processor is one that may repeat injected interrupts, if there is such a one of its vendor.
    pub fn repeat_interrupts(&mut self) {
        match self {
            Self::Svm(vcpu) => vcpu.repeat_interrupts(),
            Self::Vmx(_) => {}
        }
    }

    /// The state after an exit over a hypercall instruction at RIP, which `is_there` or was there a moment ago. False if
    /// this processor has to say more of the instruction than that, so that there is no such exit without it.
    #[must_use]
    pub fn exit_by_hypercall(&mut self, is_there: bool) -> bool {
        match self {
            // It tells nothing, having no next RIP: the hypervisor looks itself.
            Self::Svm(_) => true,
            Self::Vmx(vcpu) => {
                vcpu.exit_over(Cause::Hypercall, 3);
                is_there
            }
        }
    }
}
