//! From an exit to the code that deals with it.

use tlfs::stats::vp as counter;

use super::Cpu;
use crate::arch::Backend;
use crate::arch::exit::{ExceptionExit, Exit, IoExit};
use crate::arch::state::vector;
use crate::event_log::Event as Trace;
use crate::hypercall;
use crate::insn::Instruction;
use crate::intercept::message;
use crate::log::events::{Event, record};
use crate::partition::Vp;
use tlfs::HvX64UnsupportedFeatureCode as Unsupported;

impl Cpu {
    /// Deals with an exit of the VP in hand.
    #[inline(always)]
    pub(super) fn handle<B: Backend>(&mut self, vp: &mut Vp, exit: Exit) {
        // MOV to CR8 does not exit.
        vp.apic.set_cr8(vp.hw.cr8());
        match exit {
            Exit::Hypercall => {
                vp.stats.count(counter::HYPERCALLS_COUNT);
                if hypercall::call(self, vp) {
                    // Another processor may have to do its part first, and waits for this one to do its own.
                    self.take_interrupts(vp);
                }
            }
            Exit::Cpuid => {
                vp.stats.count(counter::CPUID_INSTRUCTIONS_COUNT);
                self.cpuid(vp);
            }
            Exit::MsrRead => {
                vp.stats.count(counter::MSR_ACCESSES_COUNT);
                self.rdmsr::<B>(vp);
            }
            Exit::MsrWrite => {
                vp.stats.count(counter::MSR_ACCESSES_COUNT);
                self.wrmsr::<B>(vp);
            }
            Exit::Io => {
                vp.stats.count(counter::IO_INSTRUCTIONS_COUNT);
                self.io(vp, &vp.hw.port_access());
            }
            Exit::ExternalInterrupt | Exit::Nmi => {
                vp.stats.count(counter::EXTERNAL_INTERRUPTS_COUNT);
                self.take_interrupts(vp);
            }
            Exit::NestedFault => {
                vp.stats.count(counter::NESTED_PAGE_FAULT_INTERCEPTS_COUNT);
                self.nested_fault(vp, &vp.hw.nested_fault());
            }
            Exit::Halt => {
                vp.stats.count(counter::HLT_INSTRUCTIONS_COUNT);
                self.halt_instruction(vp);
            }
            Exit::InterruptWindow | Exit::NmiWindow => {
                vp.stats.count(counter::PENDING_INTERRUPTS_COUNT);
            }
            other => {
                let rare = other;
                self.handle_rare(vp, &rare);
            }
        }
    }

    #[inline(never)]
    fn handle_rare(&mut self, vp: &mut Vp, exit: &Exit) {
        vp.stats.count(match exit {
            Exit::ControlRegister(_) | Exit::Xsetbv => counter::CONTROL_REGISTER_ACCESSES_COUNT,
            _ => counter::OTHER_INTERCEPTS_COUNT,
        });
        match *exit {
            Exit::Internal => self.take_interrupts(vp),
            Exit::Pause => {
                // It may wait for a processor that waits for this one; and an emulator may hold back interrupts for as long as
                // a guest keeps them out.
                self.take_interrupts(vp);
                self.queue.yield_turn(self.hv.now());
                self.reschedule = true;
            }
            Exit::Exception(exception) => self.exception(vp, &exception),
            Exit::ControlRegister(access) => self.control_register(vp, &access),
            Exit::Xsetbv => self.xsetbv(vp),
            // Nothing is cached that a guest could see differently: all its memory is coherent.
            Exit::CacheControl => self.skip(vp, &[Instruction::Wbinvd, Instruction::Invd]),
            Exit::Absent {
                general_protection: true,
            } => self.inject_gp(vp),
            Exit::Absent { .. } => self.undefined(vp),
            Exit::Shutdown => self.shutdown(vp),
            Exit::TaskSwitch => self.unsupported(vp, Unsupported::TASK_SWITCH_TSS, 0),
            Exit::InvalidState => self.invalid_state(vp),
            Exit::Unknown { code, info } => {
                let event = Event::UnknownExit {
                    partition: vp.partition_id.0,
                    vp: vp.who.index.into(),
                    code,
                    info,
                };
                record(self.hv.now().units(), event);
                self.unsupported(vp, Unsupported::INTERCEPT, code);
            }
            // INIT of the machine is blocked while a hypervisor runs. The others are dealt with by `handle`.
            _ => {}
        }
    }

    /// A port access: the parent's, or nobody's.
    fn io(&mut self, vp: &mut Vp, io: &IoExit) {
        let Some(length) = self.length(vp, instruction_of(io)) else {
            return;
        };
        if vp.is_root() {
            // Only what runs past the last port.
            return self.inject_gp(vp);
        }
        let wanted = self.partition(vp, |hv, partition| {
            let last = io.port.saturating_add(u16::from(io.size.clamp(1, 4)) - 1);
            (io.port..=last).any(|port| partition.intercepts.wants_port(hv.phys, port, !io.input))
        });
        if wanted {
            let code = if io.string {
                self.fetch(vp)
            } else {
                message::Code::default()
            };
            let seen = vp.hw.snapshot();
            let message = message::io_port(vp, &seen, io, length, &code);
            return self.intercept(vp, &seen, &message);
        }
        if io.string {
            // An open bus that writes to memory is not worth an emulator here: the parent has to take the port.
            return self.unsupported(vp, Unsupported::INTERCEPT, u64::from(io.port));
        }
        if io.input {
            let gprs = vp.hw.gprs_mut();
            gprs.rax = match io.size {
                1 => gprs.rax | 0xFF,
                2 => gprs.rax | 0xFFFF,
                _ => 0xFFFF_FFFF,
            };
        }
        vp.hw.advance_rip(length);
    }

    /// An exception before its delivery: the parent's, or the VP's.
    pub(super) fn exception(&mut self, vp: &mut Vp, exception: &ExceptionExit) {
        if exception.vector == vector::MC {
            panic!("machine check while {:?} ran", vp.who);
        }
        let wanted = self.partition(vp, |_, partition| partition.intercepts.exceptions);
        if wanted >> exception.vector & 1 == 0 {
            // Its registration went away while the exit was on its way.
            return self.inject_exception(vp, exception.vector, exception.error_code);
        }
        let code = self.fetch(vp);
        let length = match exception.vector {
            3 => self.length_of(vp, Instruction::Int3, &code),
            4 => self.length_of(vp, Instruction::Into, &code),
            _ => None,
        };
        let seen = vp.hw.snapshot();
        let message = message::exception(vp, &seen, exception, length.unwrap_or(0), &code);
        self.intercept(vp, &seen, &message);
    }

    /// A triple fault.
    pub(super) fn shutdown(&mut self, vp: &mut Vp) {
        self.failed(vp, "triple fault");
        let rip = vp.hw.rip();
        self.trace(vp, Trace::GuestShutdown { rip });
        let seen = vp.hw.snapshot();
        let message = message::unrecoverable_exception(vp, &seen);
        self.intercept(vp, &seen, &message);
    }

    fn invalid_state(&mut self, vp: &mut Vp) {
        let reason = vp.hw.refusal();
        self.failed(vp, reason.unwrap_or("a state that the processor refuses"));
        let seen = vp.hw.snapshot();
        let message = message::invalid_vp_register_value(vp);
        self.intercept(vp, &seen, &message);
    }

    pub(super) fn unsupported(&mut self, vp: &mut Vp, feature: Unsupported, parameter: u64) {
        self.failed(vp, "something that is not supported");
        let seen = vp.hw.snapshot();
        let message = message::unsupported_feature(vp, feature, parameter);
        self.intercept(vp, &seen, &message);
    }

    /// Notes the end of a VP. There is nobody to tell of the root's.
    fn failed(&mut self, vp: &Vp, reason: &'static str) {
        let event = Event::VpFailed {
            partition: vp.partition_id.0,
            vp: vp.who.index.into(),
            rip: vp.hw.rip(),
            reason,
        };
        record(self.hv.now().units(), event);
        if vp.is_root() {
            let hw = &vp.hw;
            panic!(
                "the root cannot go on: {reason} at RIP {:#x}, RSP {:#x}, CR0 {:#x}, CR2 {:#x}, CR3 {:#x}, CR4 {:#x}",
                hw.rip(),
                hw.gprs().rsp,
                hw.cr0(),
                hw.cr2(),
                hw.cr3(),
                hw.cr4()
            );
        }
    }

    /// A level interrupt that the parent asserted has ended.
    pub(super) fn report_eoi(&mut self, vp: &mut Vp, vector: u8) {
        // The instruction that ended it is complete: the VP stops behind it.
        let seen = vp.hw.snapshot();
        let message = message::apic_eoi(vp, vector);
        self.intercept(vp, &seen, &message);
    }
}

fn instruction_of(io: &IoExit) -> Instruction {
    match (io.input, io.string) {
        (true, false) => Instruction::In,
        (true, true) => Instruction::Ins,
        (false, false) => Instruction::Out,
        (false, true) => Instruction::Outs,
    }
}
