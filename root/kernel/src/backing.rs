//! The memory behind guest pages: free frames get into a process and its guest, and out of them again.
//!
//! A frame of [`Class::GuestRam`] is mapped at the one address that stands for its guest page, so the process's tables are
//! the book of what has memory. A frame comes there zeroed, before the guest has it, and goes after the guest has let go of
//! it. It is free only when it is in neither, and no processor has a translation to it.

use alloc::vec::Vec;

use tlfs::{HvCallCode, HvMapGpaFlags, HvPartitionId};

use crate::addr::Pfn;
use crate::frame_tables::{FrameTables, Ram};
use crate::frames::{Class, LARGE_ORDER, Node, Owner, Slot};
use crate::guest_memory::Piece;
use crate::hv::{Hv, HvError, Leaf, Progress};
use crate::paging::{Attributes, MapError, Rights, TableMemory, Tables};

/// RAM, and processors that may have translations of the process.
pub trait Machine: Ram {
    /// Forgets all translations made from the process's tables, on every processor that may have some.
    fn flush(&mut self);
}

/// One process's guest memory at work, on one [`Piece`] at a time: that bounds how long a step takes.
pub struct Backing<'a, 't, M> {
    /// The hypervisor, and the frames.
    pub hv: Hv<'a, 't>,
    /// The machine.
    pub machine: &'a mut M,
    /// The process's partition.
    pub partition: HvPartitionId,
    /// Whose memory it is.
    pub slot: Slot,
    /// The process's top table.
    pub root: Pfn,
}

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Part {
    /// Pages from the first on that are done.
    pub pages: u64,
    /// Why the others are not, if something failed.
    pub error: Option<HvError>,
}

impl Part {
    fn failed(error: HvError) -> Self {
        let error = Some(error);
        Self { pages: 0, error }
    }
}

impl<'t, M: Machine> Backing<'_, 't, M> {
    /// Puts new zeroed memory behind the pages of a piece, none of which has any: a large page if there is one, else small
    /// ones. All of it is of one node of the process's ([`Frames::node_with`](crate::frames::Frames::node_with)); if
    /// none has so much, of those that have some. (A large
    /// page of another node is not taken while the first one has enough small ones.) `reserve` frames stay free. An error ([`HvError::NoMemory`] if free memory is used up) leaves those pages that
    /// were done, and no frame anywhere for the others; but for those that the guest cannot be made to let go of, whose
    /// frames stay the process's as well.
    pub fn back(&mut self, piece: &Piece, flags: HvMapGpaFlags, reserve: u64) -> Part {
        let frames = &self.hv.frames;
        let room = frames.free().saturating_sub(reserve);
        let room = room.min(frames.room(self.guest_ram()));
        let node = frames.node_with(piece.pages, self.guest_ram());
        let (leaves, shortage) = match self.new_large(piece, room, node) {
            Some(leaf) => (Vec::from([leaf]), None),
            None => self.new_small(piece, room, node),
        };
        let Progress { done, error } = self.hv.map_guest(self.partition, self.slot, &leaves, flags);
        let (mapped, rest) = leaves.split_at(done.min(leaves.len()));
        if error.is_some() {
            // The first of them may be mapped in part. The error to tell is the first.
            let _ = self.remove(piece, rest);
        }
        Part {
            pages: pages(mapped),
            error: error.or(shortage),
        }
    }

    /// Takes the memory behind the pages of a piece away, as far as they have some.
    pub fn take(&mut self, piece: &Piece) -> Part {
        let found = self.with_tables(|tables| tables.lookup(piece.address));
        let Some(first) = found else {
            return Part {
                pages: 0,
                error: None,
            };
        };
        if first.large && piece.is_large() {
            let leaf = Leaf {
                gpfn: piece.gpfn,
                pfn: first.pfn,
                large: true,
            };
            return self.take_leaves(piece, &[leaf]);
        }
        // Before the guest is touched: this may lack memory. The small pages translate as the large one did.
        let split = self.with_tables(|tables| tables.split_large(piece.address));
        if split.is_err() {
            return Part::failed(HvError::NoMemory(HvCallCode::UNMAP_GPA_PAGES));
        }
        let leaves = self.small_leaves(piece);
        self.take_leaves(piece, &leaves)
    }

    fn take_leaves(&mut self, piece: &Piece, leaves: &[Leaf]) -> Part {
        let Progress { done, error } = self.remove(piece, leaves);
        Part {
            pages: pages(leaves.get(..done).unwrap_or_default()),
            error,
        }
    }

    /// The small pages of a piece, up to the first that has no memory.
    fn small_leaves(&mut self, piece: &Piece) -> Vec<Leaf> {
        let gpfns = (0..piece.pages).map(|page| piece.gpfn.wrapping_add(page));
        self.with_tables(|tables| {
            let leaf = |gpfn| {
                let found = tables.lookup(piece.address_of(gpfn))?;
                let (pfn, large) = (found.pfn, false);
                Some(Leaf { gpfn, pfn, large })
            };
            gpfns.map_while(leaf).collect()
        })
    }

    /// A large page of a node in the process for a whole piece, if there is one left.
    fn new_large(&mut self, piece: &Piece, room: u64, node: Option<Node>) -> Option<Leaf> {
        let fits = piece.is_large() && room >= piece.pages;
        let node = node.filter(|_| fits)?;
        let block = self
            .hv
            .frames
            .allocate_in(node, LARGE_ORDER, self.guest_ram())?;
        self.machine.zero(block, 1 << LARGE_ORDER);
        let attributes = Attributes::owned(Rights::ReadWrite);
        let mapped = self.with_tables(|tables| tables.map_large(piece.address, block, attributes));
        if mapped.is_err() {
            self.release(block, LARGE_ORDER).ok()?;
            return None;
        }
        Some(Leaf {
            gpfn: piece.gpfn,
            pfn: block,
            large: true,
        })
    }

    /// Small pages in the process for a piece, as many as can be had, of this node first, and why there are no more.
    fn new_small(
        &mut self,
        piece: &Piece,
        room: u64,
        node: Option<Node>,
    ) -> (Vec<Leaf>, Option<HvError>) {
        let shortage = HvError::NoMemory(HvCallCode::MAP_GPA_PAGES);
        let mut leaves = Vec::new();
        for page in 0..piece.pages {
            let gpfn = piece.gpfn.wrapping_add(page);
            let frame = (page < room).then(|| self.new_page(node)).flatten();
            let Some(pfn) = frame else {
                return (leaves, Some(shortage));
            };
            let attributes = Attributes::owned(Rights::ReadWrite);
            let address = piece.address_of(gpfn);
            if let Err(error) = self.with_tables(|tables| tables.map(address, pfn, attributes)) {
                let error = match error {
                    MapError::NoMemory => shortage,
                    MapError::Occupied(_) => HvError::State,
                };
                let error = self.release(pfn, 0).err().unwrap_or(error);
                return (leaves, Some(error));
            }
            let large = false;
            leaves.push(Leaf { gpfn, pfn, large });
        }
        (leaves, None)
    }

    /// Takes leaves away from the guest, then from the process, then frees them.
    fn remove(&mut self, piece: &Piece, leaves: &[Leaf]) -> Progress {
        let Progress { done, error } = self.hv.unmap_guest(self.partition, self.slot, leaves);
        let gone = leaves.get(..done).unwrap_or_default();
        let table = self.with_tables(|tables| {
            for leaf in gone {
                let address = piece.address_of(leaf.gpfn);
                let _ = if leaf.large {
                    tables.unmap_large(address)
                } else {
                    tables.unmap(address)
                };
            }
            tables.unlink_empty(piece.address)
        });
        self.machine.flush();
        if let Some(table) = table {
            self.tables().free(table);
        }
        for leaf in gone {
            let order = if leaf.large { LARGE_ORDER } else { 0 };
            if let Err(wrong) = self.release(leaf.pfn, order) {
                let error = Some(wrong);
                return Progress { done, error };
            }
        }
        Progress { done, error }
    }

    /// A new zeroed page of guest RAM, of this node if that has one.
    fn new_page(&mut self, node: Option<Node>) -> Option<Pfn> {
        let owner = self.guest_ram();
        let frames = &mut *self.hv.frames;
        let near = node.and_then(|node| frames.allocate_in(node, 0, owner));
        let page = near.or_else(|| frames.allocate(0, owner))?;
        self.machine.zero(page, 1);
        Some(page)
    }

    fn release(&mut self, block: Pfn, order: u8) -> Result<(), HvError> {
        let owner = self.guest_ram();
        Ok(self.hv.frames.release(block, order, owner)?)
    }

    fn guest_ram(&self) -> Owner {
        Owner::new(self.slot, Class::GuestRam)
    }

    fn with_tables<R>(
        &mut self,
        work: impl FnOnce(&mut Tables<'_, FrameTables<'_, 't, &mut M>>) -> R,
    ) -> R {
        let root = self.root;
        work(&mut Tables::new(root, &mut self.tables()))
    }

    fn tables(&mut self) -> FrameTables<'_, 't, &mut M> {
        FrameTables {
            ram: &mut *self.machine,
            frames: &mut *self.hv.frames,
            owner: Owner::new(self.slot, Class::PageTable),
        }
    }
}

fn pages(leaves: &[Leaf]) -> u64 {
    leaves.iter().map(Leaf::pages).sum()
}

#[cfg(test)]
#[path = "backing_tests.rs"]
mod tests;
