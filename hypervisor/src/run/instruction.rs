//! Instructions that the hypervisor completes for the guest.

use super::Cpu;
use crate::arch::cpuid::CpuidResult;
use crate::arch::state::{Segment, SegmentName, efer, rflags};
use crate::hv::Hypervisor;
use crate::insn::{self, CodeMode, Instruction, LengthError, MAX_LENGTH, Mov};
use crate::intercept::message::{self, Code};
use crate::partition::code_cache::CodeCache;
use crate::partition::cpuid_cache::CpuidCache;
use crate::partition::table::PartitionGuard;
use crate::partition::{Partition, Vp, cpuid, translate};

impl Cpu {
    /// Calls `f` with the partition of the VP in hand. It cannot go away: whoever deletes it has to stop its VPs first.
    #[inline]
    pub fn partition<R>(&self, vp: &Vp, f: impl FnOnce(&Hypervisor, &Partition) -> R) -> R {
        match PartitionGuard::lock(vp.home.0) {
            Some(partition) => f(self.hv, &partition),
            None => unreachable!("the partition of a VP exists"),
        }
    }

    /// The bytes of the instruction that ended the last run: RIP must still be there.
    pub(super) fn fetch(&self, vp: &Vp) -> Code {
        let told = vp.hw.instruction_bytes();
        if told.is_empty() {
            return self.read_code(vp);
        }
        let mut code = Code::default();
        let count = told.len().min(code.bytes.len());
        code.bytes[..count].copy_from_slice(&told[..count]);
        code.count = count as u8;
        code
    }

    /// The bytes at RIP, wherever that is by now.
    pub(super) fn read_code(&self, vp: &Vp) -> Code {
        let mut code = Code::default();
        let read = self.partition(vp, |hv, partition| {
            let bytes = code.bytes.get_mut(..MAX_LENGTH).unwrap_or(&mut []);
            translate::instruction_bytes(hv, partition, vp, bytes)
        });
        code.count = read as u8;
        code
    }

    /// The length of the intercepted instruction, which is `expected`.
    ///
    /// `None` if another one is there by now: another VP has changed the code. The VP just goes on and executes it.
    #[inline(always)]
    pub fn length(&self, vp: &mut Vp, expected: Instruction) -> Option<u8> {
        if let Some(length) = vp.hw.instruction_length() {
            return Some(length);
        }
        let generation = vp.home.domain.generation();
        CodeCache::first_bytes(vp, self.hv.phys, generation)
            .and_then(|first| insn::plain_length(expected, first))
            .or_else(|| self.length_by_walk(vp, expected))
    }

    /// As [`length`](Self::length), with prefixes, or where nothing is known of the code yet.
    #[cold]
    fn length_by_walk(&self, vp: &mut Vp, expected: Instruction) -> Option<u8> {
        let code = self.known_code(vp).unwrap_or_else(|| self.fetch(vp));
        insn::length(expected, code.as_slice(), code_mode(vp)).ok()
    }

    /// The bytes at the RIP of a VP in 64-bit mode by the last walk to its code, or by a new one. `None` where there may be
    /// fewer.
    fn known_code(&self, vp: &mut Vp) -> Option<Code> {
        let generation = vp.home.domain.generation();
        let known = CodeCache::bytes(vp, self.hv.phys, generation);
        let bytes = known.or_else(|| {
            let partition = PartitionGuard::lock(vp.home.0)?;
            CodeCache::note(self.hv, &partition, vp, generation);
            CodeCache::bytes(vp, self.hv.phys, generation)
        })?;
        let count = bytes.len() as u8;
        Some(Code { bytes, count })
    }

    /// The MOV at RIP that ended the last run by a second-level fault, if it is one of 32 bits from or to memory. The bytes
    /// are read once; another VP may have changed them since the processor did.
    pub(super) fn mov(&self, vp: &mut Vp) -> Option<Mov> {
        let mode = code_mode(vp);
        let told = insn::decode_mov(vp.hw.instruction_bytes(), mode);
        match told {
            // The processor told none, or not all.
            Err(LengthError::NeedMore) => {}
            told => return told.ok(),
        }
        let code = self.known_code(vp).unwrap_or_else(|| self.read_code(vp));
        insn::decode_mov(code.as_slice(), mode).ok()
    }

    /// As [`length`](Self::length), from bytes that were fetched.
    pub(super) fn length_of(&self, vp: &Vp, expected: Instruction, code: &Code) -> Option<u8> {
        vp.hw
            .instruction_length()
            .or_else(|| insn::length(expected, code.as_slice(), code_mode(vp)).ok())
    }

    /// Completes an instruction without effect, one of those named.
    pub(super) fn skip(&mut self, vp: &mut Vp, expected: &[Instruction]) {
        let code = self.fetch(vp);
        let length = expected
            .iter()
            .find_map(|&instruction| self.length_of(vp, instruction, &code));
        if let Some(length) = length {
            vp.hw.advance_rip(length);
        }
    }

    /// CPUID.
    #[inline(always)]
    pub(super) fn cpuid(&mut self, vp: &mut Vp) {
        let Some(length) = self.length(vp, Instruction::Cpuid) else {
            return;
        };
        let gprs = vp.hw.gprs();
        let (eax, ecx) = (gprs.rax as u32, gprs.rcx as u32);
        match CpuidCache::find(vp, vp.home.changes.count(), eax, ecx) {
            Some(answer) => complete_cpuid(vp, &answer, length),
            None => self.answer_cpuid(vp, eax, ecx, length),
        }
    }

    #[inline(never)]
    fn answer_cpuid(&mut self, vp: &mut Vp, eax: u32, ecx: u32, length: u8) {
        let changes = vp.home.changes.count();
        let (answer, wanted) = self.partition(vp, |hv, partition| {
            let wanted = partition.intercepts.wants_cpuid(eax)
                && !partition.results.overrides_cpuid(eax, ecx);
            (cpuid::answer(hv, partition, vp, eax, ecx), wanted)
        });
        if wanted {
            let seen = vp.hw.snapshot();
            let message = message::cpuid(vp, &seen, &answer, length);
            return self.intercept(vp, &seen, &message);
        }
        CpuidCache::keep(vp, changes, eax, ecx, answer);
        complete_cpuid(vp, &answer, length);
    }

    /// HLT.
    pub(super) fn halt_instruction(&mut self, vp: &mut Vp) {
        let Some(length) = self.length(vp, Instruction::Hlt) else {
            return;
        };
        if !self.partition(vp, |_, partition| partition.has_lapic()) {
            let seen = vp.hw.snapshot();
            let message = message::halt(vp, &seen, length);
            return self.intercept(vp, &seen, &message);
        }
        vp.hw.advance_rip(length);
        self.sleep(vp, false);
    }

    /// A read of GUEST_IDLE: the VP sleeps until an interrupt is there for it, also while it takes none (guest sheet 4.11).
    pub(super) fn guest_idle(&mut self, vp: &mut Vp) {
        self.sleep(vp, true);
    }

    /// The VP in hand sleeps, if nothing keeps it awake: until it can take an interrupt, or until there is one.
    fn sleep(&mut self, vp: &mut Vp, idle: bool) {
        (vp.halted, vp.idle) = (true, idle);
        if vp.is_runnable() {
            (vp.halted, vp.idle) = (false, false);
        } else {
            self.block(vp);
        }
    }
}

#[inline(always)]
fn complete_cpuid(vp: &mut Vp, answer: &CpuidResult, length: u8) {
    let gprs = vp.hw.gprs_mut();
    gprs.rax = answer.eax.into();
    gprs.rbx = answer.ebx.into();
    gprs.rcx = answer.ecx.into();
    gprs.rdx = answer.edx.into();
    vp.hw.advance_rip(length);
}

/// How the code at RIP is decoded.
pub(super) fn code_mode(vp: &Vp) -> CodeMode {
    if vp.hw.in_64_bit_code() {
        return CodeMode::Code64;
    }
    let protected = vp.hw.cr0() & 1 != 0 && vp.hw.rflags() & rflags::VM == 0;
    let long = vp.hw.efer() & efer::LMA != 0;
    let big = vp.hw.segment(SegmentName::Cs).attributes & Segment::BIG != 0;
    if (protected || long) && big {
        CodeMode::Code32
    } else {
        CodeMode::Code16
    }
}
