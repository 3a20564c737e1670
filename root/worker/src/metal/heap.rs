//! The heap: one block from the kernel. Setting a VM up takes a few hundred KiB for a moment. Running it takes next to nothing,
//! but for VMBus, of which a guest can make as much as `vmbus::server::max_memory` says.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use linked_list_allocator::Heap;
use spin::Mutex;

use super::calls;

/// Bytes of the heap.
const SIZE: usize = 4 << 20;
const _: () = assert!(vmbus::server::max_memory(worker::CHANNELS) <= SIZE / 2);
/// What a reason's text may need.
const TEXT_ROOM: usize = 4096;

struct Allocator(Mutex<Heap>);

#[global_allocator]
static HEAP: Allocator = Allocator(Mutex::new(Heap::empty()));

/// Gets the heap's memory. Called once, before the first allocation.
pub fn init() {
    let Ok(address) = calls::map_memory(SIZE) else {
        calls::exit(root_abi::ExitReason::WorkerFault, "no memory for the heap");
    };
    // SAFETY: the range is fresh memory of this process that nothing else uses, and this is the only call of `init`.
    unsafe { HEAP.0.lock().init(address, SIZE) };
}

/// Whether a text can still be formatted.
pub fn has_room() -> bool {
    HEAP.0
        .try_lock()
        .is_some_and(|heap| heap.free() >= TEXT_ROOM)
}

// SAFETY: the inner allocator hands out disjoint blocks of the layout asked for; the lock makes its use exclusive.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0
            .lock()
            .allocate_first_fit(layout)
            .map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if let Some(pointer) = NonNull::new(pointer) {
            // SAFETY: the caller vouches that the block came from `alloc` with this layout.
            unsafe { self.0.lock().deallocate(pointer, layout) };
        }
    }
}
