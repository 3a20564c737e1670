//! Accesses to the page of a local APIC in xAPIC mode.
//!
//! Nothing is ever mapped there, so each access is a second-level fault. MOVs of 32 bits are executed here; whatever else
//! touches the page is the parent's to deal with, as any memory that is not there.

use tlfs::stats::vp as counter;

use super::Cpu;
use crate::apic::PAGE;
use crate::arch::exit::{Access, NestedFault};
use crate::arch::state::SegmentName;
use crate::insn::{Mov, Transfer};
use crate::mem::addr::{Gva, PAGE_SIZE};
use crate::partition::Vp;

/// Registers are this far apart, in bytes.
const STEP: u64 = 16;

impl Cpu {
    /// Executes the instruction that has touched the page of the APIC of the VP in hand. False, with nothing done, if it is
    /// none that the page takes.
    pub(super) fn access_apic_page(&mut self, vp: &mut Vp, fault: &NestedFault) -> bool {
        let Some(index) = register_index(fault).filter(|_| vp.apic.is_in_page()) else {
            return false;
        };
        // The access was part of an event's delivery: the instruction at RIP has nothing to do with it.
        if vp.hw.pending_event().is_some() {
            return false;
        }
        let Some(mov) = self.mov(vp).filter(|mov| is_of(mov, vp, fault)) else {
            return false;
        };
        vp.stats.count(counter::APIC_MMIO_ACCESSES);
        let value = match mov.transfer {
            Transfer::Load { to } => {
                let value = vp.apic.read_page(index, || self.hv.now());
                vp.hw.gprs_mut().set(to.into(), value.into());
                vp.hw.advance_rip(mov.length);
                return true;
            }
            Transfer::Store { from } => vp.hw.gprs().get(from.into()).unwrap_or(0) as u32,
            Transfer::StoreNumber { value } => value,
        };
        // What follows may stop the VP with a message: it stops behind the instruction.
        vp.hw.advance_rip(mov.length);
        let effect = vp.apic.write_page(index, value, self.hv.now());
        vp.hw.set_cr8(vp.apic.cr8());
        self.apply(vp, effect);
        true
    }
}

/// The register that an access is for, by its place in the page. `None` for what is no access to a register: by a walk of the
/// guest's tables, to fetch an instruction, between two registers, or elsewhere.
fn register_index(fault: &NestedFault) -> Option<u32> {
    let data = fault.access != Access::Execute && !fault.table_walk;
    let offset = fault.gpa.0.checked_sub(PAGE.address().0)?;
    let register = offset < PAGE_SIZE && offset.is_multiple_of(STEP);
    (data && register).then_some((offset / STEP) as u32)
}

/// Whether the MOV found at RIP can be what the fault is of. It is not if somebody has changed the code meanwhile.
fn is_of(mov: &Mov, vp: &Vp, fault: &NestedFault) -> bool {
    let access = match mov.transfer {
        Transfer::Load { .. } => Access::Read,
        Transfer::Store { .. } | Transfer::StoreNumber { .. } => Access::Write,
    };
    let linear = linear(mov, vp);
    let offset = |address: u64| address % PAGE_SIZE;
    access == fault.access
        && fault.gva.is_none_or(|gva| gva == linear)
        && offset(linear.0) == offset(fault.gpa.0)
}

/// The linear address of the MOV's memory operand.
fn linear(mov: &Mov, vp: &Vp) -> Gva {
    let next = vp.hw.rip().wrapping_add(mov.length.into());
    let offset = mov.operand.offset(vp.hw.gprs(), next);
    let base = vp.hw.segment(mov.operand.segment).base;
    if !vp.hw.in_64_bit_code() {
        return Gva(base.wrapping_add(offset) & u64::from(u32::MAX));
    }
    match mov.operand.segment {
        SegmentName::Fs | SegmentName::Gs => Gva(base.wrapping_add(offset)),
        _ => Gva(offset),
    }
}
