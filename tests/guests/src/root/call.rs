//! Hypercalls.

use core::arch::asm;

use tlfs::{
    HV_X64_MSR_GUEST_OS_ID, HV_X64_MSR_HYPERCALL, HvCallCode, HvHypercallInput, HvHypercallMsr,
    HvHypercallResult, HvStatus,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::memory::{self, Memory, PAGE};
use crate::metal::cpu::{rdmsr, wrmsr};
use crate::metal::memory::virtual_address;

/// What Linux writes: vendor id, version.
const GUEST_OS_ID: u64 = 0x8100 << 48 | 0x0007_0200 << 16;
/// What input and output pages hold before each call: nothing may depend on stale bytes, and nothing may be taken for
/// an answer that is none.
const STALE: u8 = 0xA5;

/// The caller's two pages and its copy of the hypercall page.
pub struct Calls {
    code: u64,
    /// Input page.
    pub input: u64,
    /// Output page, right behind it.
    pub output: u64,
    /// Is told of every call and its status.
    pub watch: Option<fn(HvCallCode, HvStatus)>,
}

impl Calls {
    /// Establishes the hypercall page and copies it elsewhere, as Linux does.
    pub fn new(memory: &mut Memory) -> Self {
        let code = memory.zeroed();
        let pages = memory.large(1);
        let msr = || rdmsr(HV_X64_MSR_HYPERCALL).map(HvHypercallMsr::from_bits);
        let enable = |msr: HvHypercallMsr| {
            check!(
                msr.gpfn() != 0,
                "MSR HYPERCALL names page 0 before it is enabled"
            );
            wrmsr(HV_X64_MSR_HYPERCALL, msr.with_enabled(true).into_bits())
        };
        let msr = wrmsr(HV_X64_MSR_GUEST_OS_ID, GUEST_OS_ID)
            .and_then(|()| enable(msr()?))
            .and_then(|()| msr());
        let msr = msr.unwrap_or_else(|fault| fail!("the MSRs of hypercalls: {fault:x?}"));
        check!(msr.enabled(), "the hypercall page is not enabled");
        for word in 0..PAGE / 8 {
            memory::write(code + 8 * word, memory::read(msr.gpfn() * PAGE + 8 * word));
        }
        memory::make_executable(virtual_address(code));
        Self {
            code: virtual_address(code),
            input: pages,
            output: pages + PAGE,
            watch: None,
        }
    }

    /// For another VP of the root: with two pages in a row of its own.
    pub const fn with_pages(&self, pages: u64) -> Self {
        Self {
            code: self.code,
            input: pages,
            output: pages + PAGE,
            watch: None,
        }
    }

    /// The call itself.
    pub fn raw(&self, control: HvHypercallInput, input: u64, output: u64) -> HvHypercallResult {
        let result: u64;
        // SAFETY: the code is the hypervisor's. It changes RAX, RCX, RDX, R8 to R11 at most (guest sheet 5.1) and the
        // output block, to which no Rust reference exists.
        unsafe {
            asm!(
                "call {code}",
                code = in(reg) self.code,
                inout("rcx") control.into_bits() => _,
                inout("rdx") input => _,
                inout("r8") output => _,
                out("rax") result,
                out("r9") _,
                out("r10") _,
                out("r11") _,
            );
        }
        let result = HvHypercallResult::from_bits(result);
        if let Some(watch) = self.watch {
            watch(control.call_code(), result.call_status());
        }
        result
    }

    /// Puts parts of an input block together, on a page of stale bytes.
    pub fn fill_input(&self, parts: &[&[u8]]) {
        memory::fill(self.input, STALE, PAGE);
        let mut at = 0;
        for part in parts {
            check!(at + part.len() as u64 <= PAGE, "an input block is too long");
            memory::copy_to(self.input + at, part);
            at += part.len() as u64;
        }
    }

    /// A call with an input block in memory.
    pub fn call(
        &self,
        control: HvHypercallInput,
        parts: &[&[u8]],
        output: &mut [u8],
    ) -> HvHypercallResult {
        self.fill_input(parts);
        memory::fill(self.output, STALE, PAGE);
        let result = self.raw(control, self.input, self.output);
        memory::copy_from(self.output, output);
        result
    }

    /// A simple call without output.
    pub fn order<I: IntoBytes + Immutable + ?Sized>(
        &self,
        code: HvCallCode,
        input: &I,
    ) -> HvStatus {
        let control = HvHypercallInput::simple(code);
        self.call(control, &[input.as_bytes()], &mut [])
            .call_status()
    }

    /// A simple call with output.
    ///
    /// # Errors
    /// Any status but SUCCESS.
    pub fn ask<I: IntoBytes + Immutable + ?Sized, O: FromBytes + IntoBytes>(
        &self,
        code: HvCallCode,
        input: &I,
    ) -> Result<O, HvStatus> {
        let control = HvHypercallInput::simple(code);
        let mut output = O::new_zeroed();
        let result = self.call(control, &[input.as_bytes()], output.as_mut_bytes());
        result.call_status().into_result().map(|()| output)
    }

    /// A fast call: parameters in RDX and R8.
    pub fn fast(&self, code: HvCallCode, first: u64, second: u64) -> HvStatus {
        let control = HvHypercallInput::simple(code).with_fast(true);
        self.raw(control, first, second).call_status()
    }

    /// One issue of a rep call over `count` elements from `start` on. Status, and elements done from the list's start.
    pub fn rep(
        &self,
        code: HvCallCode,
        (start, count): (usize, usize),
        parts: &[&[u8]],
        output: &mut [u8],
    ) -> (HvStatus, usize) {
        let control = HvHypercallInput::new()
            .with_call_code(code)
            .with_rep_count(count)
            .with_rep_start(start);
        let result = self.call(control, parts, output);
        let (status, done) = (result.call_status(), result.reps_completed());
        check!(
            start <= done && done <= count,
            "{code:?} reports {done} reps of {count} after {start}"
        );
        (status, done)
    }

    /// A rep call, issued until it is complete or ends with an error.
    pub fn reps(
        &self,
        code: HvCallCode,
        count: usize,
        parts: &[&[u8]],
        output: &mut [u8],
    ) -> (HvStatus, usize) {
        let mut start = 0;
        loop {
            let (status, done) = self.rep(code, (start, count), parts, output);
            if !status.is_success() || done == count {
                return (status, done);
            }
            check!(done > start, "{code:?} makes no progress and says SUCCESS");
            start = done;
        }
    }
}
