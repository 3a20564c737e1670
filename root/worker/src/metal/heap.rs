//! The heap: a block from the kernel. Setting a VM up takes a few hundred KiB for a moment. Running it takes next to nothing,
//! but for VMBus, of which a guest can make as much as `vmbus::server::max_memory` says, and for the books of a guest with
//! Dynamic Memory, which take 96 KiB for each GiB of its RAM. Those may be far more than the block, or next to nothing although
//! the guest's maximum is large: pieces are added for them when the RAM comes, at most what [`allow`] was told.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use linked_list_allocator::Heap;
use spin::Mutex;

use super::calls;

/// Bytes of the block that there is from the start. What a guest can make of VMBus is at most half of it.
const SIZE: usize = 4 << 20;
const _: () = assert!(vmbus::server::max_memory(worker::CHANNELS) <= SIZE / 2);
// A list of pins can be one block in a piece, see `grow`.
const _: () = assert!(worker::MAX_PIN_BYTES <= PIECE_UNIT / 2);
/// What a reason's text may need.
const TEXT_ROOM: usize = 4096;

/// Most pieces of memory beyond that.
const MOST_PIECES: usize = 16;
/// Pieces are multiples of this: a large page of the process.
const PIECE_UNIT: usize = 2 << 20;

/// The heap that there is from the start, and pieces that are added when something does not fit. Their addresses are apart.
struct Heaps {
    first: Heap,
    more: [Heap; MOST_PIECES],
    used: usize,
    /// Pieces that it may have.
    most: usize,
    /// Bytes of one.
    piece: usize,
}

impl Heaps {
    const fn empty() -> Self {
        Self {
            first: Heap::empty(),
            more: [const { Heap::empty() }; MOST_PIECES],
            used: 0,
            most: 0,
            piece: PIECE_UNIT,
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Heap> {
        let more = self.more.iter_mut().take(self.used);
        core::iter::once(&mut self.first).chain(more)
    }

    fn allocate(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let there = |heaps: &mut Self| {
            heaps
                .all()
                .find_map(|heap| heap.allocate_first_fit(layout).ok())
        };
        there(self).or_else(|| {
            self.grow(layout)?;
            there(self)
        })
    }

    /// Adds a piece, if one is left and this fits into it.
    #[cold]
    fn grow(&mut self, layout: Layout) -> Option<()> {
        if self.used >= self.most || layout.size() > self.piece / 2 {
            return None;
        }
        let address = calls::map_memory(self.piece).ok()?;
        let heap = self.more.get_mut(self.used)?;
        // SAFETY: the range is fresh memory of this process that nothing else uses, and this heap has none yet.
        unsafe { heap.init(address, self.piece) };
        self.used += 1;
        Some(())
    }

    /// The heap that an address is in.
    fn of(&mut self, pointer: *mut u8) -> Option<&mut Heap> {
        self.all()
            .find(|heap| (heap.bottom()..heap.top()).contains(&pointer))
    }
}

struct Allocator(Mutex<Heaps>);

#[global_allocator]
static HEAP: Allocator = Allocator(Mutex::new(Heaps::empty()));

/// Gets the heap's memory. Called once, before the first allocation.
pub fn init() {
    let Ok(address) = calls::map_memory(SIZE) else {
        calls::exit(root_abi::ExitReason::WorkerFault, "no memory for the heap");
    };
    // SAFETY: the range is fresh memory of this process that nothing else uses, and this is the only call of `init`.
    unsafe { HEAP.0.lock().first.init(address, SIZE) };
}

/// Lets the heap have that many bytes more, when they are needed.
pub fn allow(bytes: u64) {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let piece = bytes
        .div_ceil(MOST_PIECES)
        .div_ceil(PIECE_UNIT)
        .saturating_mul(PIECE_UNIT);
    let mut heaps = HEAP.0.lock();
    heaps.piece = piece.max(PIECE_UNIT);
    heaps.most = bytes.div_ceil(heaps.piece).min(MOST_PIECES);
}

/// Whether a text can still be formatted.
pub fn has_room() -> bool {
    HEAP.0
        .try_lock()
        .is_some_and(|mut heaps| heaps.all().any(|heap| heap.free() >= TEXT_ROOM))
}

// SAFETY: each inner allocator hands out disjoint blocks of the layout asked for; the lock makes its use exclusive.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0
            .lock()
            .allocate(layout)
            .map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let mut heaps = self.0.lock();
        if let (Some(block), Some(heap)) = (NonNull::new(pointer), heaps.of(pointer)) {
            // SAFETY: the caller vouches that the block came from `alloc` with this layout; so it came from the heap in whose
            // range it is.
            unsafe { heap.deallocate(block, layout) };
        }
    }
}
