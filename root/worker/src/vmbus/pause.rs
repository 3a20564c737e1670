//! When to try again what a guest was not ready for.

/// First pause before something is tried again, 100 ns: short against what a guest notices.
const FIRST_PAUSE: u64 = 10 * MILLISECOND;
/// Each pause is twice as long as the one before, up to this: what a guest that never gets ready costs is one try a second.
const LONGEST_PAUSE: u64 = 1000 * MILLISECOND;
/// 100 ns units.
const MILLISECOND: u64 = 10_000;

/// When to try again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    until: Option<u64>,
    length: u64,
}

impl Pause {
    /// When it is over, if there is one.
    pub fn until(&self) -> Option<u64> {
        self.until
    }

    /// Whether nothing is to be tried at `now`.
    pub fn lasts(&self, now: u64) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// A try was in vain.
    pub fn begin(&mut self, now: u64) {
        self.length = self
            .length
            .saturating_mul(2)
            .clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.until = Some(now.saturating_add(self.length));
    }

    /// A try in vain, but somebody will say when the next one is not: until then only the longest pause counts.
    pub fn begin_longest(&mut self, now: u64) {
        self.until = Some(now.saturating_add(LONGEST_PAUSE));
    }

    /// Something has happened that makes a try worthwhile. The next pause is not shorter for it.
    pub fn interrupt(&mut self) {
        self.until = None;
    }

    /// A try was successful.
    pub fn end(&mut self) {
        *self = Self::default();
    }
}
