//! `add_guest_memory`, `back_guest_memory`, `take_guest_memory`: memory of a process that is its guest's.

use alloc::format;

use root_abi::{Error, GuestMemory};
use root_kernel::addr::{LARGE_PAGE_SIZE, PAGE_SIZE};
use root_kernel::backing::{Backing, Part};
use root_kernel::guest_memory::{GuestRange, Piece};
use root_kernel::hv::{Hv, HvError, Partition};
use tlfs::HvMapGpaFlags;

use super::refuse;
use crate::metal::hypervisor::Metal;
use crate::metal::memory::FRAMES;
use crate::metal::process::{self, TABLE};
use crate::metal::space::{RESERVE, Space, SpaceMachine};
use crate::metal::{cpu, heap, root_task};

/// Bytes of a range that are looked through at once.
const LOOK: u64 = 32 * LARGE_PAGE_SIZE;

/// `add_guest_memory`. Returns the first address.
///
/// # Errors
/// [`Error::Invalid`] for a range that there cannot be, or too many; [`Error::State`] if it overlaps another;
/// [`Error::NoMemory`] if there are no addresses left.
pub fn add(arguments: &GuestMemory) -> Result<u64, Error> {
    let flags = decode(arguments.flags).ok_or(Error::Invalid)?;
    let range = GuestRange::new(arguments.guest_pfn, arguments.pages, flags);
    let mut range = range.ok_or(Error::Invalid)?;
    heap::replenish();
    let admitted = TABLE.with(|table| table.current().guest.admit(&range));
    admitted.map_err(|error| refuse("add guest memory", &error))?;
    TABLE.with(|table| {
        let process = table.current();
        range.address = process.new_addresses(range.len(), LARGE_PAGE_SIZE)?.start();
        process.guest.add(range);
        Ok(range.address)
    })
}

/// What the guest may do, by the flags of the call.
fn decode(flags: u64) -> Option<HvMapGpaFlags> {
    const WRITABLE: u64 = 1 << 0;
    const EXECUTABLE: u64 = 1 << 1;
    if flags & !(WRITABLE | EXECUTABLE) != 0 {
        return None;
    }
    let mut rights = HvMapGpaFlags::READABLE | HvMapGpaFlags::ADJUSTABLE;
    if flags & WRITABLE != 0 {
        rights |= HvMapGpaFlags::WRITABLE;
    }
    if flags & EXECUTABLE != 0 {
        rights |= HvMapGpaFlags::EXECUTABLE;
    }
    Some(rights)
}

/// `back_guest_memory`. Returns how many pages from the first on have memory now.
///
/// # Errors
/// [`Error::State`] if the pages do not lie in one range, or one of them has memory: then nothing has changed. What else keeps
/// the first page from getting memory, but for a lack of it.
pub fn back(first: u64, pages: u64) -> Result<u64, Error> {
    let (space, range) = find(first, pages)?;
    must_be_bare(&space, &range, first, pages)?;
    let backed = each_piece(&space, &range, first, pages, |backing, piece| {
        backing.back(piece, range.flags, RESERVE)
    });
    finish("back guest memory", backed, |error| {
        matches!(error, HvError::NoMemory(_))
    })
}

/// `take_guest_memory`. Returns how many pages from the first on have none now: it ends at one that has none already.
///
/// # Errors
/// [`Error::State`] if the pages do not lie in one range. What else keeps the first page's memory there.
pub fn take(first: u64, pages: u64) -> Result<u64, Error> {
    let (space, range) = find(first, pages)?;
    let taken = each_piece(&space, &range, first, pages, |backing, piece| {
        backing.take(piece)
    });
    finish("take guest memory", taken, |_| false)
}

/// The process that runs, and the range of these pages.
fn find(first: u64, pages: u64) -> Result<(Space, GuestRange), Error> {
    if pages == 0 {
        return Err(Error::Invalid);
    }
    TABLE.with(|table| {
        let process = table.current();
        let range = process.guest.find(first, pages).ok_or(Error::State)?;
        Ok((process.space, range))
    })
}

/// Nobody else maps anything in the process, so the answer lasts although others get in while it is looked for.
fn must_be_bare(space: &Space, range: &GuestRange, first: u64, pages: u64) -> Result<(), Error> {
    let mut at = range.address_of(first);
    let end = at.saturating_add(pages.saturating_mul(PAGE_SIZE));
    while at < end {
        let next = at.saturating_add(LOOK).min(end);
        if space.first_mapped(at, next).is_some() {
            return Err(Error::State);
        }
        at = next;
        let_others_in();
    }
    Ok(())
}

/// Lets interrupts and other processors in, then other processes if it is their turn: a call can be about all of a guest's memory. The
/// process may go on on another processor, or be ended here, for good: nothing may be held that has to be given back.
fn let_others_in() {
    cpu::pause();
    process::before_return();
}

/// Works on the pages piece by piece, until one is not done. Others get in between. What is done is in the process's tables, so it may
/// end between two pieces.
fn each_piece(
    space: &Space,
    range: &GuestRange,
    first: u64,
    pages: u64,
    mut work: impl FnMut(&mut Backing<'_, 'static, SpaceMachine>, &Piece) -> Part,
) -> Part {
    let mut done = 0u64;
    while done < pages {
        let piece = range.piece(first.saturating_add(done), pages.saturating_sub(done));
        let part = on_piece(space, |backing| work(backing, &piece));
        done = done.saturating_add(part.pages);
        if part.pages < piece.pages || part.error.is_some() {
            return Part {
                pages: done,
                ..part
            };
        }
        let_others_in();
    }
    Part {
        pages: done,
        error: None,
    }
}

fn on_piece(
    space: &Space,
    work: impl FnOnce(&mut Backing<'_, 'static, SpaceMachine>) -> Part,
) -> Part {
    heap::replenish();
    let id = TABLE.with(|table| table.current().partition.as_ref().map(Partition::id));
    let Some(partition) = id else {
        return Part {
            pages: 0,
            error: Some(HvError::State),
        };
    };
    FRAMES.with(|frames| {
        work(&mut Backing {
            hv: Hv {
                calls: &mut Metal,
                frames,
            },
            machine: &mut space.machine(),
            partition,
            slot: space.slot(),
            root: space.root(),
        })
    })
}

/// The answer to the process. An error that is not `usual` is noted; one after the first page is not the answer.
fn finish(what: &str, part: Part, usual: impl Fn(&HvError) -> bool) -> Result<u64, Error> {
    match part.error {
        Some(error) if usual(&error) => Ok(part.pages),
        Some(error) if part.pages == 0 => Err(refuse(what, &error)),
        Some(error) => {
            let text = format!("{what}: after {} pages: {error}", part.pages);
            root_task::event_of_current(&text);
            Ok(part.pages)
        }
        None => Ok(part.pages),
    }
}
