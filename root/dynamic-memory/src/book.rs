//! The book of a VM's pages: which are backed, and which the guest has given back.
//!
//! It is the truth that the counters are computed from (trap 29), and lives behind [`Memory`](crate::Memory), with whoever has the
//! VM's memory: who replaces the process that speaks with the guest, can keep it (trap 42). Only the state machine changes it.
//!
//! It is a map of bits, not a list of ranges: a guest may return a 1 GiB balloon as 2^18 single pages, and a list
//! would take megabytes, allocated on the guest's word. The map takes 64 KiB for each GiB of RAM, is allocated before the
//! RAM is given, or the RAM is not given, and nothing that a guest sends makes it grow.

use alloc::vec::Vec;

use crate::run::PageRun;
use crate::search::Searches;
use crate::segment::{Chunk, PageState, Segment, at_or_behind, chunks_for};
use crate::wire::MAX_PAGE;

/// Most pieces of RAM. Hot-added memory joins the piece before it unless a hole is between, and a VM has a few holes;
/// at this limit there is no more hot-add.
pub const MAX_SEGMENTS: usize = 64;

/// Why pages cannot be a VM's RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// No pages, or page numbers of more than 40 bits.
    #[error("{0:?} is no RAM")]
    Range(PageRun),
    /// It is RAM already.
    #[error("{0:?} overlaps other RAM")]
    Overlap(PageRun),
    /// There are [`MAX_SEGMENTS`] pieces.
    #[error("more than {MAX_SEGMENTS} pieces of RAM")]
    TooMany,
    /// There is no memory for the book's own pages.
    #[error("no memory for the book of {0} pages")]
    NoMemory(u64),
}

/// The states of all pages of a VM.
#[derive(Debug)]
pub struct GuestPages {
    /// Sorted, without overlaps.
    segments: Vec<Segment>,
    /// For RAM that is to come, so that nothing can fail when it has come.
    chunks: Vec<Chunk>,
    /// New memory that the guest has been offered; backed, and in no segment.
    offered: Option<PageRun>,
    /// Pages of each state, in the order of [`PageState::ALL`].
    counts: [u64; 4],
    startup: u64,
    added: u64,
    removed: u64,
    searches: Searches,
}

impl GuestPages {
    /// The book of a VM that starts with this RAM, all of it backed.
    ///
    /// # Errors
    ///
    /// See [`BookError`].
    pub fn new(startup: &[PageRun]) -> Result<Self, BookError> {
        let mut book = Self {
            segments: Vec::with_capacity(MAX_SEGMENTS),
            chunks: Vec::new(),
            offered: None,
            counts: [0; 4],
            startup: 0,
            added: 0,
            removed: 0,
            searches: Searches::default(),
        };
        for &run in startup {
            book.check_new(run)?;
            book.make_room(run)?;
            book.insert(run, false);
        }
        book.startup = book.visible();
        Ok(book)
    }

    /// Most bytes that the book of a VM with at most `maximum` pages takes, whatever they are. A piece of RAM can leave a part
    /// of its last chunk unused, and one chunk is to spare.
    pub const fn most_bytes(maximum: u64) -> u64 {
        let chunks = chunks_for(maximum).saturating_add(MAX_SEGMENTS as u64 + 1);
        let segments = (MAX_SEGMENTS * size_of::<Segment>()) as u64;
        chunks.saturating_mul(Chunk::BYTES).saturating_add(segments)
    }

    /// Bytes that the book takes now, by the same count.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        let chunks = self.segments.iter().map(Segment::chunks).sum::<usize>() + self.chunks.len();
        let segments = self.segments.capacity() * size_of::<Segment>();
        chunks as u64 * Chunk::BYTES + segments as u64
    }

    /// Takes the memory that the book needs for new RAM, once that has been [checked](Self::check_new).
    ///
    /// # Errors
    /// [`BookError::NoMemory`]; what was taken is kept for the next time.
    pub(crate) fn make_room(&mut self, run: PageRun) -> Result<(), BookError> {
        let wanted = match self.piece_before(run) {
            Some(before) => before.chunks_to_extend(run.count),
            None => chunks_for(run.count),
        };
        // It may become two pieces, if a part in its middle is taken back.
        let wanted = wanted.saturating_add(1);
        while (self.chunks.len() as u64) < wanted {
            let chunk = Chunk::new().map_err(|_| BookError::NoMemory(run.count))?;
            self.chunks
                .try_reserve(1)
                .map_err(|_| BookError::NoMemory(run.count))?;
            self.chunks.push(chunk);
        }
        Ok(())
    }

    /// The piece that new memory joins.
    fn piece_before(&mut self, run: PageRun) -> Option<&mut Segment> {
        let at = self
            .segments
            .partition_point(|segment| segment.run().start < run.start);
        let before = self.segments.get_mut(at.checked_sub(1)?)?;
        (before.is_hot_added() && before.run().end() == run.start).then_some(before)
    }

    /// Whether pages can become RAM.
    pub(crate) fn check_new(&self, run: PageRun) -> Result<(), BookError> {
        if run.is_empty() || run.count > MAX_PAGE || run.end() > MAX_PAGE {
            return Err(BookError::Range(run));
        }
        if self
            .segments
            .iter()
            .any(|segment| segment.run().overlaps(run))
        {
            return Err(BookError::Overlap(run));
        }
        if self.segments.len() >= MAX_SEGMENTS {
            return Err(BookError::TooMany);
        }
        Ok(())
    }

    /// There is [room](Self::make_room) for it.
    fn insert(&mut self, run: PageRun, hot_added: bool) {
        self.add(PageState::Backed, run.count);
        let mut chunks = core::mem::take(&mut self.chunks);
        match self.piece_before(run).filter(|_| hot_added) {
            Some(before) => before.extend(run.count, &mut chunks),
            None => {
                let at = self
                    .segments
                    .partition_point(|segment| segment.run().start < run.start);
                let segment = Segment::new(run, hot_added, &mut chunks);
                self.segments.insert(at, segment);
            }
        }
        self.chunks = chunks;
    }

    /// How many pages are in that state.
    fn slot(&mut self, state: PageState) -> &mut u64 {
        let [backed, ballooned, withheld, lost] = &mut self.counts;
        match state {
            PageState::Backed => backed,
            PageState::Ballooned => ballooned,
            PageState::Withheld => withheld,
            PageState::Lost => lost,
        }
    }

    fn add(&mut self, state: PageState, count: u64) {
        let slot = self.slot(state);
        *slot = slot.saturating_add(count);
    }

    fn sub(&mut self, state: PageState, count: u64) {
        let slot = self.slot(state);
        *slot = slot.saturating_sub(count);
    }

    /// How many pages are in that state.
    pub fn count(&self, state: PageState) -> u64 {
        let [backed, ballooned, withheld, lost] = self.counts;
        match state {
            PageState::Backed => backed,
            PageState::Ballooned => ballooned,
            PageState::Withheld => withheld,
            PageState::Lost => lost,
        }
    }

    /// Pages that the guest believes it has: startup RAM and what it took of new memory. Falls with a reset only.
    pub fn visible(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// Pages that the guest gave back and that were taken; those that are lost as well.
    pub fn ballooned(&self) -> u64 {
        self.count(PageState::Ballooned)
            .saturating_add(self.count(PageState::Lost))
    }

    /// Pages that the present driver of the guest counts as ballooned.
    pub fn held_by_guest(&self) -> u64 {
        self.count(PageState::Ballooned)
            .saturating_add(self.count(PageState::Withheld))
    }

    /// Pages that machine memory is behind: visible less ballooned, and what is offered at the moment.
    pub fn assigned(&self) -> u64 {
        self.visible()
            .saturating_sub(self.ballooned())
            .saturating_add(self.offered_pages())
    }

    /// Pages of new memory that the guest has been offered and has not answered for.
    pub fn offered_pages(&self) -> u64 {
        self.offered.map_or(0, |run| run.count)
    }

    /// New memory that the guest has been offered and has not answered for.
    pub fn offered(&self) -> Option<PageRun> {
        self.offered
    }

    /// Pages that the VM started with.
    pub fn startup(&self) -> u64 {
        self.startup
    }

    /// Pages added since the start: assigned = startup + added - removed + offered.
    pub fn added(&self) -> u64 {
        self.added
    }

    /// Pages taken since the start.
    pub fn removed(&self) -> u64 {
        self.removed
    }

    /// The page behind the last page of RAM.
    pub fn top(&self) -> u64 {
        self.segments
            .last()
            .map_or(0, |segment| segment.run().end())
    }

    /// The first page's state (`None`: not RAM), and the pages from there on that share it, as far as `within` goes.
    /// Never empty unless `within` is.
    pub fn leading(&self, within: PageRun) -> (Option<PageState>, PageRun) {
        let at = at_or_behind(&self.segments, within.start);
        let Some(segment) = self.segments.get(at) else {
            return (None, within);
        };
        match segment.leading(within.start, within.count) {
            Some((state, count)) => (Some(state), within.split(count).0),
            None => {
                let hole = segment.run().start.saturating_sub(within.start);
                (None, within.split(hole).0)
            }
        }
    }

    /// The state of a page, `None` if it is not RAM.
    pub fn state(&self, page: u64) -> Option<PageState> {
        self.leading(PageRun::new(page, 1)).0
    }

    /// Pieces of RAM, sorted, and whether they came by hot-add.
    pub fn segments(&self) -> impl Iterator<Item = (PageRun, bool)> {
        self.segments
            .iter()
            .map(|segment| (segment.run(), segment.is_hot_added()))
    }

    /// All runs of one state within RAM, in order of address.
    pub fn runs(&self) -> impl Iterator<Item = (PageState, PageRun)> {
        self.segments.iter().flat_map(|segment| {
            let mut rest = segment.run();
            core::iter::from_fn(move || {
                let (state, count) = segment.leading(rest.start, rest.count)?;
                let (run, behind) = rest.split(count);
                rest = behind;
                Some((state, run))
            })
        })
    }

    /// The run that goes back to the guest next: pages of its balloon, or [`PageState::Withheld`]. The same again until its
    /// state is another. `None` if there is none, and for other states.
    pub(crate) fn next_back(&mut self, state: PageState) -> Option<PageRun> {
        self.searches.next(state, &self.segments)
    }

    /// Gives the pages of a run, which are all in one state, another one. What is moved into and out of the balloon is
    /// counted as removed and added.
    pub(crate) fn set(&mut self, run: PageRun, to: PageState) {
        let (Some(from), run) = self.leading(run) else {
            return;
        };
        let at = at_or_behind(&self.segments, run.start);
        let Some(segment) = self.segments.get_mut(at) else {
            return;
        };
        segment.set(run, to);
        self.searches.begin_again(to);
        self.sub(from, run.count);
        self.add(to, run.count);
        match (from.is_backed(), to.is_backed()) {
            (true, false) => self.removed = self.removed.saturating_add(run.count),
            (false, true) => self.added = self.added.saturating_add(run.count),
            _ => {}
        }
    }

    /// A new driver: see [`Segment::forget`].
    pub(crate) fn forget(&mut self) {
        let [_, ballooned, withheld, _] = self.counts;
        self.segments.iter_mut().for_each(Segment::forget);
        self.sub(PageState::Ballooned, ballooned);
        self.add(PageState::Lost, ballooned);
        self.sub(PageState::Withheld, withheld);
        self.add(PageState::Backed, withheld);
    }

    /// New memory, backed, is offered. There is [room](Self::make_room) for it.
    pub(crate) fn offer(&mut self, run: PageRun) {
        self.offered = Some(run);
    }

    /// The guest has taken the first `count` pages of what was offered. What it has not taken.
    pub(crate) fn accept(&mut self, count: u64) -> PageRun {
        let Some(offered) = self.offered.take() else {
            return PageRun::new(0, 0);
        };
        let (taken, rest) = offered.split(count);
        if !taken.is_empty() {
            self.added = self.added.saturating_add(taken.count);
            self.insert(taken, true);
        }
        rest
    }

    /// Hot-added memory, of which nothing is backed any more, is no RAM any more.
    pub(crate) fn drop_hot_added(&mut self) {
        let (gone, kept) = core::mem::take(&mut self.segments)
            .into_iter()
            .partition(|segment| segment.is_hot_added());
        self.segments = kept;
        let gone: Vec<Segment> = gone;
        for segment in gone {
            let mut rest = segment.run();
            while let Some((state, count)) = segment.leading(rest.start, rest.count) {
                self.sub(state, count);
                rest = rest.split(count).1;
            }
        }
    }
}
