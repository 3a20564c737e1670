//! State of the whole kernel.

use core::cell::{Cell, UnsafeCell};
use core::panic::Location;

/// One thing that exists once. Kernel code runs on one processor at a time, the one with the kernel's lock, with
/// interrupts off, so that taking it is never a wait; taking it while it is taken is a bug, and found.
pub struct Global<T> {
    /// Who has taken it.
    taken: Cell<Option<&'static Location<'static>>>,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: only the processor that has the kernel's lock (`super::lock`) gets here, and the lock's handing over orders
// what one processor does before what the next one does. Interrupt handlers take the lock too, or run where kernel code
// that has it has opened a window, which it does with nothing taken that they use; `taken` finds violations before they
// alias. The end of the kernel (`super::power`) comes without the lock: it only tries, and the others are stopped.
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
