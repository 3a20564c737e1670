//! What a guest can make the host allocate, measured.
#![expect(
    unsafe_code,
    reason = "an allocator that counts is an unsafe trait; the crate itself has no unsafe code"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use vmbus::gpadl::{GpadlTable, MAX_GPADL_MEMORY, MAX_GPADLS, MAX_GPADLS_PER_CHANNEL, MAX_UNITS};
use vmbus::protocol::{GpadlHandle, Relid};

/// The system's allocator with a count of the bytes in use and their maximum.
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

/// Fills a table with GPADLs of scattered pages until nothing more is taken, and says how many there are.
fn fill(pages: u64, in_body: bool) -> (GpadlTable, usize) {
    let mut table = GpadlTable::default();
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(pages as u32 * 4096).to_le_bytes());
    bytes.extend_from_slice(&0u32.to_le_bytes());
    bytes.extend((0..pages).flat_map(|page| (page * 2).to_le_bytes()));
    let (first, rest) = bytes.split_at(bytes.len().min(27 * 8));
    let mut refused = 0;
    for handle in 1..=2 * MAX_GPADLS as u32 {
        let relid = Relid(1 + handle / MAX_GPADLS_PER_CHANNEL as u32);
        let handle = GpadlHandle(handle);
        let size = (bytes.len() as u16, 1);
        if table.header(&|_| true, relid, handle, size, first).is_err() {
            refused += 1;
        } else if in_body {
            for body in rest.chunks(28 * 8) {
                table.body(&|_| true, handle, body).unwrap();
            }
        }
    }
    assert!(refused > 0, "a limit was reached");
    let count = table.count();
    (table, count)
}

// One test, so that nothing else allocates meanwhile.
#[test]
fn the_gpadls_of_a_guest_stay_within_their_memory() {
    let mut largest = 0;
    // Few large ones, many small ones, and what is between; complete and incomplete.
    for pages in [1, 2, 26, 27, 63, 64, 100, 1000, 4096, 8190] {
        for in_body in [false, true] {
            let before = NOW.load(Ordering::Relaxed);
            MOST.store(before, Ordering::Relaxed);
            let (table, count) = fill(pages, in_body);
            let most = MOST.load(Ordering::Relaxed) - before;
            assert!(most <= MAX_GPADL_MEMORY, "{count} of {pages} pages: {most}");
            assert!(table.units() <= MAX_UNITS && count <= MAX_GPADLS);
            largest = largest.max(most);
        }
    }
    // The constant is not idle either.
    assert!(
        largest > MAX_GPADL_MEMORY / 2,
        "{largest} of {MAX_GPADL_MEMORY}"
    );
}
