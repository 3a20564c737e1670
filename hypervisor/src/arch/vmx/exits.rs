//! From exit reasons to [`Exit`]: SDM volume 3, appendix C, and 28.2 for the qualifications.

use crate::arch::exit::{Access, CrExit, Exit, IoExit, NestedFault};
use crate::mem::addr::{Gpa, Gva};

/// Exit reasons, bits 15:0.
pub(super) mod reason {
    /// Exception or NMI.
    pub const EXCEPTION_OR_NMI: u32 = 0;
    /// Physical interrupt.
    pub const EXTERNAL_INTERRUPT: u32 = 1;
    /// Triple fault.
    pub const TRIPLE_FAULT: u32 = 2;
    /// INIT signal.
    pub const INIT: u32 = 3;
    /// Startup IPI.
    pub const STARTUP: u32 = 4;
    /// Interrupt window.
    pub const INTERRUPT_WINDOW: u32 = 7;
    /// NMI window.
    pub const NMI_WINDOW: u32 = 8;
    /// Task switch.
    pub const TASK_SWITCH: u32 = 9;
    /// CPUID.
    pub const CPUID: u32 = 10;
    /// GETSEC.
    pub const GETSEC: u32 = 11;
    /// HLT.
    pub const HLT: u32 = 12;
    /// INVD.
    pub const INVD: u32 = 13;
    /// RDPMC.
    pub const RDPMC: u32 = 15;
    /// RSM.
    pub const RSM: u32 = 17;
    /// VMCALL.
    pub const VMCALL: u32 = 18;
    /// VMCLEAR; the other instructions of VMX follow, up to VMXON.
    pub const VMCLEAR: u32 = 19;
    /// VMXON.
    pub const VMXON: u32 = 27;
    /// Control register access.
    pub const CONTROL_REGISTER: u32 = 28;
    /// Debug register access.
    pub const MOV_DR: u32 = 29;
    /// Port access.
    pub const IO: u32 = 30;
    /// RDMSR.
    pub const RDMSR: u32 = 31;
    /// WRMSR.
    pub const WRMSR: u32 = 32;
    /// The entry failed: guest state.
    pub const INVALID_GUEST_STATE: u32 = 33;
    /// MWAIT.
    pub const MWAIT: u32 = 36;
    /// MONITOR.
    pub const MONITOR: u32 = 39;
    /// PAUSE.
    pub const PAUSE: u32 = 40;
    /// Machine check during an entry.
    pub const MACHINE_CHECK: u32 = 41;
    /// EPT violation.
    pub const EPT_VIOLATION: u32 = 48;
    /// EPT misconfiguration.
    pub const EPT_MISCONFIGURATION: u32 = 49;
    /// INVEPT.
    pub const INVEPT: u32 = 50;
    /// Preemption timer.
    pub const PREEMPTION_TIMER: u32 = 52;
    /// INVVPID.
    pub const INVVPID: u32 = 53;
    /// WBINVD or WBNOINVD.
    pub const WBINVD: u32 = 54;
    /// XSETBV.
    pub const XSETBV: u32 = 55;
    /// ENCLS.
    pub const ENCLS: u32 = 60;
    /// SEAMCALL.
    pub const SEAMCALL: u32 = 76;
    /// TDCALL.
    pub const TDCALL: u32 = 77;
    /// RDMSR with the MSR in the instruction.
    pub const RDMSR_IMMEDIATE: u32 = 84;
    /// WRMSRNS with the MSR in the instruction.
    pub const WRMSRNS_IMMEDIATE: u32 = 85;
    /// The reason itself.
    pub const BASIC: u32 = 0xFFFF;
    /// Machine check during an entry.
    pub const MACHINE_CHECK_IN_ENTRY: u32 = MACHINE_CHECK | ENTRY_FAILED;
    /// Set in the reason when the entry failed.
    pub const ENTRY_FAILED: u32 = 1 << 31;
}

/// The exits that come most: none of them is this folder's own affair, and none interrupts the delivery of an event.
#[inline(always)]
pub(super) fn common(reason: u32) -> Option<Exit> {
    Some(match reason {
        reason::CPUID => Exit::Cpuid,
        reason::RDMSR => Exit::MsrRead,
        reason::WRMSR => Exit::MsrWrite,
        reason::VMCALL => Exit::Hypercall,
        reason::IO => Exit::Io,
        reason::EXTERNAL_INTERRUPT => Exit::ExternalInterrupt,
        reason::HLT => Exit::Halt,
        _ => return None,
    })
}

/// The others, but for exceptions, which need more than the reason. `qualification` belongs to it.
pub(super) fn rare(reason: u32, qualification: u64) -> Exit {
    match reason {
        reason::EPT_VIOLATION => Exit::NestedFault,
        reason::TRIPLE_FAULT => Exit::Shutdown,
        reason::INIT | reason::STARTUP => Exit::Init,
        reason::INTERRUPT_WINDOW => Exit::InterruptWindow,
        reason::NMI_WINDOW => Exit::NmiWindow,
        reason::TASK_SWITCH => Exit::TaskSwitch,
        reason::CONTROL_REGISTER => Exit::ControlRegister(control_register(qualification)),
        reason::INVD | reason::WBINVD => Exit::CacheControl,
        reason::PAUSE => Exit::Pause,
        reason::PREEMPTION_TIMER => Exit::Internal,
        reason::XSETBV => Exit::Xsetbv,
        reason::RDPMC => Exit::Absent {
            general_protection: true,
        },
        reason::GETSEC
        | reason::RSM
        | reason::VMCLEAR..=reason::VMXON
        | reason::MWAIT
        | reason::MONITOR
        | reason::INVEPT
        | reason::INVVPID
        | reason::ENCLS
        | reason::SEAMCALL
        | reason::TDCALL
        | reason::RDMSR_IMMEDIATE
        | reason::WRMSRNS_IMMEDIATE => Exit::Absent {
            general_protection: false,
        },
        _ if reason == reason::ENTRY_FAILED | reason::INVALID_GUEST_STATE => Exit::InvalidState,
        _ => Exit::Unknown {
            code: reason.into(),
            info: qualification,
        },
    }
}

/// Whether an exit tells the length of the instruction that caused it (SDM volume 3, 28.2.5).
#[inline(always)]
pub(super) const fn tells_length(reason: u32) -> bool {
    matches!(
        reason,
        reason::CPUID..=reason::WRMSR
            | reason::MWAIT
            | reason::MONITOR
            | reason::PAUSE
            | reason::INVEPT
            | reason::INVVPID..=reason::ENCLS
    )
}

/// Whether an exit may have interrupted the delivery of an event: exceptions, task switches, and faults of EPT.
pub(super) const fn may_interrupt_delivery(reason: u32) -> bool {
    matches!(
        reason,
        reason::EXCEPTION_OR_NMI | reason::TASK_SWITCH | reason::EPT_VIOLATION
            ..=reason::EPT_MISCONFIGURATION
    )
}

fn control_register(qualification: u64) -> CrExit {
    let kind = qualification >> 4 & 3;
    CrExit {
        register: (qualification & 0xF) as u8,
        // MOV from; the others are MOV to, CLTS, LMSW.
        write: kind != 1,
        gpr: (kind < 2).then_some((qualification >> 8 & 0xF) as u8),
    }
}

pub(super) fn port_access(qualification: u64) -> IoExit {
    IoExit {
        port: (qualification >> 16) as u16,
        size: (qualification & 7) as u8 + 1,
        input: qualification & 1 << 3 != 0,
        string: qualification & 1 << 4 != 0,
        rep: qualification & 1 << 5 != 0,
    }
}

/// `gva` is asked for only where it is valid.
pub(super) fn nested_fault(qualification: u64, gpa: u64, gva: impl FnOnce() -> u64) -> NestedFault {
    const WRITE: u64 = 1 << 1;
    const FETCH: u64 = 1 << 2;
    const LINEAR_ADDRESS_VALID: u64 = 1 << 7;
    const OF_THE_ADDRESS_ITSELF: u64 = 1 << 8;
    let linear = qualification & LINEAR_ADDRESS_VALID != 0;
    NestedFault {
        gpa: Gpa(gpa),
        gva: linear.then(|| Gva(gva())),
        // With accessed and dirty flags a walk of the guest's tables counts as a write besides.
        access: if qualification & FETCH != 0 {
            Access::Execute
        } else if qualification & WRITE != 0 {
            Access::Write
        } else {
            Access::Read
        },
        table_walk: linear && qualification & OF_THE_ADDRESS_ITSELF == 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_access_is_read_from_its_qualification() {
        let out = port_access(0x3F8 << 16);
        assert_eq!((out.port, out.size, out.input), (0x3F8, 1, false));
        let ins = port_access(0x1F0 << 16 | 0b11_1001);
        assert_eq!((ins.port, ins.size), (0x1F0, 2));
        assert!(ins.input && ins.string && ins.rep);
    }

    #[test]
    fn a_fault_tells_of_the_guests_address_only_where_there_is_one() {
        let fault = nested_fault(1 << 1 | 1 << 7 | 1 << 8, 0x5000, || 0x1234);
        assert_eq!(fault.gva, Some(Gva(0x1234)));
        assert_eq!((fault.access, fault.table_walk), (Access::Write, false));
        let walk = nested_fault(1 | 1 << 7, 0x5000, || 0x1234);
        assert!(walk.table_walk);
        let none = nested_fault(1 << 2, 0x5000, || unreachable!());
        assert_eq!((none.gva, none.access), (None, Access::Execute));
    }

    #[test]
    fn a_move_to_a_control_register_names_both_registers() {
        let Exit::ControlRegister(access) = rare(reason::CONTROL_REGISTER, 0x0304) else {
            panic!("another exit");
        };
        assert_eq!(
            (access.register, access.write, access.gpr),
            (4, true, Some(3))
        );
        let Exit::ControlRegister(clts) = rare(reason::CONTROL_REGISTER, 0x20) else {
            panic!("another exit");
        };
        assert_eq!((clts.register, clts.write, clts.gpr), (0, true, None));
    }

    #[test]
    fn a_failed_entry_is_not_taken_for_a_port_access_or_worse() {
        assert_eq!(
            rare(reason::ENTRY_FAILED | reason::INVALID_GUEST_STATE, 0),
            Exit::InvalidState
        );
        assert!(matches!(
            rare(reason::ENTRY_FAILED | 34, 0),
            Exit::Unknown { .. }
        ));
        assert!(common(reason::ENTRY_FAILED | reason::IO).is_none());
        assert!(!tells_length(reason::ENTRY_FAILED | reason::CPUID));
    }
}
