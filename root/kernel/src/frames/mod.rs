//! The frame allocator: a buddy allocator over all RAM of the root partition, with an owner for every frame.
//!
//! Every frame has a record in one table. Free memory is in blocks of 2^order frames, aligned to their size, on a list
//! per order; taking a block splits the smallest one that suffices, so that whole 2 MiB blocks last for guests.
//! A block may be given back in pieces of any size: the hypervisor returns deposited pages one by one.
//!
//! Each NUMA node has lists and books of its own, and no block lies in two nodes. Each slot has a [`Home`]: the node where its
//! memory comes from first, and whether its guest may have memory of others. What is not guest memory (tables, deposits, the
//! process's own) comes from another node if there is no more at home.

mod home;
mod layout;
mod nodes;
mod owner;
mod pool;

pub use home::Home;
pub use layout::{Claim, Layout, Span};
pub use nodes::{MAX_NODES, Node, Nodes};
pub use owner::{Class, Ledger, NotOwner, Owner, SLOTS, Slot};
pub use pool::Books;

use alloc::vec::Vec;

use crate::addr::Pfn;
use pool::{Pool, pool_of};

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
    nodes: Nodes,
    /// The first node's; there may be no heap yet when it is made.
    first: Pool,
    /// The other nodes', in their order.
    others: Vec<Pool>,
    homes: [Home; SLOTS],
}

impl<'t> Frames<'t> {
    /// Builds the allocator from a layout, with one node. The table must have a record for every frame below
    /// [`Layout::frames`]; frames beyond it are left out, and so unusable.
    pub fn new(table: &'t mut [Record], layout: &Layout<'_>) -> Self {
        table.fill(Record::HOLE);
        let mut frames = Self {
            table,
            nodes: Nodes::ONE,
            first: Pool::new(),
            others: Vec::new(),
            homes: [Home::default(); SLOTS],
        };
        for (span, owner) in layout.pieces() {
            frames.enter(span, owner);
        }
        frames
    }

    /// Tells nodes apart from now on. What is in use stays in use, wherever it is.
    pub fn divide(&mut self, nodes: Nodes) {
        // One it has been from the start: the usual machine's table is not gone through again.
        if self.others.is_empty() && nodes.count() == 1 {
            return;
        }
        self.first = Pool::new();
        self.others = (1..nodes.count()).map(|_| Pool::new()).collect();
        self.nodes = nodes;
        // No block that is free now is one later, unless it is made again.
        for record in self.table.iter_mut() {
            if matches!(record.kind, Kind::Head(_)) {
                record.kind = Kind::Tail;
            }
        }
        let (mut start, all) = (0u64, self.table.len() as u64);
        while let Some((end, owner)) = self.run(start, all) {
            if let Some(owner) = owner {
                self.enter(Span { start, end }, owner);
            }
            start = end;
        }
    }

    /// The end of the frames from `start` on, and before `end`, that are of one owner, and who that is: `None` for what is not
    /// RAM.
    fn run(&self, start: u64, end: u64) -> Option<(u64, Option<Owner>)> {
        let (from, to) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
        let rest = self.table.get(from..to)?;
        let what = |record: &Record| (record.kind != Kind::Hole).then_some(record.owner);
        let first = what(rest.first()?);
        let len = rest.iter().take_while(|record| what(record) == first);
        Some((start.saturating_add(len.count() as u64), first))
    }

    /// How many nodes there are, at least one.
    pub fn nodes(&self) -> usize {
        self.nodes.count()
    }

    /// The books of all nodes.
    pub fn ledger(&self) -> Books<'_> {
        Books {
            first: &self.first,
            others: &self.others,
        }
    }

    /// The books of a node.
    pub fn ledger_in(&self, node: Node) -> Option<&Ledger> {
        self.pool(node).map(|pool| &pool.ledger)
    }

    /// Free frames.
    pub fn free(&self) -> u64 {
        let others = self.others.iter().map(Pool::free);
        others.fold(self.first.free(), u64::saturating_add)
    }

    /// Free frames of a node.
    pub fn free_in(&self, node: Node) -> u64 {
        self.pool(node).map_or(0, Pool::free)
    }

    /// All frames of a node, whoever has them.
    pub fn total_of(&self, node: Node) -> u64 {
        self.pool(node).map_or(0, |pool| pool.total)
    }

    /// Takes a block of 2^order frames, aligned to its size, from the first node of the owner's that has one. Its contents are
    /// whatever they were.
    pub fn allocate(&mut self, order: u8, owner: Owner) -> Option<Pfn> {
        self.nodes_for(owner)
            .find_map(|node| self.allocate_in(node, order, owner))
    }

    /// As [`allocate`](Self::allocate), from this node: it is the caller's who sees to it that the owner may have its memory.
    pub fn allocate_in(&mut self, node: Node, order: u8, owner: Owner) -> Option<Pfn> {
        let found = (order..=MAX_ORDER).find(|order| self.head(node, *order) != NONE)?;
        let block = self.head(node, found);
        self.unlink(block, found);
        // The upper halves go back; the block itself keeps the lowest address, so that blocks taken one after the other
        // tend to be consecutive.
        for half in (order..found).rev() {
            self.link(block.wrapping_add(1 << half), half);
        }
        self.tag(block, 1 << order, owner);
        self.pool_mut(node)
            .ledger
            .transfer(Owner::FREE, owner, 1 << order);
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
        self.book(pfn, count, owner, Owner::FREE);
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
        if !pfn.0.is_multiple_of(count) {
            return Err(refused);
        }
        for at in 0..count {
            match self.owner(pfn.plus(at)) {
                Some(owner) if owner == process || owner == guest => {}
                _ => {
                    return Err(NotOwner {
                        pfn: pfn.plus(at),
                        expected: process,
                    });
                }
            }
        }
        let (mut start, end) = (pfn.0, pfn.0.saturating_add(count));
        while let Some((next, Some(owner))) = self.run(start, end) {
            self.book(Pfn(start), next.saturating_sub(start), owner, Owner::FREE);
            start = next;
        }
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
        self.book(pfn, count, from, to);
        Ok(())
    }

    /// The owner of a frame, [`Owner::FREE`] if it is free; `None` for what is not RAM.
    pub fn owner(&self, pfn: Pfn) -> Option<Owner> {
        let record = self.table.get(usize::try_from(pfn.0).ok()?)?;
        (record.kind != Kind::Hole).then_some(record.owner)
    }

    /// The number of free blocks of that order.
    pub fn blocks(&self, order: u8) -> usize {
        let nodes = (0..self.nodes.count()).filter_map(Node::new);
        nodes.map(|node| self.blocks_in(node, order)).sum()
    }

    /// The number of free blocks of that order in a node.
    pub fn blocks_in(&self, node: Node, order: u8) -> usize {
        let mut at = self.head(node, order);
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
        self.each_part(at, end.saturating_sub(at), |pool, count| {
            pool.total = pool.total.saturating_add(count);
            pool.ledger.enter(owner, count);
        });
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

    /// Books frames of one owner as another's, each in its node.
    fn book(&mut self, pfn: Pfn, count: u64, from: Owner, to: Owner) {
        self.each_part(pfn.0, count, |pool, count| {
            pool.ledger.transfer(from, to, count);
        });
    }

    /// Tells the pool of each node how many of these frames are in it.
    fn each_part(&mut self, start: u64, count: u64, mut tell: impl FnMut(&mut Pool, u64)) {
        for (span, node) in self.nodes.parts(start, count) {
            tell(
                pool_of(&mut self.first, &mut self.others, node),
                span.count(),
            );
        }
    }

    /// Adds a block to the free memory, joined with its free buddies; in two halves if it lies in several nodes.
    fn put_back(&mut self, block: u32, order: u8) {
        if let Some(half) = order.checked_sub(1)
            && !self.nodes.is_one(block.into(), 1 << order)
        {
            self.put_back(block, half);
            self.put_back(block.wrapping_add(1 << half), half);
            return;
        }
        self.mark_free(block, order);
        let (mut block, mut order) = (block, order);
        while order < MAX_ORDER {
            let buddy = block ^ (1 << order);
            let is_free = |record: &Record| record.kind == Kind::Head(order);
            let both = block.min(buddy).into();
            if !self.table.get(buddy as usize).is_some_and(is_free)
                || !self.nodes.is_one(both, 2 << order)
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

    fn pool(&self, node: Node) -> Option<&Pool> {
        match node.index().checked_sub(1) {
            None => Some(&self.first),
            Some(other) => self.others.get(other),
        }
    }

    fn pool_mut(&mut self, node: Node) -> &mut Pool {
        pool_of(&mut self.first, &mut self.others, node)
    }

    fn head(&self, node: Node, order: u8) -> u32 {
        let head = |pool: &Pool| pool.heads.get(usize::from(order)).copied();
        self.pool(node).and_then(head).unwrap_or(NONE)
    }

    /// `block` is in the node whose list it becomes the first of.
    fn set_head(&mut self, node: Node, order: u8, block: u32) {
        if let Some(head) = self.pool_mut(node).heads.get_mut(usize::from(order)) {
            *head = block;
        }
    }

    fn set_kind(&mut self, frame: u32, kind: Kind) {
        if let Some(record) = self.table.get_mut(frame as usize) {
            record.kind = kind;
        }
    }

    fn link(&mut self, block: u32, order: u8) {
        let (node, _) = self.nodes.at(block.into());
        let next = self.head(node, order);
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
        self.set_head(node, order, block);
    }

    fn unlink(&mut self, block: u32, order: u8) {
        let Some(record) = self.table.get(block as usize).copied() else {
            return;
        };
        match self.table.get_mut(record.previous as usize) {
            Some(previous) => previous.next = record.next,
            None => {
                let (node, _) = self.nodes.at(block.into());
                self.set_head(node, order, record.next);
            }
        }
        if let Some(next) = self.table.get_mut(record.next as usize) {
            next.previous = record.previous;
        }
        self.set_kind(block, Kind::Tail);
    }
}

#[cfg(test)]
mod tests;
