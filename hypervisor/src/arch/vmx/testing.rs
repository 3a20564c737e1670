//! What tests on the host need instead of a processor.

use crate::arch::cpuid::{CpuidResult, CpuidSource};
use crate::arch::exit::{Access, ExceptionExit, Exit};
use crate::arch::msr::MsrSource;
use crate::arch::testing::Cause;

use super::capabilities::{self, Capabilities};
use super::events::information;
use super::exits::{self, reason};
use super::fields::{Control, Info};
use super::vcpu::Vcpu;

/// A processor on which every control may be 1, and 0 unless it is one of those that never may.
struct Complete;

impl CpuidSource for Complete {
    fn cpuid(&self, leaf: u32, _subleaf: u32) -> CpuidResult {
        let [eax, ecx, edx] = match leaf {
            0 => [0x16, 0, 0],
            1 => [0x5_06E3, 1 << 5, 0],
            // IBRS, STIBP, IA32_ARCH_CAPABILITIES, SSBD; RDPID.
            7 => [0, 1 << 22, 1 << 26 | 1 << 27 | 1 << 29 | 1 << 31],
            0x8000_0000 => [0x8000_0008, 0, 0],
            0x8000_0001 => [0, 0, 1 << 27],
            _ => [0; 3],
        };
        CpuidResult {
            eax,
            ebx: 0,
            ecx,
            edx,
        }
    }
}

impl MsrSource for Complete {
    fn read(&self, msr: u32) -> u64 {
        const ANY: u64 = 0xFFFF_FFFF << 32;
        match msr {
            // Locked, on.
            0x3A => 5,
            // IA32_ARCH_CAPABILITIES: nothing of what the hypervisor would have to work around.
            0x10A => u64::MAX,
            // Revision; a page of write-back memory; INS and OUTS are told of; the true controls' MSRs exist.
            0x480 => 0x2B | 0x1000 << 32 | 6 << 50 | 1 << 54 | 1 << 55,
            // Bit 5 of the TSC moves the timer.
            0x485 => 5,
            0x486 => 0x8000_0021,
            0x487 => 0xFFFF_FFFF,
            0x488 => 0x2000,
            0x489 => 0x37_67FF,
            0x48B => ANY,
            0x48C => 0xF01_0673_4141,
            0x48D => ANY | 0x16,
            0x48E => ANY | 0x0400_6172,
            0x48F => ANY | 0x3_6DFB,
            0x490 => ANY | 0x11FB,
            _ => panic!("MSR {msr:#x} does not exist here"),
        }
    }
}

impl Capabilities {
    /// Of a processor that has everything the hypervisor uses.
    pub fn complete() -> Self {
        match capabilities::probe(&Complete, &Complete) {
            Ok(complete) => complete,
            Err(refusal) => panic!("{refusal}"),
        }
    }
}

impl Vcpu {
    /// The VP after an exit, as the processor leaves it.
    pub fn exit_over(&mut self, cause: Cause, length: u8) -> Exit {
        let mut told = Told {
            length: length.into(),
            ..Told::default()
        };
        self.reason = told.of(cause);
        for (field, value) in [
            (Info::Reason, self.reason.into()),
            (Info::Qualification, told.qualification),
            (Info::InstructionLength, told.length),
            (Info::InterruptionInformation, told.interruption),
            (Info::InterruptionErrorCode, told.error_code),
            (Info::IdtVectoringInformation, 0),
            (Info::GuestPhysicalAddress, told.gpa),
            (Info::GuestLinearAddress, told.gva),
        ] {
            self.info.note(field, value);
        }
        self.control.assume(Control::EntryInterruption, 0);
        match exits::common(self.reason) {
            Some(exit) => exit,
            None => self.rare_exit(),
        }
    }
}

/// Fields of an exit.
#[derive(Default)]
struct Told {
    qualification: u64,
    length: u64,
    interruption: u64,
    error_code: u64,
    gpa: u64,
    gva: u64,
}

impl Told {
    /// Fills what belongs to the cause in, and says the reason.
    fn of(&mut self, cause: Cause) -> u32 {
        match cause {
            Cause::Cpuid => reason::CPUID,
            Cause::Rdmsr => reason::RDMSR,
            Cause::Wrmsr => reason::WRMSR,
            Cause::Hypercall => reason::VMCALL,
            Cause::Halt => reason::HLT,
            Cause::Xsetbv => reason::XSETBV,
            Cause::Wbinvd => reason::WBINVD,
            Cause::Rdpmc => reason::RDPMC,
            Cause::Monitor => reason::MONITOR,
            Cause::MovToCr { register, gpr } => {
                self.qualification = u64::from(register) | u64::from(gpr) << 8;
                reason::CONTROL_REGISTER
            }
            Cause::Io(io) => {
                let bits = [(3, io.input), (4, io.string), (5, io.rep)];
                let bits = bits.map(|(bit, on)| u64::from(on) << bit);
                let access = u64::from(io.size - 1) | u64::from(io.port) << 16;
                self.qualification = bits.into_iter().fold(access, |all, bit| all | bit);
                reason::IO
            }
            Cause::Exception(exception) => {
                self.exception(&exception);
                reason::EXCEPTION_OR_NMI
            }
            Cause::Nested(fault) => {
                let tried = match fault.access {
                    Access::Read => 1,
                    Access::Write => 1 << 1,
                    Access::Execute => 1 << 2,
                };
                let linear = u64::from(fault.gva.is_some()) << 7;
                self.qualification = tried | linear | u64::from(!fault.table_walk) << 8;
                (self.gpa, self.gva) = (fault.gpa.0, fault.gva.map_or(0, |gva| gva.0));
                reason::EPT_VIOLATION
            }
            Cause::TripleFault => reason::TRIPLE_FAULT,
            Cause::TaskSwitch => reason::TASK_SWITCH,
        }
    }

    fn exception(&mut self, exception: &ExceptionExit) {
        let kind = match exception.vector {
            3 | 4 => information::SOFTWARE_EXCEPTION,
            _ => information::HARDWARE_EXCEPTION,
        };
        self.interruption = information::VALID | kind | u64::from(exception.vector);
        if let Some(code) = exception.error_code {
            self.interruption |= information::ERROR_CODE;
            self.error_code = code.into();
        }
        self.qualification = exception.parameter;
    }
}
