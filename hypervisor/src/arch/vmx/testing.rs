//! What tests on the host need instead of a processor.

use crate::arch::cpuid::{CpuidResult, CpuidSource};
use crate::arch::msr::MsrSource;

use super::capabilities::{self, Capabilities};
use super::exits::reason;
use super::fields::Info;
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
    /// The state after the exit of a VMCALL at RIP.
    pub fn exit_by_vmcall(&mut self) {
        self.reason = reason::VMCALL;
        self.info.note(Info::Reason, reason::VMCALL.into());
        self.info.note(Info::InstructionLength, 3);
    }
}
