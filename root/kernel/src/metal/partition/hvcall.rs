//! `hvcall`: hypercalls that pass through.

use alloc::vec;

use root_abi::{Error, Hvcall};
use root_kernel::addr::UserRange;
use root_kernel::hv::{Hv, HvError, MAX_BLOCK, Request, Retry};
use tlfs::{HvCallCode, HvStatus};

use crate::metal::heap;
use crate::metal::hypervisor::Metal;
use crate::metal::memory::FRAMES;
use crate::metal::process::TABLE;

/// `hvcall`. The status is in the arguments even when this is `Ok`.
///
/// # Errors
/// [`Error::Denied`] for a call that is not passed through; [`Error`].
pub fn hvcall(arguments: &mut Hvcall) -> Result<(), Error> {
    let (input_size, output_size) = (
        usize::from(arguments.input_size),
        usize::from(arguments.output_size),
    );
    let request = Request::new(arguments.code, arguments.reps, input_size, output_size);
    let request = request.map_err(|error| {
        if error.is_some() {
            Error::Invalid
        } else {
            Error::Denied
        }
    })?;
    let input_range = UserRange::new(arguments.input, input_size as u64).ok_or(Error::Fault)?;
    let output_range = match output_size {
        0 => None,
        _ => Some(UserRange::new(arguments.output, output_size as u64).ok_or(Error::Fault)?),
    };
    heap::replenish();
    let mut input = vec![0; input_size.min(MAX_BLOCK)];
    let mut output = vec![0; output_size.min(MAX_BLOCK)];
    let space = TABLE.with(|table| table.current().space);
    space.copy_in(&input_range, &mut input)?;
    let (status, done) = TABLE.with(|table| {
        let partition = table.current().partition.as_ref().ok_or(Error::State)?;
        request
            .seal(&mut input, partition.id())
            .map_err(|_| Error::Invalid)?;
        FRAMES.with(|frames| {
            let mut hv = Hv {
                calls: &mut Metal,
                frames,
            };
            issue(
                &mut hv,
                &request,
                Retry::child(partition.id(), space.slot()),
                &input,
                &mut output,
            )
        })
    })?;
    if request.code == HvCallCode::SET_VP_REGISTERS {
        TABLE.with(|table| table.current().registers_set());
    }
    arguments.status = status.0;
    arguments.reps = done as u16;
    match output_range {
        Some(range) => space.copy_out(&range, &output),
        None => Ok(()),
    }
}

fn issue(
    hv: &mut Hv<'_, '_>,
    request: &Request,
    retry: Retry,
    input: &[u8],
    output: &mut [u8],
) -> Result<(HvStatus, usize), Error> {
    let mut done = 0;
    loop {
        let before = done;
        let result = hv.with_deposits(request.code, retry, |calls, _| {
            let result = calls.call(request.control(done), input, output);
            done = result.reps_completed().clamp(done, request.reps.max(done));
            result
        });
        match result {
            Ok(_) if done >= request.reps => return Ok((HvStatus::SUCCESS, done)),
            Ok(_) if done > before => {}
            Ok(_) => return Err(Error::Hypercall),
            Err(HvError::Status { status, .. }) => return Ok((status, done)),
            Err(HvError::NoMemory(_)) => return Err(Error::NoMemory),
            Err(_) => return Err(Error::Hypercall),
        }
    }
}
