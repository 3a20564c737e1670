//! Exits as entries of the event log, while the root traces intercepts.

use super::Cpu;
use crate::arch::exit::{Access, Exit, IoExit};
use crate::arch::state::Gprs;
use crate::event_log::Event;
use crate::partition::Vp;

/// What is to be known of an exit.
pub(super) struct Traced {
    exit: Exit,
    /// Of a port access.
    io: Option<IoExit>,
    /// Of a second-level fault.
    access: Option<Access>,
    /// Guest RIP.
    rip: u64,
    before: Gprs,
    /// Registers afterwards, if the instruction is complete: zeros if not.
    after: Gprs,
}

impl Cpu {
    /// Records an exit of the VP in hand that has been dealt with.
    #[cold]
    pub(super) fn trace_exit(&mut self, vp: &Vp, mut traced: Traced) {
        if vp.hw.rip() != traced.rip {
            traced.after = *vp.hw.gprs();
        }
        if let Some(event) = traced.event() {
            self.trace(vp, event);
        }
    }
}

impl Traced {
    /// Before the exit is dealt with.
    #[cold]
    pub(super) fn begin(vp: &Vp, exit: Exit) -> Self {
        Self {
            exit,
            io: (exit == Exit::Io).then(|| vp.hw.port_access()),
            access: (exit == Exit::NestedFault).then(|| vp.hw.nested_fault().access),
            rip: vp.hw.rip(),
            before: *vp.hw.gprs(),
            after: Gprs::default(),
        }
    }

    /// Hypercalls have entries of their own, and what ends in an exception or a triple fault that the hypervisor raises
    /// is recorded where it does.
    fn event(&self) -> Option<Event> {
        let rip = self.rip;
        let (before, after) = (&self.before, &self.after);
        Some(match self.exit {
            Exit::Cpuid => Event::Cpuid {
                rip,
                eax: before.rax as u32,
                ecx: before.rcx as u32,
            },
            Exit::MsrRead => Event::MsrRead {
                rip,
                index: before.rcx as u32,
                value: pair(after),
            },
            Exit::MsrWrite => Event::MsrWrite {
                rip,
                index: before.rcx as u32,
                value: pair(before),
            },
            Exit::Io => {
                let io = self.io?;
                let registers = if io.input { after } else { before };
                let value = if io.string {
                    0
                } else {
                    low(registers, io.size)
                };
                let port = io.port;
                if io.input {
                    Event::IoPortRead { rip, port, value }
                } else {
                    Event::IoPortWrite { rip, port, value }
                }
            }
            Exit::ControlRegister(cr) => {
                let registers = if cr.write { before } else { after };
                let value = cr.gpr.and_then(|gpr| registers.get(gpr.into()));
                let (index, value) = (cr.register, value.unwrap_or(0));
                if cr.write {
                    Event::CrWrite { rip, index, value }
                } else {
                    Event::CrRead { rip, index, value }
                }
            }
            Exit::Nmi => Event::Nmi { rip },
            Exit::InterruptWindow => Event::InterruptPending { rip },
            Exit::Halt => Event::Halt { rip },
            Exit::CacheControl => Event::Invd { rip },
            Exit::TaskSwitch => Event::TaskSwitch { rip },
            Exit::NestedFault => Event::MemoryIntercept {
                rip,
                access: self.access?,
            },
            Exit::Exception(exception) => Event::GuestException {
                rip,
                vector: exception.vector,
            },
            _ => return None,
        })
    }
}

/// EDX:EAX.
const fn pair(gprs: &Gprs) -> u64 {
    gprs.rdx << 32 | gprs.rax & 0xFFFF_FFFF
}

/// AL, AX or EAX.
const fn low(gprs: &Gprs, size: u8) -> u32 {
    match size {
        1 => gprs.rax as u8 as u32,
        2 => gprs.rax as u16 as u32,
        _ => gprs.rax as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::exit::CrExit;

    fn event(exit: Exit) -> Option<Event> {
        event_of(exit, None)
    }

    fn event_of(exit: Exit, io: Option<IoExit>) -> Option<Event> {
        let before = Gprs {
            rax: 0xFFFF_FFFF_1234_5678,
            rcx: 0xFFFF_FFFF_C000_0080,
            rdx: 0xFFFF_FFFF_0000_0003,
            ..Gprs::default()
        };
        let after = Gprs {
            rax: 0xAAAA_BBCC,
            rdx: 7,
            r8: 8,
            ..Gprs::default()
        };
        let rip = 0x1000;
        let traced = Traced {
            exit,
            io,
            access: None,
            rip,
            before,
            after,
        };
        traced.event()
    }

    fn port_event(input: bool, size: u8, string: bool) -> Option<Event> {
        let access = IoExit {
            port: 0x3F8,
            size,
            input,
            string,
            rep: false,
        };
        event_of(Exit::Io, Some(access))
    }

    #[test]
    fn what_is_written_is_from_before_and_what_is_read_from_afterwards() {
        let (rip, port, index) = (0x1000, 0x3F8, 0xC000_0080);
        let value = 7 << 32 | 0xAAAA_BBCC;
        let expected = Event::MsrRead { rip, index, value };
        assert_eq!(event(Exit::MsrRead), Some(expected));
        let value = 3 << 32 | 0x1234_5678;
        let expected = Event::MsrWrite { rip, index, value };
        assert_eq!(event(Exit::MsrWrite), Some(expected));
        for (size, value) in [(1, 0xCC), (2, 0xBBCC), (4, 0xAAAA_BBCC)] {
            let expected = Event::IoPortRead { rip, port, value };
            assert_eq!(port_event(true, size, false), Some(expected));
        }
        for (size, value) in [(1, 0x78), (2, 0x5678), (4, 0x1234_5678)] {
            let expected = Event::IoPortWrite { rip, port, value };
            assert_eq!(port_event(false, size, false), Some(expected));
        }
        let value = 0;
        let expected = Event::IoPortWrite { rip, port, value };
        assert_eq!(port_event(false, 1, true), Some(expected));
        let cr = |write, gpr| {
            Exit::ControlRegister(CrExit {
                register: 4,
                write,
                gpr,
            })
        };
        let (index, value) = (4, 0xFFFF_FFFF_0000_0003);
        let expected = Event::CrWrite { rip, index, value };
        assert_eq!(event(cr(true, Some(2))), Some(expected));
        let expected = Event::CrRead {
            rip,
            index,
            value: 8,
        };
        assert_eq!(event(cr(false, Some(8))), Some(expected));
        let expected = Event::CrWrite {
            rip,
            index,
            value: 0,
        };
        assert_eq!(event(cr(true, None)), Some(expected));
    }

    #[test]
    fn what_has_an_entry_elsewhere_has_none_here() {
        assert_eq!(event(Exit::Hypercall), None);
        assert_eq!(event(Exit::Shutdown), None);
        assert_eq!(event(Exit::ExternalInterrupt), None);
    }
}
