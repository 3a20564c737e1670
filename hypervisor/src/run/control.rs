//! Control registers whose changes a parent wants to see, and XCR0.

use tlfs::HvRegisterName;

use super::Cpu;
use super::instruction::code_mode;
use crate::arch::exit::CrExit;
use crate::arch::state::{Segment, SegmentName, cr0, efer};
use crate::insn::{self, Instruction};
use crate::intercept::message;
use crate::partition::validate::{self, Paging};
use crate::partition::vp::{
    CR_INTERCEPT_CR0_WRITE, CR_INTERCEPT_CR4_WRITE, CR_INTERCEPT_XCR0_WRITE,
};
use crate::partition::{Vp, cpuid};

impl Cpu {
    /// A write to CR0 or CR4: reported if it changes a bit of the mask, else done here.
    pub(super) fn control_register(&mut self, vp: &mut Vp, access: &CrExit) {
        let Some(found) = self.find_write(vp, access) else {
            return;
        };
        if access.register == 8 {
            return self.task_priority(vp, &found);
        }
        let (register, old) = match access.register {
            0 => (HvRegisterName::CR0, vp.hw.cr0()),
            4 => (HvRegisterName::CR4, vp.hw.cr4()),
            // Nothing else is asked for.
            _ => return self.undefined(vp),
        };
        let source = vp.hw.gprs().get(found.gpr.into());
        let new = match (found.instruction, source) {
            (Instruction::MovToCr, Some(value)) if vp.hw.in_64_bit_code() => value,
            (Instruction::MovToCr, Some(value)) => value & 0xFFFF_FFFF,
            (Instruction::Clts, _) => old & !cr0::TS,
            (Instruction::Lmsw, _) => {
                // Its operand may lie in memory: the parent has an emulator.
                let code = tlfs::HvX64UnsupportedFeatureCode::INTERCEPT;
                return self.unsupported(vp, code, 0);
            }
            // Other code is there by now.
            _ => return,
        };
        let asked = vp.cr_intercept;
        let (bit, mask) = match register {
            HvRegisterName::CR0 => (CR_INTERCEPT_CR0_WRITE, asked.cr0_mask),
            _ => (CR_INTERCEPT_CR4_WRITE, asked.cr4_mask),
        };
        if asked.control & bit != 0 && (old ^ new) & mask != 0 {
            let seen = vp.hw.snapshot();
            let message = message::register(vp, &seen, register, new, found.length);
            return self.intercept(vp, &seen, &message);
        }
        if self.write_control_register(vp, register, new) {
            vp.hw.advance_rip(found.length);
        } else {
            self.inject_gp(vp);
        }
    }

    /// The instruction of such an access. `None` if it cannot be read, and the processor does not tell.
    fn find_write(&self, vp: &Vp, access: &CrExit) -> Option<CrWrite> {
        CrWrite::told(access, vp.hw.instruction_length()).or_else(|| {
            let code = self.fetch(vp);
            let found = insn::decode(code.as_slice(), code_mode(vp)).ok()?;
            Some(CrWrite {
                instruction: found.instruction,
                gpr: access.gpr.unwrap_or(found.general_register()),
                length: found.length,
            })
        })
    }

    /// MOV to CR8, while an interrupt waits for it.
    fn task_priority(&mut self, vp: &mut Vp, found: &CrWrite) {
        match (found.instruction, vp.hw.gprs().get(found.gpr.into())) {
            (Instruction::MovToCr, Some(value)) if value < 16 => {
                vp.hw.set_cr8(value as u8);
                vp.apic.set_cr8(value as u8);
                vp.hw.advance_rip(found.length);
            }
            (Instruction::MovToCr, Some(_)) => self.inject_gp(vp),
            // Other code is there by now.
            _ => {}
        }
    }

    /// What MOV to CR0 or CR4 does. False for a value that faults.
    fn write_control_register(&self, vp: &mut Vp, register: HvRegisterName, new: u64) -> bool {
        if register == HvRegisterName::CR4 {
            let leaf =
                |eax| self.partition(vp, |hv, partition| cpuid::answer(hv, partition, vp, eax, 0));
            let allowed = validate::cr4_allowed(&leaf(1), &leaf(7));
            if !validate::cr4_ok(new, allowed) || !paging(vp).allows_cr4(new) {
                return false;
            }
            vp.hw.set_cr4(new);
        } else {
            if !validate::cr0_ok(new) || !paging(vp).allows_cr0(new) {
                return false;
            }
            let paging = new & cr0::PG != 0;
            let extended = vp.hw.efer();
            if extended & efer::LME != 0 {
                let active = if paging { efer::LMA } else { 0 };
                vp.hw.set_efer(extended & !efer::LMA | active);
            }
            vp.hw.set_cr0(new | cr0::ET);
        }
        // Whatever the change is, the instruction flushes.
        vp.tag.invalidate();
        true
    }

    /// XSETBV.
    pub(super) fn xsetbv(&mut self, vp: &mut Vp) {
        let Some(length) = self.length(vp, Instruction::Xsetbv) else {
            return;
        };
        let gprs = vp.hw.gprs();
        let value = gprs.rdx << 32 | gprs.rax & 0xFFFF_FFFF;
        let (index, old) = (gprs.rcx as u32, vp.fpu.xcr0());
        if index != 0 || vp.hw.cpl() != 0 || !self.hv.fpu_format.accepts_xcr0(value) {
            return self.inject_gp(vp);
        }
        if vp.cr_intercept.control & CR_INTERCEPT_XCR0_WRITE != 0 && old != value {
            let seen = vp.hw.snapshot();
            let message = message::register(vp, &seen, HvRegisterName::XFEM, value, length);
            return self.intercept(vp, &seen, &message);
        }
        if !vp.fpu.set_xcr0(value) {
            return self.inject_gp(vp);
        }
        self.load_xcr0(vp);
        vp.hw.advance_rip(length);
    }
}

/// An instruction that writes a control register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CrWrite {
    instruction: Instruction,
    /// The source of a MOV.
    gpr: u8,
    length: u8,
}

impl CrWrite {
    /// A MOV of which the processor tells all. What is in memory does not matter then, which may be out of reach or
    /// another instruction by now.
    fn told(access: &CrExit, length: Option<u8>) -> Option<Self> {
        let gpr = access.gpr.filter(|_| access.write)?;
        Some(Self {
            instruction: Instruction::MovToCr,
            gpr,
            length: length?,
        })
    }
}

fn paging(vp: &Vp) -> Paging {
    Paging {
        cr0: vp.hw.cr0(),
        cr3: vp.hw.cr3(),
        cr4: vp.hw.cr4(),
        efer: vp.hw.efer(),
        cs_long: vp.hw.segment(SegmentName::Cs).attributes & Segment::LONG != 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_looked_at_only_where_the_processor_does_not_tell() {
        let mov = CrExit {
            register: 4,
            write: true,
            gpr: Some(9),
        };
        let told = CrWrite {
            instruction: Instruction::MovToCr,
            gpr: 9,
            length: 4,
        };
        assert_eq!(CrWrite::told(&mov, Some(4)), Some(told));
        assert_eq!(CrWrite::told(&mov, None), None);
        // CLTS and LMSW have no register.
        assert_eq!(CrWrite::told(&CrExit { gpr: None, ..mov }, Some(2)), None);
        let read = CrExit {
            write: false,
            ..mov
        };
        assert_eq!(CrWrite::told(&read, Some(3)), None);
    }
}
