//! Hypercalls: decoding, dispatch, and one file per group of calls.
//!
//! The calling convention is done here, once (guest sheet 5, root sheet A.1). Parameters are copied from the caller's
//! memory before anything looks at them, and results are copied out when the call is over. A call that takes long does a
//! part and is executed again: RIP stays on the instruction, and a rep call's start index says how far it has come. So
//! interrupts get in between, whatever is asked for.

mod bulk;
mod call;
mod decode;
mod event_log;
mod flush;
mod gpa;
mod intercept;
mod interrupt;
mod message;
mod partition;
mod pool;
mod port;
mod registers;
mod state;
mod stats;
mod system;
mod table;
#[cfg(test)]
mod tests;
mod vp;

pub use call::{Buffers, Call};
pub use decode::{Kind, Request, Shape, decode};
#[cfg(any(test, feature = "test-support"))]
pub use table::CALLS;

use tlfs::stats::vp as counter;
use tlfs::{HvHypercallInput, HvHypercallResult, HvStatus};

use crate::arch::exit::{Access, NestedFault};
use crate::arch::state::{Gprs, cr0, efer};
use crate::event_log::Event;
use crate::hv::Hypervisor;
use crate::insn::Instruction;
use crate::intercept::message as intercepted;
use crate::mem::addr::{Gpa, PAGE_SIZE, Spa};
use crate::mem::format::Rights;
use crate::mem::guest_walk::GpaFault;
use crate::partition::{Partition, Vp};
use crate::run::Cpu;

/// The registers of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Registers {
    control: u64,
    input: u64,
    output: u64,
}

impl Registers {
    /// RCX, RDX, R8 in long mode; EDX:EAX, EBX:ECX, EDI:ESI elsewhere (guest sheet 5.2).
    const fn of(gprs: &Gprs, long: bool) -> Self {
        const fn pair(high: u64, low: u64) -> u64 {
            high << 32 | low & 0xFFFF_FFFF
        }
        if long {
            Self {
                control: gprs.rcx,
                input: gprs.rdx,
                output: gprs.r8,
            }
        } else {
            Self {
                control: pair(gprs.rdx, gprs.rax),
                input: pair(gprs.rbx, gprs.rcx),
                output: pair(gprs.rdi, gprs.rsi),
            }
        }
    }
}

/// How a call ends.
enum End {
    /// With a result.
    Result(HvHypercallResult),
    /// Not yet: the instruction is executed again, a rep call with this start index.
    Again(usize),
    /// With the VP stopped by a message: its memory has to be made accessible first, or the call is its parent's.
    Intercepted,
    /// It turns out to be the parent's.
    ForParent,
}

impl From<HvStatus> for End {
    fn from(status: HvStatus) -> Self {
        Self::Result(HvHypercallResult::simple(status))
    }
}

/// The hypercall instruction of the VP in hand. Where it is VMCALL, the processor always tells its length. True if it will be
/// executed again.
#[inline]
pub fn call(cpu: &mut Cpu, vp: &mut Vp) -> bool {
    if vp.hw.cpl() != 0 || vp.hw.cr0() & cr0::PE == 0 {
        cpu.undefined(vp);
        return false;
    }
    let Some(length) = cpu.length(vp, Instruction::Vmmcall) else {
        return false;
    };
    let long = vp.hw.efer() & efer::LMA != 0;
    let registers = Registers::of(vp.hw.gprs(), long);
    match dispatch(cpu, vp, &registers, length) {
        End::Intercepted | End::ForParent => {}
        End::Again(start) => {
            let control = HvHypercallInput::from_bits(registers.control).with_rep_start(start);
            let gprs = vp.hw.gprs_mut();
            if long {
                gprs.rcx = control.into_bits();
            } else {
                gprs.rax = control.into_bits() & 0xFFFF_FFFF;
                gprs.rdx = control.into_bits() >> 32;
            }
            return true;
        }
        End::Result(result) => {
            let (rip, control) = (vp.hw.rip(), registers.control);
            cpu.trace(vp, Event::Hypercall { rip, control });
            let value = result.into_bits();
            let gprs = vp.hw.gprs_mut();
            if long {
                gprs.rax = value;
            } else {
                gprs.rax = value & 0xFFFF_FFFF;
                gprs.rdx = value >> 32;
            }
            vp.hw.advance_rip(length);
        }
    }
    false
}

fn dispatch(cpu: &mut Cpu, vp: &mut Vp, registers: &Registers, length: u8) -> End {
    let control = HvHypercallInput::from_bits(registers.control);
    let Some(entry) = table::find(control.call_code()) else {
        return unknown(cpu, vp, length);
    };
    vp.stats.count(entry.counter);
    let request = match decode(&entry.shape, control, registers.input, registers.output) {
        Ok(request) => request,
        Err(status) => return status.into(),
    };
    let generation = vp.home.domain.generation();
    let found = cpu.partition(vp, |hv, partition| {
        if !partition.privileges.contains(entry.privilege) {
            return Err(Refusal::Status(HvStatus::ACCESS_DENIED));
        }
        let place = |gpa: Gpa, access| match vp.pages.find(gpa, access, generation) {
            Some(spa) => Ok(spa),
            None => place(hv, partition, gpa, access),
        };
        Ok((partition.id, places(&request, place)?))
    });
    let (caller, places) = match found {
        Ok(found) => found,
        Err(Refusal::Status(status)) => return status.into(),
        Err(Refusal::NoAccess { mapped, fault }) => {
            cpu.memory_intercept(vp, &fault, mapped);
            return End::Intercepted;
        }
    };
    for (gpa, access, found) in [
        (request.input, Access::Read, places.input),
        (request.output, Access::Write, places.output),
    ] {
        if let Some(found) = found {
            vp.pages.keep(Gpa(gpa), access, generation, found);
        }
    }
    // They are there: a call does not call.
    let Some(buffers) = cpu.buffers.take() else {
        return HvStatus::OPERATION_FAILED.into();
    };
    let end = perform(cpu, vp, entry, &request, &places, caller, buffers);
    cpu.buffers = Some(buffers);
    match end {
        End::ForParent => to_parent(cpu, vp, length),
        end => end,
    }
}

fn perform(
    cpu: &mut Cpu,
    vp: &mut Vp,
    entry: &table::Entry,
    request: &Request,
    places: &Places,
    caller: tlfs::HvPartitionId,
    buffers: &mut Buffers,
) -> End {
    let hv = cpu.hv;
    match places.input {
        Some(from) => {
            let target = buffers
                .input
                .get_mut(..request.input_bytes)
                .unwrap_or(&mut []);
            // `places` has checked that the direct map covers it.
            let _ = hv.phys.copy_from(from, target);
        }
        None => {
            let fast = [request.input.to_le_bytes(), request.output.to_le_bytes()];
            let (first, second) = buffers.input.split_at_mut(8);
            first.copy_from_slice(&fast[0]);
            second[..8].copy_from_slice(&fast[1]);
        }
    }
    let mut call = Call::new(cpu, vp, request, caller, buffers);
    let result = (entry.handler)(&mut call);
    event_log::trace(&call, entry.code, result);
    let (done, again, busy) = (call.done, call.again, call.busy);
    if call.for_parent {
        return End::ForParent;
    }
    let (written, output) = call.output();
    if let Some(to) = places.output
        && !written.is_empty()
    {
        let _ = hv.phys.copy_to(Spa(to.0 + written.start as u64), output);
    }
    let rep = matches!(entry.shape.kind, Kind::Rep { .. });
    match result {
        _ if busy => End::Again(done),
        Ok(()) if again => End::Again(done),
        Ok(()) if rep && done < request.reps.end => End::Again(done),
        result => {
            let status = result.err().unwrap_or(HvStatus::SUCCESS);
            End::Result(if rep {
                HvHypercallResult::rep(status, done)
            } else {
                HvHypercallResult::simple(status)
            })
        }
    }
}

/// Where the parameters are in machine memory.
struct Places {
    input: Option<Spa>,
    output: Option<Spa>,
}

/// Why a call is not done.
enum Refusal {
    /// The call fails.
    Status(HvStatus),
    /// The parent has taken the access to a parameter away, or its page: it is asked for it (root sheet A.3.3, NO_ACCESS). Dynamic
    /// Memory gives a page back then; of one that it does not have, the parent tells the guest.
    NoAccess { mapped: bool, fault: NestedFault },
}

fn places(
    request: &Request,
    place: impl Fn(Gpa, Access) -> Result<Spa, Refusal>,
) -> Result<Places, Refusal> {
    let of = |gpa: u64, bytes: usize, access: Access| {
        let in_memory = !request.fast && bytes != 0;
        let found = in_memory.then(|| place(Gpa(gpa), access));
        found.transpose()
    };
    Ok(Places {
        input: of(request.input, request.input_bytes, Access::Read)?,
        output: of(request.output, request.output_bytes, Access::Write)?,
    })
}

#[inline(never)]
fn place(hv: &Hypervisor, partition: &Partition, gpa: Gpa, access: Access) -> Result<Spa, Refusal> {
    let rights = match access {
        Access::Write => Rights::RW,
        _ => Rights::READ,
    };
    let unusable = Refusal::Status(HvStatus::INVALID_PARAMETER);
    let written_over = access == Access::Write && partition.overlays.cover(gpa.page());
    match partition.resolve(gpa, rights) {
        // A page of a VP goes with it, and no call that another VP has under way is waited for.
        Ok(_) if written_over => Err(unusable),
        // The root's address space has devices in it.
        Ok(spa) if partition.is_root() && !hv.is_ram(spa.page()) => Err(unusable),
        Ok(spa) => Ok(spa),
        Err(fault) => {
            let covered = partition.overlays.cover(gpa.page());
            if covered || partition.is_root() || !partition.can_have(gpa.page()) {
                return Err(unusable);
            }
            let fault = Refusal::NoAccess {
                mapped: fault != GpaFault::Unmapped,
                fault: NestedFault {
                    gpa: Gpa(gpa.0 & !(PAGE_SIZE - 1)),
                    gva: None,
                    access,
                    table_walk: false,
                },
            };
            Err(fault)
        }
    }
}

/// A call that the hypervisor does not have: its parent's, if that has asked for them (root sheet B.1).
fn unknown(cpu: &mut Cpu, vp: &mut Vp, length: u8) -> End {
    let wanted = cpu.partition(vp, |_, partition| {
        partition.intercepts.hypercall && !partition.is_root()
    });
    if !wanted {
        return HvStatus::INVALID_HYPERCALL_CODE.into();
    }
    to_parent(cpu, vp, length)
}

/// Stops the VP with a message that shows the call.
fn to_parent(cpu: &mut Cpu, vp: &mut Vp, length: u8) -> End {
    let xmm = cpu.live_xmm();
    let seen = vp.hw.snapshot();
    let message = intercepted::hypercall(vp, &seen, length, &xmm);
    vp.stats
        .count(counter::EXTENDED_HYPERCALL_INTERCEPT_MESSAGES);
    cpu.intercept(vp, &seen, &message);
    End::Intercepted
}
