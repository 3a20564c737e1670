//! An allocator that counts the bytes in use and their maximum.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, counted.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's obligations are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's obligations are the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that something holds, as the allocator sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// Now. Below zero if it gave away what others hold.
    pub now: isize,
    /// The most, also in the middle of a call.
    pub most: isize,
}

impl Held {
    /// Runs `call`, in which only what is measured allocates, on one thread.
    pub fn by<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let before = NOW.load(Ordering::Relaxed);
        MOST.store(before, Ordering::Relaxed);
        let result = call();
        let since = |value: &AtomicUsize| {
            value
                .load(Ordering::Relaxed)
                .wrapping_sub(before)
                .cast_signed()
        };
        self.most = self.most.max(self.now + since(&MOST));
        self.now += since(&NOW);
        result
    }
}
