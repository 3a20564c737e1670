//! Where VPs of children have their turns.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What a processor has room for, and whether a child's VP is well off there.
#[derive(Debug, Default)]
pub struct Residents {
    count: AtomicU32,
    /// How many children wanted to run when the processor looked last, and those that others have sent here since.
    load: AtomicU32,
    /// The root's VP of this processor takes notices of intercepts: SINT0 is on.
    served: AtomicBool,
}

impl Residents {
    /// None yet, and nobody who would serve them.
    pub const fn new() -> Self {
        Self {
            count: AtomicU32::new(0),
            load: AtomicU32::new(0),
            served: AtomicBool::new(false),
        }
    }

    /// The root's VP of this processor takes notices from now on, or no longer.
    pub fn set_served(&self, served: bool) {
        self.served.store(served, Ordering::Relaxed);
    }

    /// How many children want to run here. For this processor.
    #[inline]
    pub fn set_load(&self, load: u32) {
        self.load.store(load, Ordering::Relaxed);
    }

    /// Counts one more, if there are fewer than `most`.
    fn enter(&self, most: u32) -> bool {
        let more = |count| (count < most).then_some(count + 1);
        let entered = self
            .count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        entered.is_ok()
    }

    /// Counts one that comes from another processor and wants to run, if there are fewer than `most`.
    pub fn receive(&self, most: u32) -> bool {
        let entered = self.enter(most);
        if entered {
            self.load.fetch_add(1, Ordering::Relaxed);
        }
        entered
    }

    /// Counts one less.
    pub fn leave(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Finds a home for a VP, by index, and counts it there: the processor with the fewest of those where the root takes notices,
/// from `here` on upwards; or `here`, if the root takes them nowhere. `None` if that one has `most` of them.
pub fn find_home<'a>(
    all: impl ExactSizeIterator<Item = &'a Residents> + Clone,
    here: u32,
    most: u32,
) -> Option<u32> {
    let count = all.len() as u32;
    let distance = |index: u32| (index + count).saturating_sub(here) % count.max(1);
    let served = (0..)
        .zip(all.clone())
        .filter(|(_, one)| one.served.load(Ordering::Relaxed));
    let best =
        served.min_by_key(|(index, one)| (one.count.load(Ordering::Relaxed), distance(*index)));
    let (index, home) = best.or_else(|| (0..).zip(all).find(|(index, _)| *index == here))?;
    home.enter(most).then_some(index)
}

/// Finds a better home for a VP that waits at `here`, where `load` want to run: the processor with the smallest load of those
/// where the root takes notices. `None` if moving would not make the two loads more alike.
pub fn find_lighter<'a>(
    all: impl Iterator<Item = &'a Residents>,
    here: u32,
    load: u32,
) -> Option<u32> {
    let others = (0..).zip(all).filter(|(index, one)| {
        let elsewhere = *index != here;
        elsewhere && one.served.load(Ordering::Relaxed)
    });
    let loads = others.map(|(index, one)| (one.load.load(Ordering::Relaxed), index));
    let (least, index) = loads.min()?;
    (least.saturating_add(2) <= load).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine<const N: usize>(served: [bool; N]) -> [Residents; N] {
        served.map(|served| {
            let one = Residents::new();
            one.set_served(served);
            one
        })
    }

    #[test]
    fn homes_are_taken_in_turn_where_the_root_takes_notices() {
        let all = machine([true, false, true, true]);
        let homes = [(); 6].map(|()| find_home(all.iter(), 2, 99).unwrap());
        assert_eq!(homes, [2, 3, 0, 2, 3, 0]);
        all[3].leave();
        assert_eq!(find_home(all.iter(), 0, 99), Some(3));
    }

    #[test]
    fn a_vp_moves_only_if_the_loads_become_more_alike() {
        let all = machine([true, true, false, true]);
        for (one, load) in all.iter().zip([4, 2, 0, 1]) {
            one.set_load(load);
        }
        let mut load = 4;
        let mut homes = Vec::new();
        while let Some(home) = find_lighter(all.iter(), 0, load) {
            assert!(all[home as usize].receive(99));
            load -= 1;
            homes.push(home);
        }
        assert_eq!(homes, [3], "3, 2 and 2 is as good as it gets");
        assert_eq!(find_lighter(all.iter(), 1, 2), None);
    }

    #[test]
    fn without_notices_a_vp_stays_where_it_is_made() {
        let all = machine([false; 3]);
        assert_eq!(find_home(all.iter(), 1, 2), Some(1));
        assert_eq!(find_home(all.iter(), 1, 2), Some(1));
        assert_eq!(find_home(all.iter(), 1, 2), None);
        assert_eq!(find_home(all.iter(), 2, 2), Some(2));
    }

    #[test]
    fn no_processor_gets_more_than_it_can_have() {
        let all = machine([true, true]);
        let homes = [(); 5].map(|()| find_home(all.iter(), 0, 2));
        assert_eq!(homes, [Some(0), Some(1), Some(0), Some(1), None]);
        assert!(!all[1].receive(2));
        assert_eq!(
            find_lighter(all.iter(), 0, 2),
            Some(1),
            "its load is still 0"
        );
    }
}
