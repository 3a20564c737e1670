//! System calls on the process's partition: the kernel's half of what `/dev/mshv` does.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use root_abi::{CreatePartition, Error, GuestMemory, Hvcall, VpPages};
use root_kernel::addr::{PAGE_SIZE, Pfn, UserRange};
use root_kernel::frames::{Class, Owner, Slot};
use root_kernel::hv::{
    Hv, HvError, Leaf, MAX_BLOCK, Partition, Region, Request, Retry, VpFrames, leaves, simple,
};
use root_kernel::paging::Rights;
use tlfs::{
    HvCallCode, HvHypercallInput, HvInputVpRegisters, HvInterceptSuspendRegister, HvMapGpaFlags,
    HvRegisterAssoc, HvRegisterName, HvRegisterValue, HvStatus, HvVpIndex,
};
use zerocopy::IntoBytes;

use super::hypervisor::{self, Metal};
use super::memory::{self, FRAMES};
use super::process::{Process, TABLE};
use super::space::Space;
use super::{cpu, heap, layout, root_task};

/// Leaves mapped at once.
const BATCH: usize = 512;

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
    let list = [
        clear(HvRegisterName::INTERCEPT_SUSPEND),
        clear(HvRegisterName::EXPLICIT_SUSPEND),
    ];
    memory::zero(block, 1);
    memory::write_frame(block, 0, header.as_bytes());
    memory::write_frame(block, header.as_bytes().len(), list.as_bytes());
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

/// Lets a VP run on, by the call prepared in `block`. On the path of every intercept.
///
/// # Errors
/// [`Error::Hypercall`].
pub fn resume(block: Pfn, vp: u64) -> Result<(), Error> {
    const CONTROL: HvHypercallInput = HvHypercallInput::new()
        .with_call_code(HvCallCode::SET_VP_REGISTERS)
        .with_rep_count(2);
    let status = hypervisor::prepared(CONTROL, block.address());
    if status == HvStatus::SUCCESS {
        return Ok(());
    }
    let error = HvError::Status {
        call: HvCallCode::SET_VP_REGISTERS,
        status,
    };
    TABLE.with(|table| table.current().stopped(vp as u32, false));
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
        one(hv, HvCallCode::SET_VP_REGISTERS, &input, &mut [])?;
        let mut input = Vec::from(header.as_bytes());
        input.extend_from_slice(HvRegisterName::INTERCEPT_SUSPEND.as_bytes());
        let mut value = HvRegisterValue::default();
        one(
            hv,
            HvCallCode::GET_VP_REGISTERS,
            &input,
            value.as_mut_bytes(),
        )?;
        Ok(HvInterceptSuspendRegister::from_bits(value.low).suspended())
    })?;
    Ok(TABLE
        .with(|table| table.current().stopped(index, suspended))
        .into())
}

/// A rep call with one element.
fn one(
    hv: &mut Hv<'_, '_>,
    call: HvCallCode,
    input: &[u8],
    output: &mut [u8],
) -> Result<(), HvError> {
    let control = HvHypercallInput::new()
        .with_call_code(call)
        .with_rep_count(1);
    let result = hv.calls.call(control, input, output);
    result
        .call_status()
        .into_result()
        .map_err(|status| HvError::Status { call, status })
}

/// `set_guest_memory`.
///
/// # Errors
/// [`Error`]; then the guest's memory is as before.
pub fn set_guest_memory(arguments: &GuestMemory) -> Result<(), Error> {
    const WRITABLE: u64 = 1 << 0;
    const EXECUTABLE: u64 = 1 << 1;
    const UNMAP: u64 = 1 << 2;
    if arguments.flags & !(WRITABLE | EXECUTABLE | UNMAP) != 0 {
        return Err(Error::Invalid);
    }
    let region = Region::new(arguments.guest_pfn, arguments.size, arguments.address)
        .ok_or(Error::Invalid)?;
    if arguments.flags & UNMAP != 0 {
        let removed = TABLE.with(|table| table.current().guest.remove(region.gpfn, region.pages));
        return unmap(&removed.map_err(|error| refuse("unmap guest memory", &error))?);
    }
    UserRange::pages(region.address, arguments.size).ok_or(Error::Fault)?;
    let mut flags = HvMapGpaFlags::READABLE | HvMapGpaFlags::ADJUSTABLE;
    if arguments.flags & WRITABLE != 0 {
        flags |= HvMapGpaFlags::WRITABLE;
    }
    if arguments.flags & EXECUTABLE != 0 {
        flags |= HvMapGpaFlags::EXECUTABLE;
    }
    let (space, admitted) = TABLE.with(|table| {
        let process = table.current();
        (process.space, process.guest.admit(&region))
    });
    admitted.map_err(|error| refuse("map guest memory", &error))?;
    claim(&space, &region)?;
    if let Err(error) = map(&space, &region, flags) {
        unclaim(&space, &region);
        return Err(error);
    }
    TABLE.with(|table| table.current().guest.add(region));
    Ok(())
}

/// Books the region's frames as guest RAM. All of them must be the process's own and not guest RAM yet.
fn claim(space: &Space, region: &Region) -> Result<(), Error> {
    let (process, guest) = classes(space.slot());
    let mut claimed = 0;
    let result = each_run(space, region, |pfn, count| {
        FRAMES
            .with(|frames| frames.transfer(pfn, count, process, guest))
            .map_err(|_| Error::State)?;
        claimed += count;
        Ok(())
    });
    if result.is_err() {
        unclaim(
            space,
            &Region {
                pages: claimed,
                ..*region
            },
        );
    }
    result
}

/// Books guest RAM back as memory of the process.
fn unclaim(space: &Space, region: &Region) {
    let (process, guest) = classes(space.slot());
    let result = each_run(space, region, |pfn, count| {
        FRAMES
            .with(|frames| frames.transfer(pfn, count, guest, process))
            .map_err(|_| Error::State)
    });
    assert!(result.is_ok(), "guest memory that was claimed is not there");
}

/// The frames of a region, in consecutive runs.
fn each_run(
    space: &Space,
    region: &Region,
    mut work: impl FnMut(Pfn, u64) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut page = 0;
    while page < region.pages {
        let (pfn, run) = space.own_run(region.address + page * PAGE_SIZE)?;
        let count = run.min(region.pages - page);
        work(pfn, count)?;
        page += count;
    }
    Ok(())
}

fn classes(slot: Slot) -> (Owner, Owner) {
    (
        Owner::new(slot, Class::Process),
        Owner::new(slot, Class::GuestRam),
    )
}

fn map(space: &Space, region: &Region, flags: HvMapGpaFlags) -> Result<(), Error> {
    let slot = space.slot();
    let mut mapped = 0;
    let result = in_batches(space, region, |batch| {
        with_partition("map guest memory", |partition, hv| {
            hv.map_guest(partition.id(), slot, batch, flags)
        })?;
        mapped += batch
            .iter()
            .map(|leaf| if leaf.large { 512 } else { 1 })
            .sum::<u64>();
        Ok(())
    });
    if result.is_err() && mapped > 0 {
        let _ = unmap_leaves(
            space,
            &Region {
                pages: mapped,
                ..*region
            },
        );
    }
    result
}

fn unmap(region: &Region) -> Result<(), Error> {
    let space = TABLE.with(|table| table.current().space);
    unmap_leaves(&space, region)?;
    unclaim(&space, region);
    Ok(())
}

fn unmap_leaves(space: &Space, region: &Region) -> Result<(), Error> {
    in_batches(space, region, |batch| {
        with_partition("unmap guest memory", |partition, hv| {
            hv.unmap_guest(partition.id(), batch)
        })
    })
}

/// Cuts a region into leaves, and gives them to `work` some at a time; interrupts get their turn in between.
fn in_batches(
    space: &Space,
    region: &Region,
    mut work: impl FnMut(&[Leaf]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut batch: Vec<Leaf> = Vec::with_capacity(BATCH);
    let run_at =
        |page: u64| space.own_run(region.address.wrapping_add(page.wrapping_mul(PAGE_SIZE)));
    leaves(region, run_at, |leaf| {
        batch.push(leaf);
        if batch.len() == BATCH {
            work(&batch)?;
            batch.clear();
            cpu::interrupt_window();
        }
        Ok(())
    })?;
    if batch.is_empty() {
        Ok(())
    } else {
        work(&batch)
    }
}

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
