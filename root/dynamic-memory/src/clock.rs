//! Time of the VM: it stands still while the VM is paused (sheet 2.8).

use crate::Time;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    /// Time spent paused.
    skipped: Time,
    /// Since when it is paused.
    paused: Option<Time>,
    /// The latest time that was seen: a clock never goes back.
    latest: Time,
}

impl Clock {
    /// Time of the VM at `now`.
    pub(crate) fn at(&mut self, now: Time) -> Time {
        self.latest = self.latest.max(now);
        self.vm()
    }

    /// Time of the VM at the last call.
    pub(crate) fn vm(&self) -> Time {
        self.paused
            .unwrap_or(self.latest)
            .saturating_sub(self.skipped)
    }

    pub(crate) fn pause(&mut self, now: Time) {
        self.at(now);
        self.paused.get_or_insert(self.latest);
    }

    pub(crate) fn resume(&mut self, now: Time) {
        self.at(now);
        if let Some(since) = self.paused.take() {
            let pause = self.latest.saturating_sub(since);
            self.skipped = self.skipped.saturating_add(pause);
        }
    }

    /// Reference time of a time of the VM, `None` while it is paused.
    pub(crate) fn reference(&self, vm: Time) -> Option<Time> {
        if self.paused.is_some() {
            return None;
        }
        vm.checked_add(self.skipped)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }
}
