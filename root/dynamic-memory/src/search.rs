//! Which pages go back to the guest next.

use crate::run::PageRun;
use crate::segment::{PageState, Segment, at_or_behind};
use crate::wire::MAX_RANGE_PAGES;

/// Lengths that runs are told apart by: those that hold a mapping of 2 MiB go back first (trap 24), and few long ranges before
/// many short ones. Strictly longest first would be no better, and is not to be had without a list of all runs, which a guest
/// can make 2^17 long for each GiB.
const LEAST: [u64; 4] = [512, 64, 8, 1];

/// How far a search for the pages of one state has come.
///
/// It looks through the whole book once for each of [`LEAST`] that a run has, and goes on where it stopped: all that a balloon
/// holds costs a few looks, in however many messages it goes back.
///
/// Invariant: a run of the state before `at` is shorter than `least`, and not longer than `passed_over`. Pages that leave the
/// state cannot break it; with pages that come, the search begins again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    at: u64,
    least: u64,
    passed_over: u64,
}

impl Default for Search {
    fn default() -> Self {
        let [longest, ..] = LEAST;
        Self {
            at: 0,
            least: longest,
            passed_over: 0,
        }
    }
}

impl Search {
    /// From the beginning, for what was passed over. `None`: nothing was.
    fn again(self) -> Option<Self> {
        let least = LEAST
            .into_iter()
            .find(|least| (1..=self.passed_over).contains(least))?;
        Some(Self {
            at: 0,
            least,
            passed_over: 0,
        })
    }

    /// Where the next run is that is long enough, and how long, as one range can say it.
    fn next(&mut self, state: PageState, segments: &[Segment]) -> Option<PageRun> {
        loop {
            let Some(run) = find(state, self.at, segments) else {
                *self = self.again()?;
                continue;
            };
            if run.count >= self.least {
                // It is not passed: what is left of it stays in sight.
                self.at = run.start;
                return Some(run.split(MAX_RANGE_PAGES).0);
            }
            self.at = run.end();
            self.passed_over = self.passed_over.max(run.count);
        }
    }
}

/// The first run of that state that begins at or behind a page.
fn find(state: PageState, from: u64, segments: &[Segment]) -> Option<PageRun> {
    let behind = segments.get(at_or_behind(segments, from)..)?;
    behind.iter().find_map(|segment| {
        let start = segment.find(state, from)?;
        let (_, count) = segment.leading(start, u64::MAX)?;
        Some(PageRun::new(start, count))
    })
}

/// Searches of a book.
#[derive(Debug, Default)]
pub(crate) struct Searches {
    ballooned: Search,
    withheld: Search,
}

impl Searches {
    /// Pages have come into that state.
    pub(crate) fn begin_again(&mut self, state: PageState) {
        if let Some(search) = self.of(state) {
            *search = Search::default();
        }
    }

    /// The run that goes back next: pages of that state that follow each other, the long ones first (see [`LEAST`]). The
    /// same again until its state is another. `None` if there is none, and for states whose pages do not go back.
    pub(crate) fn next(&mut self, state: PageState, segments: &[Segment]) -> Option<PageRun> {
        self.of(state)?.next(state, segments)
    }

    fn of(&mut self, state: PageState) -> Option<&mut Search> {
        match state {
            PageState::Ballooned => Some(&mut self.ballooned),
            PageState::Withheld => Some(&mut self.withheld),
            PageState::Backed | PageState::Lost => None,
        }
    }
}
