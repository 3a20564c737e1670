//! Ownership: random sequences against a model, with an audit after every step.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::tests::{FRAMES, Storage, pages, shoot_down};
use super::*;
use crate::mem::page_box::Frame;

#[derive(Clone, Debug)]
enum Step {
    Deposit(u16, Vec<u64>),
    Withdraw(u16),
    Allocate(u16),
    Release(usize, bool),
    Share(usize, bool),
    Back(u16, u64, u64),
    Unback(u16, u64, u64),
    CancelBack(u16, u64, u64),
    Shootdown(u16),
}

fn steps() -> impl Strategy<Value = Step> {
    let slot = 0..4u16;
    let frame = || 0..FRAMES + 2;
    prop_oneof![
        (slot.clone(), prop::collection::vec(frame(), 0..5)).prop_map(|(s, f)| Step::Deposit(s, f)),
        slot.clone().prop_map(Step::Withdraw),
        slot.clone().prop_map(Step::Allocate),
        (any::<usize>(), any::<bool>()).prop_map(|(i, r)| Step::Release(i, r)),
        (any::<usize>(), any::<bool>()).prop_map(|(i, w)| Step::Share(i, w)),
        (slot.clone(), frame(), 0..8u64).prop_map(|(s, f, n)| Step::Back(s, f, n)),
        (slot.clone(), frame(), 0..8u64).prop_map(|(s, f, n)| Step::Unback(s, f, n)),
        (slot.clone(), frame(), 0..8u64).prop_map(|(s, f, n)| Step::CancelBack(s, f, n)),
        slot.prop_map(Step::Shootdown),
    ]
}

/// What each frame must be, worked out independently.
#[derive(Default)]
struct Model {
    owners: BTreeMap<u64, Owner>,
    held: Vec<(PartitionSlot, Frame)>,
}

impl Model {
    fn owner(&self, frame: u64) -> Owner {
        self.owners.get(&frame).copied().unwrap_or(Owner::NotRam)
    }

    fn unmap(&mut self, slot: PartitionSlot, first: u64, count: u64, to: Owner) -> bool {
        let backs = |f| matches!(self.owner(f), Owner::ChildRam { slot: s, .. } if s == slot);
        let good = slot.0 < 3 && (first..first + count).all(backs) && first + count <= FRAMES;
        for frame in (first..first + count).filter(|_| good) {
            if let Some(owner @ Owner::ChildRam { mappings: 1, .. }) = self.owners.get_mut(&frame) {
                *owner = to;
            } else if let Some(Owner::ChildRam { mappings, .. }) = self.owners.get_mut(&frame) {
                *mappings -= 1;
            }
        }
        good
    }

    fn apply(&mut self, table: &mut FrameTable<'_>, step: Step) {
        match step {
            Step::Deposit(slot, list) => {
                let slot = PartitionSlot(slot);
                let distinct = list.iter().collect::<BTreeSet<_>>().len() == list.len();
                let good =
                    slot.0 < 3 && distinct && list.iter().all(|&f| self.owner(f) == Owner::Root);
                assert_eq!(table.deposit(slot, &pages(&list)).is_ok(), good);
                for frame in list.into_iter().filter(|_| good) {
                    self.owners.insert(frame, Owner::Deposited(slot));
                }
            }
            Step::Withdraw(slot) => match table.withdraw(PartitionSlot(slot)) {
                Ok(Some(frame)) => {
                    let before = self.owners.insert(frame.0, Owner::Root);
                    assert_eq!(before, Some(Owner::Deposited(PartitionSlot(slot))));
                }
                Ok(None) => self.expect_empty(PartitionSlot(slot)),
                Err(error) => assert_eq!((slot, error), (3, FrameError::NoSlot)),
            },
            Step::Allocate(slot) => match table.allocate(PartitionSlot(slot)) {
                Ok(Some(frame)) => {
                    let slot = PartitionSlot(slot);
                    let before = self.owners.insert(frame.spfn().0, Owner::InUse(slot));
                    assert_eq!(before, Some(Owner::Deposited(slot)));
                    self.held.push((slot, frame));
                }
                Ok(None) => self.expect_empty(PartitionSlot(slot)),
                Err(error) => assert_eq!((slot, error), (3, FrameError::NoSlot)),
            },
            Step::Release(which, retire) => self.release(table, which, retire),
            Step::Share(which, write) => self.share(table, which, write),
            Step::Back(slot, first, count) => {
                let slot = PartitionSlot(slot);
                let free = |f| match self.owner(f) {
                    Owner::ChildRam { slot: s, .. } => s == slot,
                    owner => owner == Owner::Root,
                };
                let good =
                    slot.0 < 3 && first + count <= FRAMES && (first..first + count).all(free);
                assert_eq!(table.back(slot, Spfn(first), count).is_ok(), good);
                for frame in (first..first + count).filter(|_| good) {
                    let mappings = match self.owner(frame) {
                        Owner::ChildRam { mappings, .. } => mappings + 1,
                        _ => 1,
                    };
                    self.owners
                        .insert(frame, Owner::ChildRam { slot, mappings });
                }
            }
            Step::Unback(slot, first, count) => {
                let slot = PartitionSlot(slot);
                let good = self.unmap(slot, first, count, Owner::RetiredRam(slot));
                let done = match count {
                    1 => table.unback_page(slot, Spfn(first)),
                    _ => table.unback(slot, Spfn(first), count),
                };
                assert_eq!(done.is_ok(), good);
            }
            Step::CancelBack(slot, first, count) => {
                let slot = PartitionSlot(slot);
                let good = self.unmap(slot, first, count, Owner::Root);
                assert_eq!(table.cancel_back(slot, Spfn(first), count).is_ok(), good);
            }
            Step::Shootdown(slot) if slot < 3 => {
                let slot = PartitionSlot(slot);
                shoot_down(table, slot);
                for owner in self.owners.values_mut() {
                    match *owner {
                        Owner::RetiredPool(s) if s == slot => *owner = Owner::Deposited(slot),
                        Owner::RetiredRam(s) if s == slot => *owner = Owner::Root,
                        _ => {}
                    }
                }
            }
            Step::Shootdown(slot) => assert!(table.detach_retired(PartitionSlot(slot)).is_err()),
        }
    }

    fn expect_empty(&self, slot: PartitionSlot) {
        assert!(
            self.owners
                .values()
                .all(|&owner| owner != Owner::Deposited(slot))
        );
    }

    fn release(&mut self, table: &mut FrameTable<'_>, which: usize, retire: bool) {
        if self.held.is_empty() {
            return;
        }
        let (slot, frame) = self.held.remove(which % self.held.len());
        let number = frame.spfn();
        // A second handle, to try what must be refused and then go on.
        // SAFETY: only one of the two is used after a refusal.
        let again = unsafe { Frame::from_spfn(number) };
        let good = self.owner(number.0) == Owner::InUse(slot);
        let done = if retire {
            table.retire(slot, frame)
        } else {
            table.release(slot, frame)
        };
        assert_eq!(done.is_ok(), good);
        match good {
            true if retire => drop(self.owners.insert(number.0, Owner::RetiredPool(slot))),
            true => drop(self.owners.insert(number.0, Owner::Deposited(slot))),
            false => self.held.push((slot, again)),
        }
    }

    fn share(&mut self, table: &mut FrameTable<'_>, which: usize, write: bool) {
        let Some((slot, frame)) = self.held.get(which % self.held.len().max(1)) else {
            return;
        };
        let access = if write {
            SharedAccess::ReadWrite
        } else {
            SharedAccess::ReadOnly
        };
        let to = match self.owner(frame.spfn().0) {
            Owner::Shared(..) => {
                table.unshare(*slot, frame.spfn()).unwrap();
                Owner::InUse(*slot)
            }
            _ => {
                table.share(*slot, frame.spfn(), access).unwrap();
                Owner::Shared(*slot, access)
            }
        };
        self.owners.insert(frame.spfn().0, to);
    }
}

proptest! {
    #[test]
    fn no_sequence_gives_a_frame_two_owners(sequence in prop::collection::vec(steps(), 0..80)) {
        let mut storage = Storage::new();
        let mut table = storage.table();
        let mut model = Model::default();
        for frame in 0..FRAMES {
            let owner = match frame {
                0..4 => Owner::NotRam,
                4..8 => Owner::Hypervisor,
                _ => Owner::Root,
            };
            model.owners.insert(frame, owner);
        }
        for step in sequence {
            model.apply(&mut table, step);
            prop_assert_eq!(table.audit(), Ok(()));
            for frame in 0..FRAMES + 2 {
                prop_assert_eq!(table.owner(Spfn(frame)), model.owner(frame));
            }
        }
    }
}
