//! `set_guest_memory`: memory of a process becomes memory of its guest.

use alloc::vec::Vec;

use root_abi::{Error, GuestMemory};
use root_kernel::addr::{PAGE_SIZE, Pfn, UserRange};
use root_kernel::frames::{Class, Owner, Slot};
use root_kernel::hv::{Leaf, Region, leaves};
use tlfs::HvMapGpaFlags;

use super::{refuse, with_partition};
use crate::metal::cpu;
use crate::metal::memory::FRAMES;
use crate::metal::process::TABLE;
use crate::metal::space::Space;

/// Leaves mapped at once.
const BATCH: usize = 512;

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

/// Cuts a region into leaves, and gives them to `work` some at a time; interrupts and other processors get their turn in between.
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
            cpu::pause();
        }
        Ok(())
    })?;
    if batch.is_empty() {
        Ok(())
    } else {
        work(&batch)
    }
}
