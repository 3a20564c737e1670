//! Executing calls.

use alloc::vec::Vec;

use tlfs::{HvCallCode, HvHypercallInput, HvHypercallResult, HvStatus};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::super::Cpu;
use super::{Bench, MAX_EXECUTIONS, Outcome, UNTOUCHED, alloc};
use crate::arch::state::SegmentName;
use crate::hypercall;
use crate::partition::Vp;

impl Bench {
    /// The hypercall instruction once. `None` if it is to be executed again.
    ///
    /// # Panics
    /// When a frame has the wrong owner afterwards.
    pub fn execute(&mut self) -> Option<Outcome> {
        let (cpu, vp) = self.parts();
        let start = vp.hw.rip();
        let before = mode(vp);
        if !vp.hw.exit_by_hypercall(is_at_call(cpu, vp)) {
            return Some(Outcome::Elsewhere);
        }
        vp.hw.set_pending_event(None);
        let suspended = vp.suspend.intercept.suspended();
        let _ = hypercall::call(cpu, vp);
        let outcome = if let Some(event) = vp.hw.pending_event() {
            vp.hw.set_pending_event(None);
            Some(Outcome::Exception(event))
        } else if vp.suspend.intercept.suspended() && !suspended {
            Some(Outcome::Intercepted)
        } else if mode(vp) != before {
            Some(Outcome::Elsewhere)
        } else if vp.hw.rip() == start {
            (!is_at_call(cpu, vp)).then_some(Outcome::Elsewhere)
        } else {
            let rax = vp.hw.gprs().rax;
            Some(Outcome::Result(HvHypercallResult::from_bits(rax), 1))
        };
        vp.hw.set_rip(start);
        if self.audited {
            self.audit();
        }
        outcome
    }

    /// A call with these registers, executed until it is over.
    ///
    /// # Panics
    /// When it is never over, or a frame has the wrong owner.
    pub fn run(&mut self, control: u64, rdx: u64, r8: u64) -> Outcome {
        let gprs = self.hand().hw.gprs_mut();
        (gprs.rcx, gprs.rdx, gprs.r8) = (control, rdx, r8);
        for executions in 1..=MAX_EXECUTIONS {
            match self.execute() {
                None => {}
                Some(Outcome::Result(result, _)) => return Outcome::Result(result, executions),
                Some(other) => return other,
            }
        }
        panic!("the call {control:#x} does not end");
    }

    /// A call with its parameters in memory, and its result. The output page is filled with [`UNTOUCHED`] first.
    ///
    /// # Panics
    /// When it ends otherwise than with a result.
    pub fn call(&mut self, control: HvHypercallInput, input: &[u8]) -> HvHypercallResult {
        self.write(self.input(), input);
        self.write(self.output(), &[UNTOUCHED; 4096]);
        let (rdx, r8) = (self.input().0, self.output().0);
        match self.run(control.into_bits(), rdx, r8) {
            Outcome::Result(result, _) => result,
            other => panic!("{other:?}"),
        }
    }

    /// A simple call.
    pub fn simple(&mut self, code: HvCallCode, input: &(impl IntoBytes + Immutable)) -> HvStatus {
        self.call(HvHypercallInput::simple(code), input.as_bytes())
            .call_status()
    }

    /// A simple call with an answer.
    ///
    /// # Errors
    /// What it ends with.
    pub fn ask<T: FromBytes + FromZeros + IntoBytes>(
        &mut self,
        code: HvCallCode,
        input: &(impl IntoBytes + Immutable),
    ) -> Result<T, HvStatus> {
        match self.simple(code, input) {
            HvStatus::SUCCESS => Ok(self.read(self.output())),
            status => Err(status),
        }
    }

    /// A rep call of `count` elements: its status, and how many are done.
    ///
    /// # Panics
    /// When it ends otherwise than with a result, or the list is too long.
    pub fn rep(
        &mut self,
        code: HvCallCode,
        header: &(impl IntoBytes + Immutable),
        list: &[u8],
        count: usize,
    ) -> (HvStatus, usize) {
        let control = HvHypercallInput::rep(code, count).expect("not that many");
        let mut input: Vec<u8> = header.as_bytes().into();
        input.resize(input.len().next_multiple_of(8), 0);
        input.extend_from_slice(list);
        let result = self.call(control, &input);
        (result.call_status(), result.reps_completed())
    }
}

/// The VP in hand is at its processor's hypercall instruction.
fn is_at_call(cpu: &Cpu, vp: &Vp) -> bool {
    let instruction = cpu.hv.capabilities.hypercall_instruction();
    cpu.fetch(vp).as_slice().starts_with(&instruction)
}

/// What decides which instruction a VP executes at an address.
fn mode(vp: &Vp) -> impl PartialEq + use<> {
    let hw = &vp.hw;
    let code = hw.segment(SegmentName::Cs);
    let control = [hw.cr0(), hw.cr3(), hw.cr4(), hw.efer(), hw.rflags()];
    (control, hw.cpl(), code)
}
