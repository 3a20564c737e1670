//! What tests on the host need instead of a processor.

use crate::arch::exit::{Access, ExceptionExit, Exit, IoExit, NestedFault};
use crate::arch::state::vector;
use crate::arch::testing::Cause;

use super::bits::exit_code;
use super::exits;
use super::vcpu::Vcpu;

impl Vcpu {
    /// From now on the processor is one that may repeat injected interrupts.
    pub fn repeat_interrupts(&mut self) {
        self.caps.repeats_interrupts = true;
    }

    /// The VP after a #VMEXIT, as a processor leaves it that tells no more than it must.
    pub fn exit_over(&mut self, cause: Cause) -> Exit {
        if let Cause::Exception(ExceptionExit {
            vector: vector::DB,
            parameter,
            ..
        }) = cause
        {
            self.set_dr6(self.dr6() | parameter);
        }
        let (code, info1, info2) = told(cause);
        let control = self.control_mut();
        (control.exit_code, control.exit_info1, control.exit_info2) = (code, info1, info2);
        control.exit_int_info = 0;
        control.event_inj = 0;
        match exits::common(control) {
            Some(exit) => exit,
            None => self.rare_exit(),
        }
    }
}

/// Exit code, EXITINFO1, EXITINFO2.
fn told(cause: Cause) -> (u64, u64, u64) {
    match cause {
        Cause::Cpuid => (exit_code::CPUID, 0, 0),
        Cause::Rdmsr => (exit_code::MSR, 0, 0),
        Cause::Wrmsr => (exit_code::MSR, 1, 0),
        Cause::Hypercall => (exit_code::VMMCALL, 0, 0),
        Cause::Halt => (exit_code::HLT, 0, 0),
        Cause::Xsetbv => (exit_code::XSETBV, 0, 0),
        Cause::Wbinvd => (exit_code::WBINVD, 0, 0),
        Cause::Rdpmc => (exit_code::RDPMC, 0, 0),
        Cause::Monitor => (exit_code::MONITOR, 0, 0),
        Cause::MovToCr { register, .. } => (exit_code::CR0_READ | 0x10 | u64::from(register), 0, 0),
        Cause::Io(io) => (exit_code::IOIO, port_access(&io), 0),
        Cause::Exception(exception) => {
            let parameter = match exception.vector {
                vector::PF => exception.parameter,
                _ => 0,
            };
            let code = exit_code::EXCEPTION_0 + u64::from(exception.vector);
            let error_code = exception.error_code.unwrap_or(0);
            (code, error_code.into(), parameter)
        }
        Cause::Nested(fault) => (exit_code::NPF, nested_fault(&fault), fault.gpa.0),
        Cause::TripleFault => (exit_code::SHUTDOWN, 0, 0),
        Cause::TaskSwitch => (exit_code::TASK_SWITCH, 0, 0),
    }
}

fn port_access(io: &IoExit) -> u64 {
    let bits = [(0, io.input), (2, io.string), (3, io.rep)];
    let access = u64::from(io.size) << 4 | u64::from(io.port) << 16;
    bits.into_iter()
        .fold(access, |all, (bit, on)| all | u64::from(on) << bit)
}

fn nested_fault(fault: &NestedFault) -> u64 {
    const WALK: u64 = 1 << 33;
    const FINAL: u64 = 1 << 32;
    let place = if fault.table_walk { WALK } else { FINAL };
    place
        | match fault.access {
            Access::Read => 0,
            Access::Write => 1 << 1,
            Access::Execute => 1 << 4,
        }
}
