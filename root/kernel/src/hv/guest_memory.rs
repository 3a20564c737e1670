//! Mappings of a guest's memory.

use alloc::vec::Vec;

use tlfs::{
    HV_LARGE_PAGE_PAGES, HvCallCode, HvInputMapGpaPages, HvInputUnmapGpaPages, HvMapGpaFlags,
    HvPartitionId, HvUnmapGpaFlags,
};
use zerocopy::IntoBytes;

use super::{Hv, HvError, Retry, rep_control};
use crate::addr::Pfn;
use crate::frames::Slot;

/// List elements of a map call: the header takes 24 bytes of the page. An unmap call has no list, but no more either.
const MOST_REPS: usize = 509;
/// Pages deposited at once when a map call lacks memory for second-level tables.
const MAP_DEPOSIT: u64 = 256;

/// One mapping: a page or a large page.
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
    /// Guest pages.
    pub fn pages(&self) -> u64 {
        if self.large { HV_LARGE_PAGE_PAGES } else { 1 }
    }
}

/// How far a list of leaves was worked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Progress {
    /// Leaves from the first on that are done.
    pub done: usize,
    /// Why the rest is not.
    pub error: Option<HvError>,
}

impl Progress {
    /// All, or an error.
    ///
    /// # Errors
    /// Why it is not all.
    pub fn complete(self) -> Result<(), HvError> {
        self.error.map_or(Ok(()), Err)
    }
}

impl Hv<'_, '_> {
    /// Maps leaves into a guest, in as few calls as possible, and deposits what that needs. What is done stays mapped. Of
    /// the leaf at which it stopped a part may be mapped: the hypervisor may need several steps for a large page.
    pub fn map_guest(
        &mut self,
        partition: HvPartitionId,
        slot: Slot,
        leaves: &[Leaf],
        flags: HvMapGpaFlags,
    ) -> Progress {
        let retry = Retry {
            pages: Some(MAP_DEPOSIT),
            ..Retry::child(partition, slot)
        };
        self.in_batches(leaves, |hv, batch, first| {
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
            hv.paid_rep(HvCallCode::MAP_GPA_PAGES, batch.len(), retry, &input)
        })
    }

    /// Removes leaves from a guest; one that is not mapped counts as removed. Small ones may be part of a large mapping,
    /// which the hypervisor splits then: what that needs is deposited. What is done has left every processor.
    pub fn unmap_guest(
        &mut self,
        partition: HvPartitionId,
        slot: Slot,
        leaves: &[Leaf],
    ) -> Progress {
        let retry = Retry::child(partition, slot);
        self.in_batches(leaves, |hv, batch, first| {
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
            let call = HvCallCode::UNMAP_GPA_PAGES;
            hv.paid_rep(call, batch.len(), retry, input.as_bytes())
        })
    }

    /// Gives as many leaves at once to `work` as fit in a call, up to the first error.
    fn in_batches(
        &mut self,
        leaves: &[Leaf],
        mut work: impl FnMut(&mut Self, &[Leaf], &Leaf) -> Progress,
    ) -> Progress {
        let mut done = 0usize;
        loop {
            let rest = leaves.get(done..).unwrap_or_default();
            let batch = rest.get(..batch_len(rest)).unwrap_or_default();
            let Some(first) = batch.first() else {
                return Progress { done, error: None };
            };
            let progress = work(self, batch, first);
            done = done.saturating_add(progress.done);
            if progress.error.is_some() {
                return Progress { done, ..progress };
            }
        }
    }

    /// A rep call without output from its first to its last element, with deposits.
    fn paid_rep(&mut self, call: HvCallCode, count: usize, retry: Retry, input: &[u8]) -> Progress {
        let mut done = 0;
        while done < count {
            let before = done;
            let result = self.with_deposits(call, retry, |calls, _| {
                let result = calls.call(rep_control(call, count, done), input, &mut []);
                done = result.reps_completed().clamp(done, count);
                result
            });
            let error = match result {
                Ok(_) if done > before => continue,
                Ok(_) => HvError::NoProgress(call),
                Err(error) => error,
            };
            let error = Some(error);
            return Progress { done, error };
        }
        Progress { done, error: None }
    }
}

/// How many leaves from the start fit in one call: of one size, at consecutive guest pages.
fn batch_len(leaves: &[Leaf]) -> usize {
    let Some(first) = leaves.first() else {
        return 0;
    };
    let mut expected = first.gpfn;
    let fitting = leaves.iter().take(MOST_REPS).take_while(|leaf| {
        let fits = leaf.large == first.large && leaf.gpfn == expected;
        expected = expected.saturating_add(leaf.pages());
        fits
    });
    fitting.count()
}
