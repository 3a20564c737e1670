//! The root's side of the hypervisor's interface: hypercalls, memory pools, partitions, guest memory.
//!
//! Everything goes through [`Hypercalls`], so that tests put a fake hypervisor below it.

mod guest_memory;
mod partition;
mod passthrough;
mod pool;

#[cfg(test)]
pub(crate) mod fake;

pub use guest_memory::{Leaf, Progress};
pub use partition::{MAX_VPS, Partition, Phase, Teardown, VpFrames};
pub use passthrough::{MAX_BLOCK, Request, passed_through};
pub use pool::{Hv, Retry};

use thiserror::Error;
use tlfs::{HvCallCode, HvHypercallInput, HvHypercallResult, HvStatus};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

use crate::frames::NotOwner;

/// Makes hypercalls.
pub trait Hypercalls {
    /// One hypercall with blocks in memory. Each block is at most a page; `input` is what the call sees, `output` is
    /// overwritten as far as the call writes.
    fn call(
        &mut self,
        control: HvHypercallInput,
        input: &[u8],
        output: &mut [u8],
    ) -> HvHypercallResult;
}

/// Why an operation on the hypervisor did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HvError {
    /// The hypervisor refused.
    #[error("{call:?}: {status}")]
    Status {
        /// Which call.
        call: HvCallCode,
        /// Its answer.
        status: HvStatus,
    },
    /// The root has no memory left to deposit.
    #[error("{0:?} needs more memory than the root has")]
    NoMemory(HvCallCode),
    /// The hypervisor wants memory without end, or answered nonsense.
    #[error("{0:?} makes no progress")]
    NoProgress(HvCallCode),
    /// The hypervisor returned a frame that was not deposited.
    #[error("the books do not balance: {0}")]
    Books(#[from] NotOwner),
    /// The order of things is wrong: no partition, VP exists, ….
    #[error("wrong state for this")]
    State,
    /// An argument is out of range.
    #[error("argument out of range")]
    Argument,
}

/// A call without a list; `O` is its output, or `()`.
///
/// # Errors
/// The status.
pub fn simple<I, O>(calls: &mut dyn Hypercalls, code: HvCallCode, input: &I) -> Result<O, HvError>
where
    I: IntoBytes + Immutable,
    O: FromZeros + FromBytes + IntoBytes,
{
    let mut output = O::new_zeroed();
    let result = calls.call(
        HvHypercallInput::simple(code),
        input.as_bytes(),
        output.as_mut_bytes(),
    );
    check(code, result)?;
    Ok(output)
}

/// A call with a list of `count` elements, which its block has behind the header; all of them are done, or it is an error.
///
/// # Errors
/// The status.
pub fn list(
    calls: &mut dyn Hypercalls,
    code: HvCallCode,
    count: usize,
    input: &[u8],
    output: &mut [u8],
) -> Result<(), HvError> {
    check(code, calls.call(rep_control(code, count, 0), input, output))
}

/// The control word of a rep call over `count` elements, of which `done` are done.
fn rep_control(code: HvCallCode, count: usize, done: usize) -> HvHypercallInput {
    HvHypercallInput::simple(code)
        .with_rep_count(count)
        .with_rep_start(done)
}

fn check(call: HvCallCode, result: HvHypercallResult) -> Result<(), HvError> {
    result
        .call_status()
        .into_result()
        .map_err(|status| HvError::Status { call, status })
}
