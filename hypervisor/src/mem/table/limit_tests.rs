//! The walker, case by case: memory, limits, rights, the end.

use super::fake::{FakeMemory, FakeSource, Hardware, for_each_format};
use super::tests::{GIB, Table, at, leaf, size_of, table};
use super::*;
use crate::mem::addr::{Gpfn, Gvpn};
use crate::mem::format::{Ept, EptFeatures, Host, MemoryType, Pat, Rights};

fn whole_leaves_change_without_memory_and_a_split_needs_one_frame<F: Hardware>() {
    let (memory, mut source) = (FakeMemory::new(), FakeSource::new(9));
    let mut table = table::<F>(&memory, &mut source);
    table
        .map(&mut source, at::<F>(0), 1024, leaf(1024), LeafSize::Size2M)
        .unwrap();
    table
        .map(&mut source, at::<F>(GIB), GIB, leaf(GIB), LeafSize::Size1G)
        .unwrap();
    source.allowance = 0;
    table
        .protect(&mut source, at::<F>(0), 512, Rights::READ)
        .unwrap();
    table
        .map(&mut source, at::<F>(0), 512, leaf(512), LeafSize::Size2M)
        .unwrap();
    table.unmap(&mut source, at::<F>(512), 512).unwrap();
    let no_memory = |done| {
        Err(Stopped {
            done,
            error: TableError::NoMemory,
        })
    };
    assert_eq!(table.unmap(&mut source, at::<F>(1), 1), no_memory(0));
    assert_eq!(
        table.protect(&mut source, at::<F>(0), 1, Rights::READ),
        no_memory(0)
    );
    source.allowance = 1;
    table.unmap(&mut source, at::<F>(1), 1).unwrap();
    assert_eq!(source.allowance, 0);
    source.allowance = 1;
    assert_eq!(
        table.protect(&mut source, at::<F>(GIB), 1, Rights::READ),
        no_memory(0)
    );
    source.allowance = 1;
    table
        .protect(&mut source, at::<F>(GIB), 1, Rights::READ)
        .unwrap();
    assert_eq!(
        source.allowance, 0,
        "the first attempt's frame was kept and one more was enough"
    );
    source.allowance = 0;
    table
        .protect(&mut source, at::<F>(GIB), 1, Rights::RWX)
        .unwrap();
    assert_eq!(size_of(&table, GIB), Some(LeafSize::Size1G), "joined back");
}

fn a_map_that_runs_out_of_memory_keeps_its_progress<F: Hardware>() {
    let (memory, mut source) = (FakeMemory::new(), FakeSource::new(1));
    let mut table = table::<F>(&memory, &mut source);
    let mut done = 0;
    for attempt in 0..4 {
        source.allowance = 1;
        let result = table.map(
            &mut source,
            at::<F>(512 + done - 2),
            4 - done,
            leaf(510 + done),
            LeafSize::Size4K,
        );
        match attempt {
            0 | 1 => assert_eq!(
                result,
                Err(Stopped {
                    done: 0,
                    error: TableError::NoMemory
                })
            ),
            2 => {
                assert_eq!(
                    result,
                    Err(Stopped {
                        done: 2,
                        error: TableError::NoMemory
                    })
                );
                done = 2;
            }
            _ => assert_eq!(result, Ok(())),
        }
    }
    let frames: Vec<_> = table
        .leaves(at::<F>(0), 1024)
        .map(|found| found.leaf.frame.unwrap().0)
        .collect();
    assert_eq!(frames, [510, 511, 512, 513]);
}

fn one_more_frame_at_a_time_is_enough_for_a_page_inside_a_huge_leaf<F: Hardware>() {
    for pages in [1, 2, 512] {
        let (memory, mut source) = (FakeMemory::new(), FakeSource::new(2));
        let mut table = table::<F>(&memory, &mut source);
        table
            .map(&mut source, at::<F>(0), GIB, leaf(0), LeafSize::Size1G)
            .unwrap();
        for operation in 0..3u64 {
            let first = at::<F>((operation + 1) * 10_000 + 511);
            let mut attempts = 0;
            loop {
                source.allowance = 1;
                attempts += 1;
                let result = match operation {
                    0 => table.map(&mut source, first, pages, Leaf::NO_ACCESS, LeafSize::Size4K),
                    1 => table.protect(&mut source, first, pages, Rights::READ),
                    _ => table.unmap(&mut source, first, pages),
                };
                match result {
                    Ok(()) => break,
                    // What was done is not asked for again, but here it may be: nothing changes by it.
                    Err(stopped) => assert_eq!(stopped.error, TableError::NoMemory),
                }
                assert!(attempts < 4);
            }
        }
    }
}

fn addresses_and_frames_beyond_their_width_are_refused_before_anything_is_done<F: Hardware>() {
    let (memory, mut source) = (FakeMemory::new(), FakeSource::new(20));
    let mut table = table::<F>(&memory, &mut source);
    memory.snapshot();
    let (limit, frames) = (F::LIMIT, 1 << 28);
    let out_of_range = Err(Stopped {
        done: 0,
        error: TableError::OutOfRange,
    });
    let unsupported = Err(Stopped {
        done: 0,
        error: TableError::Unsupported,
    });
    let mut map =
        |page, pages, leaf| table.map(&mut source, at::<F>(page), pages, leaf, LeafSize::Size1G);
    assert_eq!(map(limit - 1, 2, leaf(0)), out_of_range);
    assert_eq!(map(u64::MAX, 2, leaf(0)), out_of_range);
    assert_eq!(map(1, u64::MAX, leaf(0)), out_of_range);
    assert_eq!(map(0, 2, leaf(frames - 1)), unsupported);
    assert_eq!(map(0, 2, leaf(u64::MAX)), unsupported);
    assert_eq!(map(0, 1, Leaf::new(Spfn(0), Rights::WRITE)), unsupported);
    assert_eq!(map(0, 0, leaf(0)), Ok(()));
    assert_eq!(table.unmap(&mut source, at::<F>(limit), 1), out_of_range);
    assert_eq!(
        table.protect(&mut source, at::<F>(0), 1, Rights::EXECUTE),
        unsupported
    );
    assert_eq!(table.query(at::<F>(limit)), None);
    assert_eq!(table.next(at::<F>(u64::MAX), 5), None);
    assert!(memory.log().is_empty());
}

fn dirty_bits_survive_split_and_protect_and_are_never_lost_by_a_join<F: Hardware>() {
    let (memory, mut source) = (FakeMemory::new(), FakeSource::new(20));
    let mut table = table::<F>(&memory, &mut source);
    table
        .map(&mut source, at::<F>(0), 512, leaf(512), LeafSize::Size2M)
        .unwrap();
    let marks = |table: &Table<'_, F>, page| {
        let found = table.query(at::<F>(page))?;
        Some((found.leaf.accessed, found.leaf.dirty))
    };
    assert_eq!(marks(&table, 3), Some((false, false)));
    assert!(memory.touch::<F>(table.root(), 3, true));
    table
        .protect(&mut source, at::<F>(0), 1, Rights::READ)
        .unwrap();
    assert_eq!(marks(&table, 9), Some((true, true)));
    table
        .map(&mut source, at::<F>(9), 1, leaf(521), LeafSize::Size4K)
        .unwrap();
    assert_eq!(marks(&table, 9), Some((false, false)));
    table
        .protect(&mut source, at::<F>(0), 1, Rights::RWX)
        .unwrap();
    assert_eq!(size_of(&table, 9), Some(LeafSize::Size2M));
    assert_eq!(marks(&table, 9), Some((true, true)));
    assert_eq!(marks(&table, 512), None);
}

fn leaves_can_be_split_for_tracking<F: Hardware>() {
    let (memory, mut source) = (FakeMemory::new(), FakeSource::new(20));
    let mut table = table::<F>(&memory, &mut source);
    table
        .map(&mut source, at::<F>(0), GIB, leaf(0), LeafSize::Size1G)
        .unwrap();
    table
        .split_range(&mut source, at::<F>(5), 600, LeafSize::Size4K)
        .unwrap();
    let sizes = [0, 1023, 1024].map(|page| size_of(&table, page).unwrap());
    assert_eq!(
        sizes,
        [LeafSize::Size4K, LeafSize::Size4K, LeafSize::Size2M]
    );
    assert!((0..2000).all(|page| {
        table.query(at::<F>(page)).unwrap().frame_of(at::<F>(page)) == Some(Spfn(page))
    }));
}

#[test]
fn code_is_never_mapped_or_joined_large_where_it_must_be_small() {
    let features = EptFeatures {
        max_leaf: LeafSize::Size1G,
        execute_only: false,
        access_bits: true,
        large_code: false,
        guest_pat: false,
    };
    let (memory, mut source) = (FakeMemory::new(), FakeSource::new(9));
    let format = Ept::new(40, 40, features);
    let mut table = PageTable::new(format, &memory, &mut source).unwrap();
    let data = Leaf::new(Spfn(0), Rights::RW);
    table
        .map(&mut source, Gpfn(0), 512, leaf(0), LeafSize::Size2M)
        .unwrap();
    table
        .map(&mut source, Gpfn(512), 512, data, LeafSize::Size2M)
        .unwrap();
    assert_eq!(size_of(&table, 0), Some(LeafSize::Size4K));
    assert_eq!(size_of(&table, 512), Some(LeafSize::Size2M));
    table
        .map(&mut source, Gpfn(0), 512, data, LeafSize::Size4K)
        .unwrap();
    assert_eq!(size_of(&table, 0), Some(LeafSize::Size2M), "joined");
    table
        .map(&mut source, Gpfn(512), 512, leaf(0), LeafSize::Size2M)
        .unwrap();
    table
        .map(&mut source, Gpfn(7), 1, leaf(7), LeafSize::Size4K)
        .unwrap();
    for page in [7, 512] {
        assert_eq!(size_of(&table, page), Some(LeafSize::Size4K), "{page}");
    }
    assert_eq!(size_of(&table, 8), Some(LeafSize::Size4K), "split");
}

#[test]
fn host_tables_map_both_halves_with_memory_types() {
    let (memory, mut source) = (FakeMemory::new(), FakeSource::new(20));
    let host = Host::new(40, Pat::PARTITA, LeafSize::Size2M);
    let mut table = PageTable::new(host, &memory, &mut source).unwrap();
    let high = Gvpn(0xFFFF_FFFF_8000_0000 >> 12);
    let device = Leaf::new(Spfn(0xFEE00), Rights::RW).with_memory_type(MemoryType::Uncacheable);
    table
        .map(&mut source, high, 1, device, LeafSize::Size1G)
        .unwrap();
    table
        .map(
            &mut source,
            Gvpn(0),
            GIB,
            Leaf::new(Spfn(0), Rights::RX),
            LeafSize::Size1G,
        )
        .unwrap();
    assert_eq!(table.query(high).unwrap().leaf, device);
    assert_eq!(
        table.query(Gvpn(7)).unwrap().size,
        LeafSize::Size2M,
        "the processor has no 1 GiB leaves"
    );
    let last = Gvpn(u64::MAX >> 12);
    table
        .map(&mut source, last, 1, device, LeafSize::Size4K)
        .unwrap();
    assert_eq!(table.query(last).unwrap().first, last);
    table.unmap(&mut source, high, last.0 - high.0 + 1).unwrap();
    assert_eq!(table.query(last), None);
}

fn a_tree_is_freed_in_bounded_steps<F: Hardware>() {
    let (memory, mut source) = (FakeMemory::new(), FakeSource::new(90));
    let mut table = table::<F>(&memory, &mut source);
    table
        .map(&mut source, at::<F>(3), 1022, leaf(7), LeafSize::Size4K)
        .unwrap();
    table
        .map(
            &mut source,
            at::<F>(GIB - 512),
            512,
            leaf(4096),
            LeafSize::Size2M,
        )
        .unwrap();
    table
        .map(&mut source, at::<F>(GIB), GIB, leaf(GIB), LeafSize::Size1G)
        .unwrap();
    table
        .map(
            &mut source,
            at::<F>((1 << 27) + 5),
            1,
            Leaf::NO_ACCESS,
            LeafSize::Size4K,
        )
        .unwrap();
    let (mut steps, mut pages) = (0, 0);
    while !table.free_some(&mut source, 100) {
        steps += 1;
        let most = source
            .removed
            .iter()
            .map(|(size, _)| size.pages())
            .max()
            .unwrap_or(0);
        let removed: u64 = source.removed.drain(..).map(|(size, _)| size.pages()).sum();
        assert!(removed < 100 + most);
        assert_eq!(memory.tables::<F>(table.root()), source.live);
        pages += removed;
    }
    pages += source
        .removed
        .drain(..)
        .map(|(size, _)| size.pages())
        .sum::<u64>();
    assert_eq!(pages, 1022 + 512 + GIB + 1);
    assert!(steps > 10);
    assert!(table.free_some(&mut source, 100), "done stays done");
    table.release_root(&mut source);
    assert!(source.live.is_empty());
}

fn a_childs_table_moves_frames_between_owners<F: Hardware>() {
    use crate::mem::frames::{ChildSource, FrameEntry, FrameTable, Owner, PartitionSlot, Slot};
    use crate::mem::testing::TestMemory;

    let ram = TestMemory::new(8);
    let mut entries = vec![FrameEntry::default(); 2048];
    let mut slots: Vec<Slot> = (0..2).map(|_| Slot::default()).collect();
    let mut frames = FrameTable::new(&mut entries, &mut slots);
    let slot = PartitionSlot(1);
    frames.mark_root_ram(Spfn(0), 2048).unwrap();
    frames
        .deposit(slot, &[Spfn(1), Spfn(2), Spfn(3), Spfn(4), Spfn(5)])
        .unwrap();
    let format = F::sample(LeafSize::Size2M);
    let mut source = ChildSource {
        frames: &mut frames,
        slot,
    };
    let mut table = PageTable::new(format, ram.phys(), &mut source).unwrap();
    source.frames.back(slot, Spfn(512), 512).unwrap();
    table
        .map(&mut source, at::<F>(0), 512, leaf(512), LeafSize::Size2M)
        .unwrap();
    source.frames.back(slot, Spfn(512), 1).unwrap();
    table
        .map(&mut source, at::<F>(600), 1, leaf(512), LeafSize::Size4K)
        .unwrap();
    table.unmap(&mut source, at::<F>(0), 2).unwrap();
    assert_eq!(
        source.frames.owner(Spfn(512)),
        Owner::ChildRam { slot, mappings: 1 }
    );
    assert_eq!(source.frames.owner(Spfn(513)), Owner::RetiredRam(slot));
    while !table.free_some(&mut source, 64) {}
    table.release_root(&mut source);
    assert_eq!(frames.slot_counts(slot).unwrap().retired_pool, 5);
    frames.audit().unwrap();
    let retired = frames.detach_retired(slot).unwrap();
    assert!(frames.reclaim(retired, 600).is_none());
    assert_eq!(frames.owner(Spfn(600)), Owner::Root);
    assert_eq!(
        (0..6)
            .filter(|_| frames.withdraw(slot).unwrap().is_some())
            .count(),
        5
    );
    frames.audit().unwrap();
    assert_eq!(frames.global_counts().root, 2048);
}

for_each_format! {
    whole_leaves_change_without_memory_and_a_split_needs_one_frame
    a_map_that_runs_out_of_memory_keeps_its_progress
    one_more_frame_at_a_time_is_enough_for_a_page_inside_a_huge_leaf
    addresses_and_frames_beyond_their_width_are_refused_before_anything_is_done
    dirty_bits_survive_split_and_protect_and_are_never_lost_by_a_join
    leaves_can_be_split_for_tracking
    a_tree_is_freed_in_bounded_steps
    a_childs_table_moves_frames_between_owners
}
