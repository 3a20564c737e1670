//! The frame allocator: a buddy allocator over all RAM of the root partition, with an owner for every frame.
//!
//! Every frame has a record in one table. Free memory is in blocks of 2^order frames, aligned to their size, on a list
//! per order; taking a block splits the smallest one that suffices, so that whole 2 MiB blocks last for guests.
//! A block may be given back in pieces of any size: the hypervisor returns deposited pages one by one.

mod layout;
mod owner;

pub use layout::{Claim, Layout, Span};
pub use owner::{Class, Ledger, NotOwner, Owner, SLOTS, Slot};

use crate::addr::Pfn;

/// Largest block: 1 GiB.
pub const MAX_ORDER: u8 = 18;
/// Order of a 2 MiB block.
pub const LARGE_ORDER: u8 = 9;

const NONE: u32 = u32::MAX;

/// The record of one frame. The free lists are threaded through the records of the blocks' first frames.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    next: u32,
    previous: u32,
    owner: Owner,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Not RAM, or not ours.
    Hole,
    /// Owned as the tag says.
    Used,
    /// First frame of a free block of that order.
    Head(u8),
    /// Another frame of a free block.
    Tail,
}

impl Record {
    /// What a table consists of before [`Frames::new`].
    pub const HOLE: Self = Self {
        next: NONE,
        previous: NONE,
        owner: Owner::FREE,
        kind: Kind::Hole,
    };
}

/// The allocator. Frame numbers index its table, so the table covers frame 0 to the last frame of RAM.
#[derive(Debug)]
pub struct Frames<'t> {
    table: &'t mut [Record],
    heads: [u32; MAX_ORDER as usize + 1],
    ledger: Ledger,
}

impl<'t> Frames<'t> {
    /// Builds the allocator from a layout. The table must have a record for every frame below [`Layout::frames`];
    /// frames beyond it are left out, and so unusable.
    pub fn new(table: &'t mut [Record], layout: &Layout<'_>) -> Self {
        table.fill(Record::HOLE);
        let mut frames = Self {
            table,
            heads: [NONE; MAX_ORDER as usize + 1],
            ledger: Ledger::default(),
        };
        for (span, owner) in layout.pieces() {
            frames.enter(span, owner);
        }
        frames
    }

    /// The books.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Free frames.
    pub fn free(&self) -> u64 {
        self.ledger.of(Owner::FREE)
    }

    /// Takes a block of 2^order frames, aligned to its size. Its contents are whatever they were.
    pub fn allocate(&mut self, order: u8, owner: Owner) -> Option<Pfn> {
        let found = (order..=MAX_ORDER).find(|order| self.head(*order) != NONE)?;
        let block = self.head(found);
        self.unlink(block, found);
        // The upper halves go back; the block itself keeps the lowest address, so that blocks taken one after the other
        // tend to be consecutive.
        for half in (order..found).rev() {
            self.link(block.wrapping_add(1 << half), half);
        }
        self.tag(block, 1 << order, owner);
        self.ledger.transfer(Owner::FREE, owner, 1 << order);
        Some(Pfn(u64::from(block)))
    }

    /// Gives 2^order frames back. All of them must be tagged with that owner; if not, nothing happens.
    ///
    /// # Errors
    /// [`NotOwner`] with the first frame that is somebody else's.
    pub fn release(&mut self, pfn: Pfn, order: u8, owner: Owner) -> Result<(), NotOwner> {
        let refused = NotOwner {
            pfn,
            expected: owner,
        };
        let count = 1u64.checked_shl(u32::from(order)).ok_or(refused)?;
        if order > MAX_ORDER || !pfn.0.is_multiple_of(count) || owner.class == Class::Free {
            return Err(refused);
        }
        self.check(pfn, count, owner)?;
        self.ledger.transfer(owner, Owner::FREE, count);
        self.put_back(pfn.0 as u32, order);
        Ok(())
    }

    /// Gives 2^order frames of a process back, whatever it used each of them for ([`Class::Process`] or
    /// [`Class::GuestRam`]).
    ///
    /// # Errors
    /// [`NotOwner`] with the first frame that is not of this kind; then nothing happens.
    pub fn release_process(&mut self, pfn: Pfn, order: u8, slot: Slot) -> Result<(), NotOwner> {
        let (process, guest) = (
            Owner::new(slot, Class::Process),
            Owner::new(slot, Class::GuestRam),
        );
        let refused = NotOwner {
            pfn,
            expected: process,
        };
        let count = 1u64
            .checked_shl(u32::from(order))
            .filter(|_| order <= MAX_ORDER)
            .ok_or(refused)?;
        let mut guests = 0u64;
        for at in 0..count {
            match self.owner(pfn.plus(at)) {
                Some(owner) if owner == process => {}
                Some(owner) if owner == guest => guests = guests.saturating_add(1),
                _ => {
                    return Err(NotOwner {
                        pfn: pfn.plus(at),
                        expected: process,
                    });
                }
            }
        }
        if !pfn.0.is_multiple_of(count) {
            return Err(refused);
        }
        self.ledger.transfer(guest, Owner::FREE, guests);
        self.ledger
            .transfer(process, Owner::FREE, count.saturating_sub(guests));
        self.put_back(pfn.0 as u32, order);
        Ok(())
    }

    /// Changes the owner of `count` frames. All of them must have the old one; if not, nothing happens.
    ///
    /// # Errors
    /// [`NotOwner`] with the first frame that is somebody else's.
    pub fn transfer(
        &mut self,
        pfn: Pfn,
        count: u64,
        from: Owner,
        to: Owner,
    ) -> Result<(), NotOwner> {
        if from.class == Class::Free || to.class == Class::Free {
            return Err(NotOwner {
                pfn,
                expected: from,
            });
        }
        self.check(pfn, count, from)?;
        self.tag(pfn.0 as u32, count as u32, to);
        self.ledger.transfer(from, to, count);
        Ok(())
    }

    /// The owner of a frame, [`Owner::FREE`] if it is free; `None` for what is not RAM.
    pub fn owner(&self, pfn: Pfn) -> Option<Owner> {
        let record = self.table.get(usize::try_from(pfn.0).ok()?)?;
        (record.kind != Kind::Hole).then_some(record.owner)
    }

    /// The number of free blocks of that order.
    pub fn blocks(&self, order: u8) -> usize {
        let mut at = self.head(order);
        let mut count = 0usize;
        while let Some(record) = self.table.get(at as usize) {
            count = count.saturating_add(1);
            at = record.next;
        }
        count
    }

    /// Enters a span of the layout as free or used.
    fn enter(&mut self, span: Span, owner: Owner) {
        let end = span.end.min(self.table.len() as u64).min(u64::from(NONE));
        let mut at = span.start.min(end);
        self.ledger.enter(owner, end.saturating_sub(at));
        if owner.class != Class::Free {
            self.tag(at as u32, end.saturating_sub(at) as u32, owner);
            return;
        }
        while at < end {
            let aligned = if at == 0 {
                u32::from(MAX_ORDER)
            } else {
                at.trailing_zeros()
            };
            let fits = end.saturating_sub(at).ilog2();
            let order = aligned.min(fits).min(u32::from(MAX_ORDER)) as u8;
            self.put_back(at as u32, order);
            at = at.saturating_add(1 << order);
        }
    }

    fn check(&self, pfn: Pfn, count: u64, owner: Owner) -> Result<(), NotOwner> {
        let outside = NotOwner {
            pfn,
            expected: owner,
        };
        let start = usize::try_from(pfn.0).map_err(|_| outside)?;
        let count = usize::try_from(count).map_err(|_| outside)?;
        let records = self
            .table
            .get(start..)
            .and_then(|rest| rest.get(..count))
            .ok_or(outside)?;
        match records
            .iter()
            .position(|record| record.kind != Kind::Used || record.owner != owner)
        {
            Some(at) => Err(NotOwner {
                pfn: pfn.plus(at as u64),
                expected: owner,
            }),
            None => Ok(()),
        }
    }

    /// Adds a block to the free memory, joined with its free buddies.
    fn put_back(&mut self, block: u32, order: u8) {
        self.mark_free(block, order);
        let (mut block, mut order) = (block, order);
        while order < MAX_ORDER {
            let buddy = block ^ (1 << order);
            if self
                .table
                .get(buddy as usize)
                .is_none_or(|record| record.kind != Kind::Head(order))
            {
                break;
            }
            self.unlink(buddy, order);
            block &= !(1 << order);
            order = order.saturating_add(1);
        }
        self.link(block, order);
    }

    /// Makes every record of a block that of a free frame.
    fn mark_free(&mut self, block: u32, order: u8) {
        let start = block as usize;
        if let Some(records) = self
            .table
            .get_mut(start..)
            .and_then(|rest| rest.get_mut(..1 << order))
        {
            records.fill(Record {
                kind: Kind::Tail,
                ..Record::HOLE
            });
        }
    }

    fn tag(&mut self, start: u32, count: u32, owner: Owner) {
        let used = Record {
            next: NONE,
            previous: NONE,
            owner,
            kind: Kind::Used,
        };
        if let Some(records) = self
            .table
            .get_mut(start as usize..)
            .and_then(|rest| rest.get_mut(..count as usize))
        {
            records.fill(used);
        }
    }

    fn head(&self, order: u8) -> u32 {
        self.heads.get(usize::from(order)).copied().unwrap_or(NONE)
    }

    fn set_head(&mut self, order: u8, block: u32) {
        if let Some(head) = self.heads.get_mut(usize::from(order)) {
            *head = block;
        }
    }

    fn set_kind(&mut self, frame: u32, kind: Kind) {
        if let Some(record) = self.table.get_mut(frame as usize) {
            record.kind = kind;
        }
    }

    fn link(&mut self, block: u32, order: u8) {
        let next = self.head(order);
        if let Some(record) = self.table.get_mut(next as usize) {
            record.previous = block;
        }
        if let Some(record) = self.table.get_mut(block as usize) {
            *record = Record {
                next,
                previous: NONE,
                owner: Owner::FREE,
                kind: Kind::Head(order),
            };
        }
        self.set_head(order, block);
    }

    fn unlink(&mut self, block: u32, order: u8) {
        let Some(record) = self.table.get(block as usize).copied() else {
            return;
        };
        match self.table.get_mut(record.previous as usize) {
            Some(previous) => previous.next = record.next,
            None => self.set_head(order, record.next),
        }
        if let Some(next) = self.table.get_mut(record.next as usize) {
            next.previous = record.previous;
        }
        self.set_kind(block, Kind::Tail);
    }
}

#[cfg(test)]
mod tests;
