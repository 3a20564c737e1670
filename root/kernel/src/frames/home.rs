//! Which nodes a slot's memory comes from, and in which order.

use super::Frames;
use super::nodes::{MAX_NODES, Node};
use super::owner::{Class, Owner, Slot};

/// Where a slot's memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Home {
    /// From here first.
    pub node: Node,
    /// Whether its guest may have memory of other nodes.
    pub spanning: bool,
    /// Frames of each node that its guest's memory leaves free as long as another node has some: what the host has use for.
    pub keep: [u64; MAX_NODES],
}

impl Default for Home {
    fn default() -> Self {
        Self {
            node: Node::FIRST,
            spanning: true,
            keep: [0; MAX_NODES],
        }
    }
}

impl Frames<'_> {
    /// Where a slot's memory comes from, from now on.
    pub fn set_home(&mut self, slot: Slot, home: Home) {
        if let Some(place) = self.homes.get_mut(slot.index()) {
            *place = home;
        }
    }

    /// The nodes where an owner's memory may come from, in their order.
    pub fn nodes_for(&self, owner: Owner) -> impl Iterator<Item = Node> + use<> {
        let Home { node, spanning, .. } = self.home(owner.slot);
        let all = (0..self.nodes.count()).filter_map(Node::new);
        let spans = spanning || owner.class != Class::GuestRam;
        let others = all.filter(move |other| spans && *other != node);
        core::iter::once(node).chain(others)
    }

    /// The node from which `count` frames at once are for an owner: the first that has so many and more than is to be kept
    /// there, else the first that has so many.
    pub fn node_with(&self, count: u64, owner: Owner) -> Option<Node> {
        let keep = self.home(owner.slot).keep;
        let has = |node: &Node, keep: u64| self.free_in(*node) >= count.saturating_add(keep);
        let kept = |node: &Node| keep.get(node.index()).copied().unwrap_or(0);
        let plenty = self.nodes_for(owner).find(|node| has(node, kept(node)));
        plenty.or_else(|| self.nodes_for(owner).find(|node| has(node, 0)))
    }

    fn home(&self, slot: Slot) -> Home {
        self.homes.get(slot.index()).copied().unwrap_or_default()
    }

    /// Frames that an owner can have.
    pub fn room(&self, owner: Owner) -> u64 {
        let nodes = self.nodes_for(owner).map(|node| self.free_in(node));
        nodes.fold(0, u64::saturating_add)
    }
}
