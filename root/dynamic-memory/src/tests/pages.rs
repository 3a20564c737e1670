//! The book of pages.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{BookError, GuestPages, PageRun, PageState};

fn book() -> GuestPages {
    GuestPages::new(&[PageRun::new(1000, 500), PageRun::new(0, 100)]).unwrap()
}

#[test]
fn ram_is_pieces_without_overlap() {
    let book = book();
    assert_eq!(
        (book.visible(), book.top(), book.startup()),
        (600, 1500, 600)
    );
    let refused = |runs: &[PageRun]| GuestPages::new(runs).unwrap_err();
    assert_eq!(
        refused(&[PageRun::new(5, 0)]),
        BookError::Range(PageRun::new(5, 0))
    );
    let beyond = PageRun::new((1 << 40) - 1, 2);
    assert_eq!(refused(&[beyond]), BookError::Range(beyond));
    let overlap = PageRun::new(99, 10);
    assert_eq!(
        refused(&[PageRun::new(0, 100), overlap]),
        BookError::Overlap(overlap)
    );
    let many: Vec<PageRun> = (0..65).map(|index| PageRun::new(index * 2, 1)).collect();
    assert_eq!(refused(&many), BookError::TooMany);
}

#[test]
fn a_look_goes_as_far_as_the_state_does() {
    let mut book = book();
    book.set(PageRun::new(1100, 200), PageState::Ballooned);
    let all = PageRun::new(0, 2000);
    let mut rest = all;
    let mut seen = Vec::new();
    while !rest.is_empty() {
        let (state, part) = book.leading(rest);
        seen.push((state, part.start, part.count));
        rest = rest.split(part.count).1;
    }
    let (backed, ballooned) = (Some(PageState::Backed), Some(PageState::Ballooned));
    let wanted = [
        (backed, 0, 100),
        (None, 100, 900),
        (backed, 1000, 100),
        (ballooned, 1100, 200),
        (backed, 1300, 200),
        (None, 1500, 500),
    ];
    assert_eq!(seen, wanted);
}

/// What goes back, in order, `most` pages in one go.
fn back(book: &mut GuestPages, state: PageState, most: u64) -> Vec<(u64, u64)> {
    std::iter::from_fn(|| {
        let (run, _) = book.next_back(state)?.split(most);
        book.set(run, PageState::Backed);
        Some((run.start, run.count))
    })
    .collect()
}

#[test]
fn long_runs_go_back_first_and_the_lower_of_about_equal_ones() {
    let runs = [(3, 2), (10, 8), (30, 64), (1000, 1), (1400, 90)];
    let ballooned = || {
        let mut book = book();
        for (start, count) in runs {
            book.set(PageRun::new(start, count), PageState::Ballooned);
        }
        book.set(PageRun::new(1002, 1), PageState::Withheld);
        book
    };
    let mut book = ballooned();
    assert_eq!(
        back(&mut book, PageState::Ballooned, u64::MAX),
        [(30, 64), (1400, 90), (10, 8), (3, 2), (1000, 1)]
    );
    assert_eq!(back(&mut book, PageState::Withheld, u64::MAX), [(1002, 1)]);
    assert_eq!(book.next_back(PageState::Backed), None);

    let parts = back(&mut ballooned(), PageState::Ballooned, 60);
    let wanted = [
        (30, 60),
        (1400, 60),
        (10, 8),
        (1460, 30),
        (3, 2),
        (90, 4),
        (1000, 1),
    ];
    assert_eq!(parts, wanted, "what is left of a run is not forgotten");
}

#[test]
fn pages_that_come_into_the_balloon_while_it_goes_back_are_found() {
    let mut book = book();
    book.set(PageRun::new(1000, 4), PageState::Ballooned);
    assert_eq!(
        book.next_back(PageState::Ballooned),
        Some(PageRun::new(1000, 4))
    );
    book.set(PageRun::new(1000, 2), PageState::Backed);
    book.set(PageRun::new(10, 70), PageState::Ballooned);
    assert_eq!(
        back(&mut book, PageState::Ballooned, u64::MAX),
        [(10, 70), (1002, 2)]
    );
}

#[test]
fn a_driver_that_goes_loses_its_balloon_and_frees_what_was_withheld() {
    let mut book = book();
    book.set(PageRun::new(10, 20), PageState::Ballooned);
    book.set(PageRun::new(50, 5), PageState::Withheld);
    book.forget();
    assert_eq!(book.count(PageState::Lost), 20);
    assert_eq!(book.state(50), Some(PageState::Backed));
    assert_eq!(
        (book.ballooned(), book.assigned(), book.removed()),
        (20, 580, 20)
    );
    book.forget();
    assert_eq!(book.count(PageState::Lost), 20, "lost once is lost");
}

#[test]
fn hot_added_memory_joins_the_piece_before_it_and_goes_alone() {
    let mut book = book();
    for start in [2000, 2100, 2200] {
        book.make_room(PageRun::new(start, 100)).unwrap();
        book.offer(PageRun::new(start, 100));
        assert_eq!(
            (book.assigned(), book.visible()),
            (600 + start - 2000 + 100, 600 + start - 2000)
        );
        assert!(book.accept(100).is_empty());
    }
    book.make_room(PageRun::new(3000, 100)).unwrap();
    book.offer(PageRun::new(3000, 100));
    assert_eq!(book.accept(40), PageRun::new(3040, 60));
    let pieces: Vec<_> = book.segments().collect();
    assert_eq!(pieces.len(), 4);
    assert_eq!(pieces[2], (PageRun::new(2000, 300), true));
    assert_eq!(book.added(), 340);
    book.drop_hot_added();
    assert_eq!((book.visible(), book.top()), (600, 1500));
}

#[test]
fn a_book_takes_no_more_than_it_says_however_its_ram_came() {
    const GIB: u64 = 1 << 18;
    let most = GuestPages::most_bytes(64 * GIB);
    // 64 KiB for each GiB, and at most one chunk of 16 KiB for each piece.
    assert!(
        most < 64 * (64 << 10) + 66 * (16 << 10) + (32 << 10),
        "{most}"
    );
    // One piece that grows, and pieces apart.
    for (gap, count) in [(0, GIB / 8), (1, GIB / 8), (1, 3)] {
        let mut book = GuestPages::new(&[PageRun::new(0, GIB)]).unwrap();
        let mut start = 2 * GIB;
        while book.visible() + count <= 64 * GIB
            && book.check_new(PageRun::new(start, count)).is_ok()
        {
            let run = PageRun::new(start, count);
            book.make_room(run).unwrap();
            book.offer(run);
            book.accept(count);
            assert_eq!(book.state(run.end() - 1), Some(PageState::Backed));
            start += count + gap;
        }
        assert!(book.bytes() <= most, "{gap} {count}: {}", book.bytes());
    }
}

#[test]
fn ram_that_was_made_room_for_has_room_in_two_pieces_too() {
    const CHUNK: u64 = 1 << 16;
    let mut book = book();
    book.make_room(PageRun::new(CHUNK, CHUNK)).unwrap();
    for run in [PageRun::new(CHUNK, 5), PageRun::new(CHUNK + 7, CHUNK - 7)] {
        book.offer(run);
        book.accept(run.count);
        book.set(run, PageState::Lost);
    }
    assert_eq!(book.count(PageState::Lost), CHUNK - 2);
    assert_eq!(book.state(2 * CHUNK - 1), Some(PageState::Lost));
}

proptest! {
    #[test]
    fn the_map_of_bits_says_what_a_list_would(
        changes in prop::collection::vec((0_u64..1600, 0_u64..300, 0_usize..4), 0..40),
    ) {
        let mut book = book();
        let mut model: BTreeMap<u64, PageState> =
            (0..100).chain(1000..1500).map(|page| (page, PageState::Backed)).collect();
        for (start, count, state) in changes {
            // As the callers do: one state at a time.
            let mut rest = PageRun::new(start, count);
            while !rest.is_empty() {
                let (is, part) = book.leading(rest);
                for page in part.start..part.end() {
                    prop_assert_eq!(model.get(&page).copied(), is);
                }
                rest = rest.split(part.count).1;
                if is.is_some() {
                    book.set(part, PageState::ALL[state]);
                    model.extend((part.start..part.end()).map(|page| (page, PageState::ALL[state])));
                }
            }
            for state in PageState::ALL {
                let count = model.values().filter(|is| **is == state).count() as u64;
                prop_assert_eq!(book.count(state), count);
                let listed: u64 = book.runs().filter(|(is, _)| *is == state).map(|(_, run)| run.count).sum();
                prop_assert_eq!(listed, count);
            }
            // A search that is under way finds what is there, and only that.
            for state in [PageState::Ballooned, PageState::Withheld] {
                let next = book.next_back(state);
                prop_assert_eq!(next.is_some(), book.count(state) != 0);
                if let Some(run) = next {
                    prop_assert_eq!(book.leading(run), (Some(state), run));
                }
            }
        }
        for state in [PageState::Ballooned, PageState::Withheld] {
            let count = book.count(state);
            let given: u64 = back(&mut book, state, 7).iter().map(|(_, count)| count).sum();
            prop_assert_eq!(given, count);
        }
    }
}
