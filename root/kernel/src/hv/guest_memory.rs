//! Guest memory: which frames of a process back which pages of its guest.

use alloc::vec::Vec;

use tlfs::{
    HV_LARGE_PAGE_PAGES, HvCallCode, HvHypercallInput, HvInputMapGpaPages, HvInputUnmapGpaPages,
    HvMapGpaFlags, HvPartitionId, HvUnmapGpaFlags,
};
use zerocopy::IntoBytes;

use super::{Hv, HvError, Retry};
use crate::addr::{PAGE_SIZE, Pfn};
use crate::frames::Slot;

/// List elements of a map call: the header takes 24 bytes of the page.
const MAP_REPS: usize = 509;
/// Elements of an unmap call, which has no list.
const UNMAP_REPS: u64 = 512;
/// Pages deposited at once when a map call lacks memory for second-level tables.
const MAP_DEPOSIT: u64 = 256;
/// Guest page numbers must stay below this: 52 address bits.
const GPFN_LIMIT: u64 = 1 << 40;

/// A range of guest memory and what backs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First guest page.
    pub gpfn: u64,
    /// Pages.
    pub pages: u64,
    /// Address in the process.
    pub address: u64,
}

impl Region {
    /// Checks the arguments of a process.
    pub fn new(gpfn: u64, bytes: u64, address: u64) -> Option<Self> {
        let pages = bytes / PAGE_SIZE;
        let fits = gpfn.checked_add(pages).is_some_and(|end| end <= GPFN_LIMIT);
        let aligned = bytes.is_multiple_of(PAGE_SIZE) && address.is_multiple_of(PAGE_SIZE);
        (pages > 0 && fits && aligned).then_some(Self {
            gpfn,
            pages,
            address,
        })
    }

    fn overlaps(&self, other: &Region) -> bool {
        self.gpfn < other.gpfn.saturating_add(other.pages)
            && other.gpfn < self.gpfn.saturating_add(self.pages)
    }
}

/// One mapping to be made: a page or a large page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// First guest page.
    pub gpfn: u64,
    /// First frame.
    pub pfn: Pfn,
    /// 2 MiB instead of 4 KiB.
    pub large: bool,
}

impl Leaf {
    fn pages(&self) -> u64 {
        if self.large { HV_LARGE_PAGE_PAGES } else { 1 }
    }
}

/// The regions of one guest. Regions never overlap; one is removed as a whole, as it was added.
#[derive(Clone, Debug, Default)]
pub struct GuestMemory {
    regions: Vec<Region>,
}

/// Most regions of a guest.
const MOST_REGIONS: usize = 256;

impl GuestMemory {
    /// Whether a region may be added.
    ///
    /// # Errors
    /// [`HvError::State`] if it overlaps one that is there, [`HvError::Argument`] if there are too many.
    pub fn admit(&self, region: &Region) -> Result<(), HvError> {
        if self.regions.len() >= MOST_REGIONS {
            return Err(HvError::Argument);
        }
        let taken = self.regions.iter().any(|other| other.overlaps(region));
        if taken { Err(HvError::State) } else { Ok(()) }
    }

    /// Records a region that has been mapped.
    pub fn add(&mut self, region: Region) {
        self.regions.push(region);
    }

    /// Forgets a region: it must be exactly one that was added. Returns it.
    ///
    /// # Errors
    /// [`HvError::State`] if there is no such region.
    pub fn remove(&mut self, gpfn: u64, pages: u64) -> Result<Region, HvError> {
        let found = self
            .regions
            .iter()
            .position(|region| region.gpfn == gpfn && region.pages == pages);
        found
            .map(|at| self.regions.swap_remove(at))
            .ok_or(HvError::State)
    }

    /// Guest pages backed.
    pub fn pages(&self) -> u64 {
        self.regions.iter().map(|region| region.pages).sum()
    }
}

/// Cuts a region into leaves: large ones wherever guest page and frame are aligned and 512 frames are consecutive.
/// `run_at` gives the frame of the region's n-th page, and how many consecutive frames follow from there (at least
/// that one; more than the region has left does not matter).
///
/// # Errors
/// What `run_at` or `each` says.
pub fn leaves<E>(
    region: &Region,
    mut run_at: impl FnMut(u64) -> Result<(Pfn, u64), E>,
    mut each: impl FnMut(Leaf) -> Result<(), E>,
) -> Result<(), E> {
    let mut at = 0;
    while at < region.pages {
        let (first, run) = run_at(at)?;
        let run = run.clamp(1, region.pages.saturating_sub(at));
        let mut done = 0;
        while done < run {
            let gpfn = region.gpfn.saturating_add(at).saturating_add(done);
            let pfn = first.plus(done);
            let aligned = (gpfn | pfn.0).is_multiple_of(HV_LARGE_PAGE_PAGES);
            let large = aligned && run.saturating_sub(done) >= HV_LARGE_PAGE_PAGES;
            let leaf = Leaf { gpfn, pfn, large };
            done = done.saturating_add(leaf.pages());
            each(leaf)?;
        }
        at = at.saturating_add(run);
    }
    Ok(())
}

impl Hv<'_, '_> {
    /// Maps leaves into a guest, in as few calls as possible. On failure nothing of them stays mapped.
    ///
    /// # Errors
    /// [`HvError`].
    pub fn map_guest(
        &mut self,
        partition: HvPartitionId,
        slot: Slot,
        leaves: &[Leaf],
        flags: HvMapGpaFlags,
    ) -> Result<(), HvError> {
        let mut done = 0;
        while done < leaves.len() {
            let rest = leaves.get(done..).unwrap_or_default();
            let batch = rest.get(..batch_len(rest)).unwrap_or_default();
            let (mapped, error) = self.map_batch(partition, slot, batch, flags);
            done = done.saturating_add(mapped);
            if let Some(error) = error {
                // The failure is what the caller learns; pages that cannot be unmapped now go with the partition.
                let _ = self.unmap_guest(partition, leaves.get(..done).unwrap_or_default());
                return Err(error);
            }
        }
        Ok(())
    }

    fn map_batch(
        &mut self,
        partition: HvPartitionId,
        slot: Slot,
        batch: &[Leaf],
        flags: HvMapGpaFlags,
    ) -> (usize, Option<HvError>) {
        let call = HvCallCode::MAP_GPA_PAGES;
        let Some(first) = batch.first() else {
            return (0, Some(HvError::Argument));
        };
        let large = if first.large {
            HvMapGpaFlags::LARGE_PAGE
        } else {
            HvMapGpaFlags::default()
        };
        let header = HvInputMapGpaPages {
            target_partition_id: partition,
            target_gpa_base: first.gpfn,
            map_flags: flags | large,
            padding: 0,
        };
        let mut input = Vec::from(header.as_bytes());
        batch
            .iter()
            .for_each(|leaf| input.extend_from_slice(leaf.pfn.0.as_bytes()));
        let retry = Retry {
            pages: Some(MAP_DEPOSIT),
            ..Retry::child(partition, slot)
        };
        let mut mapped = 0;
        while mapped < batch.len() {
            let before = mapped;
            let result = self.with_deposits(call, retry, |calls, done| {
                mapped = done.clamp(mapped, batch.len());
                let control = HvHypercallInput::new()
                    .with_call_code(call)
                    .with_rep_count(batch.len())
                    .with_rep_start(mapped);
                let result = calls.call(control, &input, &mut []);
                mapped = result.reps_completed().clamp(mapped, batch.len());
                result
            });
            match result {
                Ok(_) if mapped > before => {}
                Ok(_) => return (mapped, Some(HvError::NoProgress(call))),
                Err(error) => return (mapped, Some(error)),
            }
        }
        (mapped, None)
    }

    /// Removes leaves from a guest.
    ///
    /// # Errors
    /// The first refusal; the rest is tried all the same.
    pub fn unmap_guest(
        &mut self,
        partition: HvPartitionId,
        leaves: &[Leaf],
    ) -> Result<(), HvError> {
        let call = HvCallCode::UNMAP_GPA_PAGES;
        let (mut done, mut first_error) = (0, None);
        while done < leaves.len() {
            let rest = leaves.get(done..).unwrap_or_default();
            let batch = rest
                .get(..batch_len(rest).min(UNMAP_REPS as usize))
                .unwrap_or_default();
            let Some(first) = batch.first() else { break };
            let unmap_flags = if first.large {
                HvUnmapGpaFlags::LARGE_PAGE
            } else {
                HvUnmapGpaFlags::default()
            };
            let input = HvInputUnmapGpaPages {
                target_partition_id: partition,
                target_gpa_base: first.gpfn,
                unmap_flags,
                padding: 0,
            };
            let (_, error) = self.rep(call, batch.len(), input.as_bytes(), &mut []);
            first_error = first_error.or(error);
            done = done.saturating_add(batch.len());
        }
        first_error.map_or(Ok(()), Err)
    }
}

/// How many leaves from the start fit in one call: of one size, at consecutive guest pages.
fn batch_len(leaves: &[Leaf]) -> usize {
    let Some(first) = leaves.first() else {
        return 0;
    };
    let mut expected = first.gpfn;
    let fitting = leaves.iter().take(MAP_REPS).take_while(|leaf| {
        let fits = leaf.large == first.large && leaf.gpfn == expected;
        expected = expected.saturating_add(leaf.pages());
        fits
    });
    fitting.count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(region: Region, run_at: impl Fn(u64) -> (Pfn, u64)) -> Vec<Leaf> {
        let mut list = Vec::new();
        let each = |leaf| {
            list.push(leaf);
            Ok::<(), ()>(())
        };
        leaves(&region, |at| Ok(run_at(at)), each).unwrap();
        list
    }

    #[test]
    fn large_leaves_need_alignment_on_both_sides_and_consecutive_frames() {
        let region = Region {
            gpfn: 0,
            pages: 1024 + 3,
            address: 0,
        };
        let aligned = cut(region, |at| (Pfn(512 + at), 5000));
        assert_eq!(aligned.iter().filter(|leaf| leaf.large).count(), 2);
        assert_eq!(aligned.len(), 5);
        let off_by_one = cut(region, |at| (Pfn(513 + at), 5000));
        assert!(off_by_one.iter().all(|leaf| !leaf.large));
        let short_runs = cut(region, |at| (Pfn(512 + at), 512 - at % 512));
        assert_eq!(short_runs, aligned);
        let single_frames = cut(region, |at| (Pfn(512 + at), 1));
        assert!(single_frames.iter().all(|leaf| !leaf.large));
    }

    #[test]
    fn arguments_that_wrap_or_are_not_whole_pages_are_refused() {
        assert!(Region::new(0, 0x1000, 0x10_0000).is_some());
        assert!(Region::new(0, 0, 0x10_0000).is_none());
        assert!(Region::new(0, 0x1001, 0x10_0000).is_none());
        assert!(Region::new(0, 0x1000, 0x10_0001).is_none());
        assert!(Region::new(u64::MAX, 0x1000, 0x10_0000).is_none());
        assert!(Region::new(GPFN_LIMIT - 1, 0x2000, 0x10_0000).is_none());
    }

    #[test]
    fn regions_do_not_overlap_and_go_as_they_came() {
        let mut memory = GuestMemory::default();
        let region = Region {
            gpfn: 16,
            pages: 16,
            address: 0,
        };
        memory.admit(&region).unwrap();
        memory.add(region);
        assert_eq!(
            memory.admit(&Region {
                gpfn: 31,
                pages: 1,
                address: 0
            }),
            Err(HvError::State)
        );
        assert_eq!(
            memory.admit(&Region {
                gpfn: 0,
                pages: 17,
                address: 0
            }),
            Err(HvError::State)
        );
        assert_eq!(
            memory.admit(&Region {
                gpfn: 32,
                pages: 1,
                address: 0
            }),
            Ok(())
        );
        assert_eq!(memory.remove(16, 8), Err(HvError::State));
        assert_eq!(
            (memory.pages(), memory.remove(16, 16), memory.pages()),
            (16, Ok(region), 0)
        );
    }

    proptest! {
        #[test]
        fn leaves_cover_the_region_once_with_the_right_frames(
            gpfn in 0u64..2000, pages in 1u64..2500, offset in 0u64..1024, run in 1u64..2000
        ) {
            // Frames in runs, each run elsewhere.
            let frame_at = |at: u64| Pfn(4096 + offset + at + at / run * 512);
            let mut next = gpfn;
            for leaf in cut(Region { gpfn, pages, address: 0 }, |at| (frame_at(at), run - at % run)) {
                prop_assert_eq!(leaf.gpfn, next);
                for at in 0..leaf.pages() {
                    prop_assert_eq!(frame_at(next - gpfn + at), leaf.pfn.plus(at));
                }
                next += leaf.pages();
            }
            prop_assert_eq!(next, gpfn + pages);
        }
    }
}
