//! Hypercalls: raw ones with any registers, and well-formed ones with blocks in memory.

use tlfs::{HvCallCode, HvHypercallInput, HvHypercallResult, HvStatus};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use super::cell::Pages;
use super::trap::Fault;
use crate::{probe, with_hypercall};

static INPUT: Pages<4096> = Pages::new();
static OUTPUT: Pages<4096> = Pages::new();

/// The input block that [`call`] uses.
pub fn input_page() -> &'static Pages<4096> {
    &INPUT
}

/// The output block that [`call`] uses.
pub fn output_page() -> &'static Pages<4096> {
    &OUTPUT
}

/// A hypercall by the instruction itself, with these values in RCX, RDX and R8; returns RAX.
///
/// # Errors
/// The exception that the instruction raised.
pub fn raw(control: u64, rdx: u64, r8: u64) -> Result<HvHypercallResult, Fault> {
    let result: u64;
    with_hypercall!(probe!(
        "", @, "",
        inout("rcx") control => _,
        inout("rdx") rdx => _,
        inout("r8") r8 => _,
        inout("rax") 0u64 => result,
        out("r9") _,
        out("r10") _,
        out("r11") _
    ))?;
    Ok(HvHypercallResult::from_bits(result))
}

/// A hypercall with blocks in memory: `input` is what the call sees at the start of its page (zeros follow), `output` is
/// what it left at the start of its own.
pub fn call(control: HvHypercallInput, input: &[u8], output: &mut [u8]) -> HvHypercallResult {
    INPUT.fill(0);
    INPUT.write(input);
    OUTPUT.fill(0);
    let result = raw(control.into_bits(), INPUT.gpa(), OUTPUT.gpa())
        .unwrap_or_else(|fault| panic!("hypercall {control:?}: {fault:x?}"));
    OUTPUT.read(output);
    result
}

/// A call without a list.
///
/// # Errors
/// Its status.
pub fn simple<I, O>(code: HvCallCode, input: &I) -> Result<O, HvStatus>
where
    I: IntoBytes + Immutable + ?Sized,
    O: FromZeros + FromBytes + IntoBytes,
{
    let mut output = O::new_zeroed();
    call(
        HvHypercallInput::simple(code),
        input.as_bytes(),
        output.as_mut_bytes(),
    )
    .call_status()
    .into_result()?;
    Ok(output)
}

/// A call whose input is up to 16 bytes, in registers; returns its status.
pub fn fast(code: HvCallCode, words: [u64; 2]) -> HvStatus {
    let control = HvHypercallInput::simple(code).with_fast(true);
    raw(control.into_bits(), words[0], words[1])
        .unwrap_or_else(|fault| panic!("fast hypercall {code:?}: {fault:x?}"))
        .call_status()
}
