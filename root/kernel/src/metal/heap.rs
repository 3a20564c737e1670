//! The kernel's heap: grows in its own window, page by page, up to a limit.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

use linked_list_allocator::Heap;
use root_kernel::addr::PAGE_SIZE;
use root_kernel::frames::Owner;
use root_kernel::paging::{Attributes, Rights, Tables};

use super::cell::Global;
use super::layout;
use super::memory::{self, Direct, DirectTables, FRAMES};

/// The heap never becomes larger.
const LIMIT: u64 = 32 << 20;
/// What it has from the start: enough for some VMs, so that the kernel's memory is the same before they run and after.
const START: u64 = 2 << 20;
/// It grows by at least this.
const STEP: u64 = 256 << 10;
/// What [`replenish`] keeps free.
const SPARE: u64 = 128 << 10;

struct KernelHeap {
    heap: Global<Heap>,
    size: Global<u64>,
}

#[global_allocator]
static HEAP: KernelHeap = KernelHeap {
    heap: Global::new(Heap::empty()),
    size: Global::new(0),
};

// SAFETY: `Heap` hands out memory that is mapped, aligned and not in use otherwise; `Global` makes sure that there is
// one user at a time. Growing adds the pages right behind the heap's end.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let attempt = || self.heap.with(|heap| heap.allocate_first_fit(layout).ok());
        let grow = || grow((layout.size() as u64).saturating_add(layout.align() as u64));
        let found = attempt().or_else(|| grow().then(attempt).flatten());
        found.map_or(ptr::null_mut(), |found| found.as_ptr())
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if let Some(pointer) = ptr::NonNull::new(pointer) {
            // SAFETY: the caller says that this heap gave the memory with this layout.
            self.heap
                .with(|heap| unsafe { heap.deallocate(pointer, layout) });
        }
    }
}

/// Makes the heap usable.
pub fn init() {
    assert!(grow(START), "no memory for the kernel's heap");
}

/// Grows the heap now if little is left. While the frame allocator is in use the heap cannot grow, so this is called
/// where it is not: before every system call that allocates, and in the root task.
pub fn replenish() {
    let free = HEAP.heap.with(|heap| heap.free() as u64);
    if free < SPARE {
        grow(STEP);
    }
}

fn grow(wanted: u64) -> bool {
    let wanted = wanted.max(STEP).next_multiple_of(PAGE_SIZE);
    let old = HEAP.size.with(|size| *size);
    if old.saturating_add(wanted) > LIMIT {
        return false;
    }
    let root = memory::kernel_root();
    let mapped = FRAMES.try_with(|frames| {
        let mut done = 0;
        while done < wanted {
            let Some(frame) = frames.allocate(0, Owner::KERNEL) else {
                break;
            };
            let mut tables = DirectTables {
                ram: Direct,
                frames,
                owner: Owner::KERNEL,
            };
            let address = layout::HEAP + old + done;
            if Tables::new(root, &mut tables)
                .map(address, frame, Attributes::kernel(Rights::ReadWrite))
                .is_err()
            {
                let _ = frames.release(frame, 0, Owner::KERNEL);
                break;
            }
            done += PAGE_SIZE;
        }
        done
    });
    let Some(mapped) = mapped.filter(|mapped| *mapped > 0) else {
        return false;
    };
    HEAP.size.with(|size| *size = old + mapped);
    HEAP.heap.with(|heap| {
        // SAFETY: the pages are mapped writable, nobody else's, and lie exactly behind what the heap has.
        unsafe {
            if old == 0 {
                heap.init(layout::HEAP as *mut u8, mapped as usize);
            } else {
                heap.extend(mapped as usize);
            }
        }
    });
    mapped >= wanted
}
