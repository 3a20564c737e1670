//! The machine's memory, seen from the loader: what is RAM, what is taken, what is a device.

use core::ops::Range;

use arrayvec::ArrayVec;
use boot_archive::start_info::{MAX_MEMORY_MAP, MemoryMapEntry, kind};

use crate::paging::{Cache, Mapping, Rights};
use crate::{DIRECT_MAP, DIRECT_MAP_LIMIT, FOUR_GIB, PAGE};

/// Most ranges that can be kept besides the memory map's.
pub const MAX_KEPT: usize = 16;
const MAX_CLAIMS: usize = MAX_MEMORY_MAP as usize + MAX_KEPT;
const MAX_RUNS: usize = 2 * MAX_CLAIMS;

/// Below this, nothing is placed: firmware data, and pages for starting processors.
const LOW_MEMORY: u64 = 1 << 20;
/// From here on things are placed if there is room: below are addresses that old DMA wants.
const PREFERRED: u64 = 16 << 20;

/// What a page is used for. Where claims overlap, the greater one wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Free RAM.
    Free,
    /// RAM with something in it: ACPI tables.
    Data,
    /// Reserved, a device, or unknown.
    Device,
    /// RAM that holds what the loader needs: the archive, itself, the start info.
    Kept,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    start: u64,
    end: u64,
    class: Class,
}

/// Memory as sorted, disjoint runs of whole pages, and what has been handed out of it.
#[derive(Clone, Debug)]
pub struct Layout {
    runs: ArrayVec<Run, MAX_RUNS>,
    taken: ArrayVec<Range<u64>, MAX_KEPT>,
}

impl Layout {
    /// Sorts a memory map out. `kept` are ranges in RAM that hold something, whatever the map says about them; more than
    /// [`MAX_KEPT`] are refused with `None`, as is a memory map of more than 512 entries.
    pub fn new(
        map: impl IntoIterator<Item = MemoryMapEntry>,
        kept: impl IntoIterator<Item = Range<u64>>,
    ) -> Option<Self> {
        let mut claims = ArrayVec::<Run, MAX_CLAIMS>::new();
        for entry in map {
            claims.try_push(claim(&entry)).ok()?;
        }
        for range in kept {
            claims.try_push(outward(range, Class::Kept)).ok()?;
        }
        claims.retain(|claim| claim.start < claim.end);
        Some(Self {
            runs: runs_of(&claims),
            taken: ArrayVec::new(),
        })
    }

    /// Takes `bytes` (whole pages) of free RAM that ends at or below `below`: above 16 MiB if there is room, and never in
    /// the first MiB. The same memory is not handed out twice. `None` if there is no such range.
    pub fn allocate(&mut self, bytes: u64, below: u64) -> Option<Range<u64>> {
        let bytes = bytes
            .checked_next_multiple_of(PAGE)
            .filter(|bytes| *bytes != 0)?;
        let found = self
            .find(bytes, PREFERRED, below)
            .or_else(|| self.find(bytes, LOW_MEMORY, below))?;
        self.taken.try_push(found.clone()).ok()?;
        Some(found)
    }

    fn find(&self, bytes: u64, above: u64, below: u64) -> Option<Range<u64>> {
        self.runs
            .iter()
            .filter(|run| run.class == Class::Free)
            .find_map(|run| {
                let limit = run.end.min(below);
                let mut start = run.start.max(above);
                loop {
                    let range = start..start.checked_add(bytes).filter(|end| *end <= limit)?;
                    // Each round skips one taken range, so this ends.
                    match self
                        .taken
                        .iter()
                        .find(|taken| taken.start < range.end && range.start < taken.end)
                    {
                        Some(taken) => start = taken.end,
                        None => return Some(range),
                    }
                }
            })
    }

    /// Whether all of `range` is RAM, and so in the direct map with write-back caching.
    pub fn is_ram(&self, range: &Range<u64>) -> bool {
        self.cached()
            .any(|ram| ram.start <= range.start && range.end <= ram.end)
            && range.start <= range.end
    }

    /// Bytes of RAM, whoever uses them.
    pub fn ram_bytes(&self) -> u64 {
        self.cached()
            .map(|range| range.end - range.start)
            .fold(0, u64::saturating_add)
    }

    /// The direct map: all RAM cached, the rest of the first 4 GiB uncached; sorted, without overlaps.
    pub fn direct_map(&self) -> impl Iterator<Item = Mapping> + '_ {
        let mut cached = self.cached().peekable();
        let mut position = 0;
        core::iter::from_fn(move || {
            let next = cached
                .peek()
                .map_or(FOUR_GIB, |range| range.start)
                .min(FOUR_GIB);
            let (range, cache) = if position < next {
                (position..next, Cache::Uncached)
            } else {
                (cached.next()?, Cache::WriteBack)
            };
            position = range.end;
            let bytes = range.end - range.start;
            let virt = DIRECT_MAP + range.start;
            Some(Mapping {
                virt,
                gpa: range.start,
                bytes,
                rights: Rights::READ_WRITE,
                cache,
            })
        })
    }

    /// RAM as sorted ranges that do not touch each other.
    fn cached(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut runs = self
            .runs
            .iter()
            .filter(|run| run.class != Class::Device)
            .peekable();
        core::iter::from_fn(move || {
            let first = runs.next()?;
            let mut end = first.end;
            while let Some(run) = runs.next_if(|run| run.start == end) {
                end = run.end;
            }
            Some(first.start..end)
        })
    }
}

/// A memory map entry in whole pages: RAM loses its part of a page that it shares, everything else takes it.
fn claim(entry: &MemoryMapEntry) -> Run {
    match entry.kind {
        kind::RAM => {
            let start = entry
                .addr
                .checked_next_multiple_of(PAGE)
                .unwrap_or(u64::MAX);
            Run {
                start,
                end: clip(entry.end() & !(PAGE - 1)),
                class: Class::Free,
            }
        }
        kind::ACPI | kind::NVS => outward(entry.addr..entry.end(), Class::Data),
        _ => outward(entry.addr..entry.end(), Class::Device),
    }
}

fn outward(range: Range<u64>, class: Class) -> Run {
    let end = range.end.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
    let empty = range.end <= range.start;
    Run {
        start: range.start & !(PAGE - 1),
        end: if empty { 0 } else { clip(end) },
        class,
    }
}

fn clip(end: u64) -> u64 {
    end.min(DIRECT_MAP_LIMIT)
}

/// Cuts overlapping claims into runs: between two neighbouring boundaries the greatest class there wins.
fn runs_of(claims: &[Run]) -> ArrayVec<Run, MAX_RUNS> {
    let mut boundaries = ArrayVec::<u64, MAX_RUNS>::new();
    boundaries.extend(claims.iter().flat_map(|claim| [claim.start, claim.end]));
    boundaries.sort_unstable();
    let mut runs = ArrayVec::<Run, MAX_RUNS>::new();
    for (start, end) in boundaries
        .iter()
        .zip(boundaries.iter().skip(1))
        .map(|(start, end)| (*start, *end))
    {
        let covers = |claim: &&Run| claim.start <= start && end <= claim.end;
        let class = claims.iter().filter(covers).map(|claim| claim.class).max();
        let Some(class) = class.filter(|_| start < end) else {
            continue;
        };
        match runs.last_mut() {
            Some(last) if last.end == start && last.class == class => last.end = end,
            // There are fewer runs than boundaries, so there is room.
            _ => runs.push(Run { start, end, class }),
        }
    }
    runs
}
