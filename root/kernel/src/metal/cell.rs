//! State of the whole kernel.

use core::cell::{Cell, UnsafeCell};
use core::panic::Location;

/// One thing that exists once. Kernel code runs on one processor with interrupts off, so that taking it is never a
/// wait; taking it while it is taken is a bug, and found.
pub struct Global<T> {
    /// Who has taken it.
    taken: Cell<Option<&'static Location<'static>>>,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the kernel runs on one processor, and its interrupt handlers run only where kernel code has opened a window,
// which it does with nothing taken; `taken` finds violations before they alias.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    /// A value from the start.
    pub const fn new(value: T) -> Self {
        Self {
            taken: Cell::new(None),
            value: UnsafeCell::new(Some(value)),
        }
    }

    /// To be [`set`](Self::set) during the start.
    pub const fn empty() -> Self {
        Self {
            taken: Cell::new(None),
            value: UnsafeCell::new(None),
        }
    }

    /// Gives it its value.
    pub fn set(&self, value: T) {
        self.access(|place| *place = Some(value));
    }

    /// Works on the value. Panics if it is taken already or not set yet: both are bugs of the kernel.
    #[track_caller]
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        self.access(|place| match place {
            Some(value) => work(value),
            None => panic!("used before it was made"),
        })
    }

    /// Works on the value unless it is taken or not set.
    #[track_caller]
    pub fn try_with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.taken.get().is_some() {
            return None;
        }
        self.access(|place| place.as_mut().map(work))
    }

    #[track_caller]
    fn access<R>(&self, work: impl FnOnce(&mut Option<T>) -> R) -> R {
        if let Some(holder) = self.taken.replace(Some(Location::caller())) {
            panic!("taken twice, first at {holder}");
        }
        // SAFETY: `taken` was clear, so no other reference exists, and none is made until it is cleared below. A panic
        // in between ends the kernel.
        let result = work(unsafe { &mut *self.value.get() });
        self.taken.set(None);
        result
    }
}
