//! Tests of the frame allocator.

use super::*;
use boot_archive::start_info::{MemoryMapEntry, kind};
use proptest::prelude::*;

const PROCESS: Owner = Owner {
    slot: Slot(3),
    class: Class::Process,
};

/// Frames 256 to 256 + `frames` as free memory.
fn map(frames: u64) -> [MemoryMapEntry; 1] {
    [MemoryMapEntry {
        addr: 0x10_0000,
        size: frames * 4096,
        kind: kind::RAM,
        reserved: 0,
    }]
}

fn with_frames<R>(frames: u64, body: impl FnOnce(&mut Frames<'_>) -> R) -> R {
    let map = map(frames);
    let layout = Layout::new(&map, &[]);
    let mut table = vec![Record::HOLE; layout.frames() as usize];
    body(&mut Frames::new(&mut table, &layout))
}

#[test]
fn small_blocks_leave_the_large_ones_whole() {
    with_frames(0x700, |frames| {
        let large = frames.blocks(LARGE_ORDER) + 2 * frames.blocks(LARGE_ORDER + 1);
        for _ in 0..200 {
            frames.allocate(0, PROCESS).unwrap();
        }
        assert_eq!(
            frames.blocks(LARGE_ORDER) + 2 * frames.blocks(LARGE_ORDER + 1),
            large
        );
    });
}

#[test]
fn blocks_are_aligned_and_consecutive_when_memory_is_whole() {
    with_frames(0x1000, |frames| {
        let blocks: Vec<_> = (0..4)
            .map(|_| frames.allocate(LARGE_ORDER, PROCESS).unwrap())
            .collect();
        assert!(blocks.iter().all(|block| block.0 % 512 == 0));
    });
}

#[test]
fn a_block_can_come_back_frame_by_frame_in_any_order() {
    with_frames(0x400, |frames| {
        let (free, blocks) = (frames.free(), frames.blocks(LARGE_ORDER));
        let block = frames.allocate(LARGE_ORDER, PROCESS).unwrap();
        for frame in (0..512).rev().step_by(2).chain((0..512).step_by(2)) {
            frames.release(block.plus(frame), 0, PROCESS).unwrap();
        }
        assert_eq!((frames.free(), frames.blocks(LARGE_ORDER)), (free, blocks));
    });
}

#[test]
fn a_frame_comes_back_only_from_its_owner_and_only_once() {
    with_frames(0x400, |frames| {
        let frame = frames.allocate(0, PROCESS).unwrap();
        let other = Owner {
            slot: Slot(4),
            ..PROCESS
        };
        assert_eq!(
            frames.release(frame, 0, other),
            Err(NotOwner {
                pfn: frame,
                expected: other
            })
        );
        assert!(frames.release(frame.plus(1), 0, PROCESS).is_err());
        assert!(frames.release(frame, 1, PROCESS).is_err());
        assert!(frames.release(Pfn(u64::MAX), 0, PROCESS).is_err());
        assert!(frames.release(Pfn(0), 0, PROCESS).is_err());
        frames.release(frame, 0, PROCESS).unwrap();
        assert!(frames.release(frame, 0, PROCESS).is_err());
    });
}

#[test]
fn a_transfer_moves_the_books_and_refuses_foreign_frames() {
    with_frames(0x400, |frames| {
        let guest = Owner {
            class: Class::GuestRam,
            ..PROCESS
        };
        let block = frames.allocate(3, PROCESS).unwrap();
        frames.transfer(block, 4, PROCESS, guest).unwrap();
        assert!(frames.transfer(block, 8, PROCESS, guest).is_err());
        assert_eq!(
            (frames.ledger().of(PROCESS), frames.ledger().of(guest)),
            (4, 4)
        );
        assert_eq!(
            (
                frames.ledger().slot(Slot(3)),
                frames.ledger().class(Class::GuestRam)
            ),
            (8, 4)
        );
        assert_eq!(frames.owner(block), Some(guest));
    });
}

#[test]
fn a_process_gives_back_blocks_of_mixed_use() {
    with_frames(0x800, |frames| {
        let free = frames.free();
        let guest = Owner {
            class: Class::GuestRam,
            ..PROCESS
        };
        let block = frames.allocate(LARGE_ORDER, PROCESS).unwrap();
        frames.transfer(block.plus(7), 100, PROCESS, guest).unwrap();
        let other = frames
            .allocate(
                0,
                Owner {
                    class: Class::Deposit,
                    ..PROCESS
                },
            )
            .unwrap();
        assert!(frames.release_process(other, 0, PROCESS.slot).is_err());
        assert!(frames.release_process(block, LARGE_ORDER, Slot(9)).is_err());
        frames
            .release_process(block, LARGE_ORDER, PROCESS.slot)
            .unwrap();
        assert_eq!(
            (frames.free(), frames.ledger().slot(PROCESS.slot)),
            (free - 1, 1)
        );
    });
}

#[test]
fn exhaustion_is_an_answer() {
    with_frames(3, |frames| {
        assert!(frames.allocate(2, PROCESS).is_none());
        let taken: Vec<_> = core::iter::from_fn(|| frames.allocate(0, PROCESS)).collect();
        assert_eq!((taken.len(), frames.free()), (3, 0));
    });
}

#[test]
fn a_table_that_is_too_short_only_loses_memory() {
    let map = map(0x100);
    let mut table = vec![Record::HOLE; 0x180];
    let frames = Frames::new(&mut table, &Layout::new(&map, &[]));
    assert_eq!(frames.free(), 0x80);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn blocks_never_overlap_and_everything_comes_back(
        steps in proptest::collection::vec((any::<bool>(), 0u8..6, any::<prop::sample::Index>()), 0..200)
    ) {
        with_frames(0x777, |frames| {
            let free = frames.free();
            let total = frames.ledger().total();
            let mut held: Vec<(Pfn, u8)> = Vec::new();
            for (take, order, which) in steps {
                if take {
                    if let Some(pfn) = frames.allocate(order, PROCESS) {
                        let end = pfn.0 + (1 << order);
                        assert_eq!(pfn.0 % (1 << order), 0);
                        assert!(pfn.0 >= 0x100 && end <= 0x100 + 0x777);
                        assert!(held.iter().all(|(other, order)| other.0 + (1 << order) <= pfn.0 || end <= other.0));
                        held.push((pfn, order));
                    }
                } else if !held.is_empty() {
                    let (pfn, order) = held.swap_remove(which.index(held.len()));
                    frames.release(pfn, order, PROCESS).unwrap();
                }
                let used: u64 = held.iter().map(|(_, order)| 1u64 << order).sum();
                assert_eq!(frames.free() + used, free);
                assert_eq!(frames.ledger().of(PROCESS), used);
                assert_eq!(frames.ledger().total(), total);
            }
            for (pfn, order) in held {
                frames.release(pfn, order, PROCESS).unwrap();
            }
            assert_eq!(frames.free(), free);
            assert!(frames.allocate(10, PROCESS).is_some(), "free memory is joined again");
        });
    }
}

/// Frames 256 to 1024 in the first node, from there to 2048 in the second, further on in the first again.
fn with_nodes<R>(body: impl FnOnce(&mut Frames<'_>, [Node; 2]) -> R) -> R {
    with_frames(0x900, |frames| {
        let nodes = Nodes::new(&[range(4, 0, 1024), range(7, 1024, 1024)]);
        frames.divide(nodes);
        body(frames, [0, 1].map(|index| Node::new(index).unwrap()))
    })
}

fn range(domain: u32, start: u64, count: u64) -> crate::srat::MemoryRange {
    crate::srat::MemoryRange {
        domain,
        base: start * 4096,
        len: count * 4096,
    }
}

const GUEST: Owner = Owner {
    class: Class::GuestRam,
    ..PROCESS
};

/// Each frame of RAM is in one node, and of one owner there.
fn check_books(frames: &Frames<'_>) {
    for index in 0..frames.nodes() {
        let node = Node::new(index).unwrap();
        let ledger = &frames.pool(node).unwrap().ledger;
        assert_eq!(ledger.total(), frames.total_of(node));
        let owned = |owner: Owner| {
            let all =
                (0..frames.table.len() as u64).filter(|frame| frames.nodes.at(*frame).0 == node);
            let of = all.filter(|frame| frames.owner(Pfn(*frame)) == Some(owner));
            of.count() as u64
        };
        for owner in [Owner::FREE, PROCESS, GUEST, Owner::KERNEL] {
            assert_eq!(ledger.of(owner), owned(owner), "{owner:?} in {index}");
        }
        assert_eq!(frames.free_in(node), owned(Owner::FREE));
        let listed: usize = (0..=MAX_ORDER)
            .map(|order| frames.blocks_in(node, order) << order)
            .sum();
        assert_eq!(listed as u64, frames.free_in(node));
    }
}

#[test]
fn memory_in_use_stays_in_use_when_nodes_are_told_apart() {
    with_frames(0x900, |frames| {
        let taken = frames.allocate(LARGE_ORDER, PROCESS).unwrap();
        let single = frames.allocate(0, Owner::KERNEL).unwrap();
        let free = frames.free();
        frames.divide(Nodes::new(&[range(0, 0, 1000), range(1, 1000, 3000)]));
        check_books(frames);
        assert_eq!(frames.free(), free);
        assert_eq!(frames.owner(taken.plus(511)), Some(PROCESS));
        frames.release(taken, LARGE_ORDER, PROCESS).unwrap();
        frames.release(single, 0, Owner::KERNEL).unwrap();
        check_books(frames);
        assert_eq!(frames.free(), 0x900);
    });
}

/// The process's home is `node`.
fn live_in(frames: &mut Frames<'_>, node: Node, spanning: bool) {
    let home = Home {
        node,
        spanning,
        ..Home::default()
    };
    frames.set_home(PROCESS.slot, home);
}

#[test]
fn a_guest_that_does_not_span_has_memory_of_its_node_only() {
    with_nodes(|frames, [first, second]| {
        live_in(frames, second, false);
        assert_eq!((frames.room(GUEST), frames.room(PROCESS)), (1024, 0x900));
        let before = frames.free_in(first);
        let taken: Vec<_> = core::iter::from_fn(|| frames.allocate(0, GUEST)).collect();
        assert_eq!((taken.len(), frames.room(GUEST)), (1024, 0));
        assert!(taken.iter().all(|pfn| (1024..2048).contains(&pfn.0)));
        assert_eq!(frames.free_in(first), before);
        assert!(frames.allocate(LARGE_ORDER, GUEST).is_none());
        // What is not its guest's comes from wherever there is some.
        assert!(frames.allocate(0, PROCESS).is_some());
        check_books(frames);
    });
}

#[test]
fn one_that_spans_has_memory_of_its_node_first() {
    with_nodes(|frames, [first, second]| {
        live_in(frames, second, true);
        assert_eq!(frames.room(GUEST), 0x900);
        for _ in 0..2 {
            let pfn = frames.allocate(LARGE_ORDER, GUEST).unwrap();
            assert_eq!(frames.nodes.at(pfn.0).0, second);
        }
        let pfn = frames.allocate(LARGE_ORDER, GUEST).unwrap();
        assert_eq!(frames.nodes.at(pfn.0).0, first);
        let counts = frames.ledger().by_node(GUEST);
        assert_eq!(counts[..3], [512, 1024, 0]);
        check_books(frames);
    });
}

#[test]
fn what_is_to_be_kept_of_a_node_is_taken_last() {
    with_nodes(|frames, [first, second]| {
        let mut home = Home {
            node: second,
            ..Home::default()
        };
        home.keep[second.index()] = 600;
        frames.set_home(PROCESS.slot, home);
        assert_eq!(frames.node_with(424, GUEST), Some(second));
        assert_eq!(frames.node_with(425, GUEST), Some(first));
        while frames.allocate_in(first, 0, GUEST).is_some() {}
        assert_eq!(frames.node_with(425, GUEST), Some(second));
        assert_eq!(frames.node_with(1025, GUEST), None);
        home.spanning = false;
        frames.set_home(PROCESS.slot, home);
        assert_eq!(frames.node_with(1024, GUEST), Some(second));
    });
}

#[test]
fn no_block_is_joined_over_the_border_of_a_node() {
    with_frames(0xF00, |frames| {
        // In the midst of what would be a large block, and of one of 1024 frames.
        frames.divide(Nodes::new(&[range(0, 0, 1300), range(1, 1300, 2000)]));
        check_books(frames);
        let taken: Vec<_> = core::iter::from_fn(|| frames.allocate(0, PROCESS)).collect();
        assert_eq!(taken.len(), 0xF00);
        check_books(frames);
        // 1280 to 1344 come back as one, whoever asks for that.
        frames.release(Pfn(1280), 6, PROCESS).unwrap();
        check_books(frames);
        for pfn in taken.iter().filter(|pfn| !(1280..1344).contains(&pfn.0)) {
            frames.release(*pfn, 0, PROCESS).unwrap();
        }
        check_books(frames);
        assert_eq!(frames.free(), 0xF00);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_frame_has_one_owner_in_its_node_whatever_happens(
        borders in proptest::collection::vec((0u32..10, 0u64..0x900, 0u64..0x400), 0..8),
        steps in proptest::collection::vec((0u8..4, 0u8..10, any::<prop::sample::Index>()), 0..60)
    ) {
        with_frames(0x777, |frames| {
            let early = frames.allocate(3, PROCESS).unwrap();
            let ranges: Vec<_> = borders.iter().map(|(domain, start, count)| range(*domain, *start, *count)).collect();
            frames.divide(Nodes::new(&ranges));
            let mut held: Vec<(Pfn, u8)> = vec![(early, 3)];
            for (what, order, which) in steps {
                let node = Node::new(which.index(frames.nodes())).unwrap();
                frames.set_home(PROCESS.slot, Home { node, spanning: what != 0, ..Home::default() });
                let at = which.index(held.len().max(1));
                match (what, held.get(at).copied()) {
                    (0 | 1, _) => if let Some(pfn) = frames.allocate(order, GUEST) {
                        assert!(frames.nodes.is_one(pfn.0, 1 << order));
                        assert!(what != 0 || frames.nodes.at(pfn.0).0 == node);
                        frames.transfer(pfn, 1, GUEST, PROCESS).unwrap();
                        held.push((pfn, order));
                    },
                    (_, Some((pfn, order))) => {
                        held.swap_remove(at);
                        frames.release_process(pfn, order, PROCESS.slot).unwrap();
                    }
                    (_, None) => {}
                }
                check_books(frames);
            }
            for (pfn, order) in held {
                frames.release_process(pfn, order, PROCESS.slot).unwrap();
            }
            check_books(frames);
            assert_eq!(frames.free(), 0x777);
        });
    }
}
