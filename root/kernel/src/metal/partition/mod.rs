//! System calls on the process's partition: the kernel's half of what `/dev/mshv` does.

pub mod guest_memory;
mod hvcall;

pub use hvcall::hvcall;

use alloc::format;
use alloc::vec::Vec;

use root_abi::{CreatePartition, Error, VpPages};
use root_kernel::addr::PAGE_SIZE;
use root_kernel::frames::{Class, Owner};
use root_kernel::hv::{Hv, HvError, Partition, VpFrames, list, simple};
use root_kernel::paging::Rights;
use tlfs::{
    HvCallCode, HvHypercallInput, HvInputVpRegisters, HvInterceptSuspendRegister, HvRegisterAssoc,
    HvRegisterName, HvRegisterValue, HvStatus, HvVpIndex,
};
use zerocopy::IntoBytes;

use super::hypervisor::{self, Metal};
use super::process::{Process, Resume, TABLE};
use super::space::Space;
use super::{heap, layout, root_task};
use crate::metal::memory::{self, FRAMES};

/// Notes why a process's call did not succeed, and turns it into the number that the process gets.
fn refuse(what: &str, error: &HvError) -> Error {
    root_task::event_of_current(&format!("{what}: {error}"));
    match error {
        HvError::Status { .. } | HvError::NoProgress(_) | HvError::Books(_) => Error::Hypercall,
        HvError::NoMemory(_) => Error::NoMemory,
        HvError::State => Error::State,
        HvError::Argument => Error::Invalid,
    }
}

/// Works on the partition of the process that runs.
fn with_partition<R>(
    what: &str,
    work: impl FnOnce(&mut Partition, &mut Hv<'_, '_>) -> Result<R, HvError>,
) -> Result<R, Error> {
    heap::replenish();
    let result = TABLE.with(|table| {
        let partition = table.current().partition.as_mut().ok_or(HvError::State)?;
        FRAMES.with(|frames| {
            work(
                partition,
                &mut Hv {
                    calls: &mut Metal,
                    frames,
                },
            )
        })
    });
    result.map_err(|error| refuse(what, &error))
}

/// `create_partition`.
///
/// # Errors
/// [`Error::State`] if there is one already, or why the hypervisor made none.
pub fn create(arguments: &CreatePartition) -> Result<(), Error> {
    heap::replenish();
    let result = TABLE.with(|table| {
        let process = table.current();
        if process.partition.is_some() {
            return Err(HvError::State);
        }
        let slot = process.space.slot();
        let partition = FRAMES.with(|frames| {
            let mut hv = Hv {
                calls: &mut Metal,
                frames,
            };
            Partition::create(&mut hv, slot, arguments.flags, arguments.synthetic_features)
        })?;
        let id = partition.id();
        process.partition = Some(partition);
        table.set_partition(id);
        Ok(())
    });
    result.map_err(|error| refuse("create partition", &error))
}

/// `initialize_partition`.
///
/// # Errors
/// [`Error`].
pub fn initialize() -> Result<(), Error> {
    with_partition("initialize partition", |partition, hv| {
        partition.initialize(hv)
    })
}

/// `create_vp`: the VP, its pages in the process, and the prepared call that resumes it.
///
/// # Errors
/// [`Error`]; there is no such VP then, or (if its pages could not be shown to the process) one that cannot be resumed.
pub fn create_vp(index: u64) -> Result<VpPages, Error> {
    let index = u32::try_from(index).map_err(|_| Error::Invalid)?;
    let frames = with_partition("create VP", |partition, hv| partition.create_vp(hv, index))?;
    let (space, id) = TABLE.with(|table| {
        let process = table.current();
        let id = process.partition.as_ref().map(Partition::id);
        (process.space, id.unwrap_or_default())
    });
    let pages = show_pages(&space, index, &frames)?;
    let owner = Owner::new(space.slot(), Class::Kernel);
    let block = FRAMES
        .with(|frames| frames.allocate(0, owner))
        .ok_or(Error::NoMemory)?;
    // InterceptSuspend first: the other order would let the VP run and then wipe out a new intercept.
    let header = HvInputVpRegisters {
        partition_id: id,
        vp_index: HvVpIndex(index),
        ..Default::default()
    };
    let clear = |name| HvRegisterAssoc::new(name, 0u64);
    let registers = [
        clear(HvRegisterName::INTERCEPT_SUSPEND),
        clear(HvRegisterName::EXPLICIT_SUSPEND),
    ];
    memory::zero(block, 1);
    memory::write_frame(block, 0, header.as_bytes());
    memory::write_frame(block, header.as_bytes().len(), registers.as_bytes());
    TABLE.with(|table| table.current().set_resume_block(index, block));
    Ok(pages)
}

fn show_pages(space: &Space, index: u32, frames: &VpFrames) -> Result<VpPages, Error> {
    let at = layout::VP_PAGES + u64::from(index) * 4 * PAGE_SIZE;
    let pages = VpPages {
        registers: at,
        intercept: at + PAGE_SIZE,
        stats: at + 2 * PAGE_SIZE,
    };
    space.map_foreign(pages.registers, frames.registers, 1, Rights::ReadWrite)?;
    space.map_foreign(pages.intercept, frames.intercept, 1, Rights::Read)?;
    space.map_foreign(pages.stats, frames.stats, 1, Rights::Read)?;
    Ok(pages)
}

/// Lets a VP run on, by its prepared call. On the path of every intercept.
///
/// # Errors
/// [`Error::Hypercall`].
#[inline]
pub fn resume(resume: &Resume) -> Result<(), Error> {
    const BOTH: HvHypercallInput = HvHypercallInput::new()
        .with_call_code(HvCallCode::SET_VP_REGISTERS)
        .with_rep_count(2);
    const INTERCEPT_SUSPEND: HvHypercallInput = BOTH.with_rep_count(1);
    let control = if resume.explicit {
        BOTH
    } else {
        INTERCEPT_SUSPEND
    };
    let status = hypervisor::prepared(control, resume.block.address());
    if status == HvStatus::SUCCESS {
        return Ok(());
    }
    not_resumed(resume.vp, status)
}

#[cold]
fn not_resumed(vp: u32, status: HvStatus) -> Result<(), Error> {
    let error = HvError::Status {
        call: HvCallCode::SET_VP_REGISTERS,
        status,
    };
    TABLE.with(|table| table.current().stopped(vp, false));
    Err(refuse("resume VP", &error))
}

/// `stop_vp`.
///
/// # Errors
/// [`Error::State`] if there is no such VP; [`Error::Hypercall`].
pub fn stop_vp(index: u64) -> Result<u64, Error> {
    let index = u32::try_from(index).map_err(|_| Error::Invalid)?;
    let suspended = with_partition("stop VP", |partition, hv| {
        partition.vp(index).ok_or(HvError::State)?;
        let header = HvInputVpRegisters {
            partition_id: partition.id(),
            vp_index: HvVpIndex(index),
            ..Default::default()
        };
        let mut input = Vec::from(header.as_bytes());
        input.extend_from_slice(
            HvRegisterAssoc::new(HvRegisterName::EXPLICIT_SUSPEND, 1u64).as_bytes(),
        );
        list(hv.calls, HvCallCode::SET_VP_REGISTERS, 1, &input, &mut [])?;
        let mut input = Vec::from(header.as_bytes());
        input.extend_from_slice(HvRegisterName::INTERCEPT_SUSPEND.as_bytes());
        let mut value = HvRegisterValue::default();
        list(
            hv.calls,
            HvCallCode::GET_VP_REGISTERS,
            1,
            &input,
            value.as_mut_bytes(),
        )?;
        Ok(HvInterceptSuspendRegister::from_bits(value.low).suspended())
    })?;
    Ok(TABLE
        .with(|table| table.current().stopped(index, suspended))
        .into())
}

/// Pages that the hypervisor holds for a process's partition: available and in use.
pub fn balance(process: &Process) -> Option<(u64, u64)> {
    let partition = process.partition.as_ref()?;
    let input = tlfs::HvInputGetMemoryBalance {
        partition_id: partition.id(),
        proximity_domain_info: Default::default(),
    };
    let output: Result<tlfs::HvOutputGetMemoryBalance, _> =
        simple(&mut Metal, HvCallCode::GET_MEMORY_BALANCE, &input);
    output
        .ok()
        .map(|output| (output.pages_available, output.pages_in_use))
}
