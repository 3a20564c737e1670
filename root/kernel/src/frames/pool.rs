//! What the allocator keeps for each node, and the sums over them.

use super::nodes::{MAX_NODES, Node};
use super::owner::{Class, Ledger, Owner, Slot};
use super::{MAX_ORDER, NONE};

/// A node's free blocks and books.
#[derive(Clone, Debug)]
pub struct Pool {
    /// First free block of each order.
    pub heads: [u32; MAX_ORDER as usize + 1],
    /// Whose its frames are.
    pub ledger: Ledger,
    /// Its frames, counted apart from the books: so that these can be checked.
    pub total: u64,
}

impl Pool {
    /// Without memory.
    pub fn new() -> Self {
        Self {
            heads: [NONE; MAX_ORDER as usize + 1],
            ledger: Ledger::default(),
            total: 0,
        }
    }

    /// Its free frames.
    pub fn free(&self) -> u64 {
        self.ledger.of(Owner::FREE)
    }
}

/// The pool of a node. There is one for each that a frame can be in, see [`Frames::divide`](super::Frames::divide).
pub fn pool_of<'p>(first: &'p mut Pool, others: &'p mut [Pool], node: Node) -> &'p mut Pool {
    let other = node.index().checked_sub(1);
    match other.and_then(|other| others.get_mut(other)) {
        Some(pool) => pool,
        None => first,
    }
}

/// The books of all nodes together.
#[derive(Clone, Copy, Debug)]
pub struct Books<'a> {
    /// The first node's.
    pub(super) first: &'a Pool,
    /// The other nodes', fewer than [`MAX_NODES`].
    pub(super) others: &'a [Pool],
}

impl<'a> Books<'a> {
    /// Frames of one owner.
    pub fn of(&self, owner: Owner) -> u64 {
        self.sum(|ledger| ledger.of(owner))
    }

    /// Frames of one owner in each node.
    pub fn by_node(&self, owner: Owner) -> [u64; MAX_NODES] {
        let mut counts = [0; MAX_NODES];
        for (count, ledger) in counts.iter_mut().zip(self.ledgers()) {
            *count = ledger.of(owner);
        }
        counts
    }

    /// Frames of one class, over all slots.
    pub fn class(&self, class: Class) -> u64 {
        self.sum(|ledger| ledger.class(class))
    }

    /// All frames that a slot owns.
    pub fn slot(&self, slot: Slot) -> u64 {
        self.sum(|ledger| ledger.slot(slot))
    }

    /// All frames.
    pub fn total(&self) -> u64 {
        self.sum(Ledger::total)
    }

    fn ledgers(&self) -> impl Iterator<Item = &'a Ledger> + use<'a> {
        let pools = core::iter::once(self.first).chain(self.others);
        pools.map(|pool| &pool.ledger)
    }

    fn sum(&self, of: impl Fn(&Ledger) -> u64) -> u64 {
        self.ledgers()
            .fold(0, |sum: u64, ledger| sum.saturating_add(of(ledger)))
    }
}
