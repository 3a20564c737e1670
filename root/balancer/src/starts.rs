//! Which waiting VMs may start (section 4.5, step 1).

use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::input::PendingStart;
use crate::levels::Live;

/// What became of the waiting VMs.
pub(crate) struct Admission<'a> {
    /// Those for which there is memory, or will be. Heaviest first.
    pub(crate) accepted: Vec<&'a PendingStart>,
    /// Those for which memory cannot be found, even by taking all that they may have of others.
    pub(crate) rejected: Vec<&'a PendingStart>,
    /// What the accepted ones start with, together.
    pub(crate) startup: i128,
}

/// Looks at the heaviest first. A start may push live VMs down to their lower limits, and heavier ones only to what they need:
/// so what it finds depends on its weight. The floors of the last one that is accepted become the VMs' lower limits.
///
/// The lighter a start is, the more VMs are heavier. So both are gone through once, by weight, and the floors' sum only grows.
pub(crate) fn admit<'a>(
    live: &mut [Live<'_>],
    starts: &'a [PendingStart],
    capacity: i128,
) -> Admission<'a> {
    let mut admission = Admission {
        accepted: Vec::new(),
        rejected: Vec::new(),
        startup: 0,
    };
    if starts.is_empty() {
        return admission;
    }
    let mut starts: Vec<&PendingStart> = starts.iter().collect();
    starts.sort_unstable_by_key(|start| (Reverse(start.weight), start.id));
    let mut heaviest: Vec<&Live<'_>> = live.iter().collect();
    heaviest.sort_unstable_by_key(|live| Reverse(live.vm.weight));

    let mut floors: i128 = live.iter().map(|live| i128::from(live.lower)).sum();
    let mut next = heaviest.into_iter().peekable();
    for start in starts {
        while let Some(heavier) = next.next_if(|live| live.vm.weight > start.weight) {
            floors += i128::from(heavier.floor_for_lighter()) - i128::from(heavier.lower);
        }
        let startup = i128::from(start.startup);
        if floors + admission.startup + startup <= capacity {
            admission.startup += startup;
            admission.accepted.push(start);
        } else {
            admission.rejected.push(start);
        }
    }
    if let Some(last) = admission.accepted.last() {
        for live in live.iter_mut().filter(|live| live.vm.weight > last.weight) {
            live.lower = live.floor_for_lighter();
        }
    }
    admission
}
