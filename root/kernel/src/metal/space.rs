//! Address spaces of processes: made, filled, read and written, taken apart.

use root_abi::{Error, Event};
use root_kernel::addr::{LARGE_PAGE_SIZE, PAGE_SIZE, Pfn, UserRange};
use root_kernel::backing::Machine;
use root_kernel::frame_tables::Ram;
use root_kernel::frames::{Class, LARGE_ORDER, Owner, Slot};
use root_kernel::image::Image;
use root_kernel::paging::{
    Attributes, ENTRIES, KERNEL_HALF, MapError, Mapping, Rights, TableMemory, Tables,
};
use root_kernel::sched::PROCESSORS;

use super::cell::Global;
use super::memory::{self, Direct, DirectTables, FRAMES, ReadTables};
use super::{block, cpu, layout};

/// Frames that processes cannot take: for deposits and the kernel itself.
pub const RESERVE: u64 = 1024;

/// Entries of page tables that are taken apart before others get in: some tenths of a millisecond.
const DISMANTLED_AT_ONCE: u64 = 4096;

/// The address space of one process. It does not go by itself: [`dismantle`](Self::dismantle) gives everything back.
#[derive(Clone, Copy, Debug)]
pub struct Space {
    root: Pfn,
    slot: Slot,
}

/// Where a process gets its events.
#[derive(Clone, Copy, Debug)]
pub struct EventPlace {
    address: u64,
    physical: u64,
}

impl EventPlace {
    /// Whether this is the place at that address of the process.
    pub fn is_at(&self, address: u64) -> bool {
        self.address == address
    }

    /// Writes an event.
    pub fn write(&self, event: &Event) {
        // SAFETY: 1. The place was found in memory that the process may write, aligned and within one page. 2. It is no memory of
        // its guest (`begin_wait` sees to that), which alone can leave a process that lives; the process runs now, so its
        // memory is still its own. 3. Nothing holds a Rust reference to it.
        unsafe {
            memory::direct(self.physical)
                .cast::<Event>()
                .write_volatile(*event)
        };
    }
}

/// No memory, or not enough of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpaceError {
    /// No memory.
    #[error("not enough memory")]
    NoMemory,
    /// Two things at one address: a bug of the kernel.
    #[error("address {0:#x} is in use")]
    Occupied(u64),
}

impl From<MapError> for SpaceError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::NoMemory => Self::NoMemory,
            MapError::Occupied(address) => Self::Occupied(address),
        }
    }
}

impl From<SpaceError> for Error {
    fn from(error: SpaceError) -> Self {
        match error {
            SpaceError::NoMemory => Self::NoMemory,
            SpaceError::Occupied(_) => Self::Invalid,
        }
    }
}

/// The tables that each processor uses now. Without the kernel's lock a processor uses those of the process in its hands,
/// or the kernel's: it leaves those of any other process before it gives the lock back. So tables of a process that is in
/// nobody's hands are in no processor, and neither are translations made from them.
static LOADED: Global<[Option<Pfn>; PROCESSORS]> = Global::new([None; PROCESSORS]);

/// Makes the processor use these tables, unless it does already.
fn load(root: Pfn) {
    let me = block::processor().index();
    let changed = LOADED.with(|loaded| {
        loaded
            .get_mut(me)
            .is_none_or(|loaded| loaded.replace(root) != Some(root))
    });
    if changed {
        // SAFETY: every top table has the kernel's half, so this code, its stack and data stay mapped.
        unsafe { cpu::load_page_tables(root.address()) };
    }
}

/// RAM, and the processor that has a process in its hands: no other has translations made from the process's tables (see
/// [`LOADED`]).
pub struct SpaceMachine {
    root: Pfn,
}

impl Ram for SpaceMachine {
    fn read(&self, table: Pfn, index: usize) -> u64 {
        Direct.read(table, index)
    }

    fn write(&mut self, table: Pfn, index: usize, entry: u64) {
        Direct.write(table, index, entry);
    }

    fn zero(&mut self, first: Pfn, count: u64) {
        Direct.zero(first, count);
    }
}

impl Machine for SpaceMachine {
    fn flush(&mut self) {
        let me = block::processor().index();
        let loaded = LOADED.with(|loaded| loaded.get(me).copied().flatten());
        if loaded == Some(self.root) {
            // SAFETY: the processor uses these tables already. Nothing is global, so all translations go.
            unsafe { cpu::load_page_tables(self.root.address()) };
        }
    }
}

/// Makes the processor use the kernel's own tables: before it gives the kernel's lock back with no process in its hands.
pub fn leave() {
    load(memory::kernel_root());
}

impl Space {
    /// An empty address space with the kernel's half.
    ///
    /// # Errors
    /// [`SpaceError::NoMemory`].
    pub fn new(slot: Slot) -> Result<Self, SpaceError> {
        let kernel = memory::kernel_root();
        FRAMES.with(|frames| {
            let mut tables = DirectTables {
                ram: Direct,
                frames,
                owner: Owner::new(slot, Class::PageTable),
            };
            let root = tables.allocate().ok_or(SpaceError::NoMemory)?;
            for index in KERNEL_HALF..ENTRIES {
                let entry = tables.read(kernel, index);
                tables.write(root, index, entry);
            }
            Ok(Self { root, slot })
        })
    }

    /// Makes the processor use it.
    pub fn enter(&self) {
        load(self.root);
    }

    /// Whose it is.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    fn owner(&self) -> Owner {
        Owner::new(self.slot, Class::Process)
    }

    fn with_tables<R>(&self, work: impl FnOnce(&mut Tables<'_, DirectTables<'_>>) -> R) -> R {
        FRAMES.with(|frames| {
            let mut memory = DirectTables {
                ram: Direct,
                frames,
                owner: Owner::new(self.slot, Class::PageTable),
            };
            work(&mut Tables::new(self.root, &mut memory))
        })
    }

    /// New zeroed memory of 4 KiB pages. What was mapped before a failure stays until the end.
    ///
    /// # Errors
    /// [`SpaceError`].
    pub fn map_new(&self, address: u64, pages: u64, rights: Rights) -> Result<(), SpaceError> {
        for page in 0..pages {
            self.map_block(address.wrapping_add(page * PAGE_SIZE), 0, rights)?;
            if page % 256 == 255 {
                cpu::interrupt_window();
            }
        }
        Ok(())
    }

    /// New zeroed memory for any use, in 2 MiB pieces as far as alignment and free memory allow. `address` and `len`
    /// are whole pages. What was mapped before a failure stays until the end.
    ///
    /// # Errors
    /// [`SpaceError`].
    pub fn map_memory(&self, range: &UserRange) -> Result<(), SpaceError> {
        let needed = range.len() / PAGE_SIZE;
        if FRAMES.with(|frames| frames.free()) < needed.saturating_add(RESERVE) {
            return Err(SpaceError::NoMemory);
        }
        let mut at = range.start();
        while at < range.end() {
            let large = at.is_multiple_of(LARGE_PAGE_SIZE) && range.end() - at >= LARGE_PAGE_SIZE;
            let done = large && self.map_block(at, LARGE_ORDER, Rights::ReadWrite).is_ok();
            if done {
                at += LARGE_PAGE_SIZE;
            } else {
                self.map_block(at, 0, Rights::ReadWrite)?;
                at += PAGE_SIZE;
            }
            cpu::pause();
        }
        Ok(())
    }

    fn map_block(&self, address: u64, order: u8, rights: Rights) -> Result<(), SpaceError> {
        let owner = self.owner();
        let block = FRAMES
            .with(|frames| frames.allocate(order, owner))
            .ok_or(SpaceError::NoMemory)?;
        memory::zero(block, 1 << order);
        let attributes = Attributes::owned(rights);
        let mapped = self.with_tables(|tables| match order {
            LARGE_ORDER => tables.map_large(address, block, attributes),
            _ => tables.map(address, block, attributes),
        });
        mapped.map_err(|error| {
            if let Err(error) = FRAMES.with(|frames| frames.release(block, order, owner)) {
                panic!("address space: {error}");
            }
            error.into()
        })
    }

    /// Maps memory of somebody else, page by page.
    ///
    /// # Errors
    /// [`SpaceError`].
    pub fn map_foreign(
        &self,
        address: u64,
        first: Pfn,
        pages: u64,
        rights: Rights,
    ) -> Result<(), SpaceError> {
        self.with_tables(|tables| {
            for page in 0..pages {
                tables.map(
                    address.wrapping_add(page * PAGE_SIZE),
                    first.plus(page),
                    Attributes::borrowed(rights),
                )?;
            }
            Ok(())
        })
    }

    /// Loads an image and makes a stack. Returns the first RSP.
    ///
    /// # Errors
    /// [`SpaceError`].
    pub fn load_image(&self, image: &Image, file: &[u8]) -> Result<u64, SpaceError> {
        for segment in &image.segments {
            self.map_new(segment.start, segment.pages, segment.rights)?;
            let bytes = file.get(segment.file.clone()).unwrap_or_default();
            // The image was checked: this is in the lower half.
            if let Some(range) = UserRange::new(
                segment.start.wrapping_add(segment.at as u64),
                bytes.len() as u64,
            ) {
                self.fill(&range, bytes);
            }
        }
        let bottom = layout::USER_STACK_END - layout::USER_STACK_PAGES * PAGE_SIZE;
        self.map_new(bottom, layout::USER_STACK_PAGES, Rights::ReadWrite)?;
        Ok(layout::USER_STACK_END)
    }

    /// The mapping of an address, as ring 3 sees it.
    pub fn lookup(&self, address: u64) -> Option<Mapping> {
        Tables::new(self.root, &mut ReadTables)
            .lookup(address)
            .filter(|mapping| mapping.user)
    }

    /// Writes into pages whatever their rights: for filling new ones.
    pub fn fill(&self, range: &UserRange, bytes: &[u8]) {
        for (address, place) in range.pieces() {
            if let (Some(mapping), Some(bytes)) = (self.lookup(address), bytes.get(place)) {
                memory::write_frame(mapping.pfn, (address % PAGE_SIZE) as usize, bytes);
            }
        }
    }

    /// Copies from the process. Nothing is copied partially without an error.
    ///
    /// # Errors
    /// [`Error::Fault`] if any of it is not readable by the process.
    pub fn copy_in(&self, range: &UserRange, bytes: &mut [u8]) -> Result<(), Error> {
        for (address, place) in range.pieces() {
            let mapping = self.lookup(address).ok_or(Error::Fault)?;
            let bytes = bytes.get_mut(place).ok_or(Error::Fault)?;
            memory::read_frame(mapping.pfn, (address % PAGE_SIZE) as usize, bytes);
        }
        Ok(())
    }

    /// Copies to the process.
    ///
    /// # Errors
    /// [`Error::Fault`] if any of it is not writable by the process; what comes before that place is written.
    pub fn copy_out(&self, range: &UserRange, bytes: &[u8]) -> Result<(), Error> {
        for (address, place) in range.pieces() {
            let mapping = self
                .lookup(address)
                .filter(|mapping| mapping.writable)
                .ok_or(Error::Fault)?;
            let bytes = bytes.get(place).ok_or(Error::Fault)?;
            memory::write_frame(mapping.pfn, (address % PAGE_SIZE) as usize, bytes);
        }
        Ok(())
    }

    /// Where a process wants its events: found once, since what a process can write stays mapped as long as it lives, but for
    /// memory of its guest, which must not be asked for. `None` unless it is aligned and all in one page of writable memory.
    pub fn event_place(&self, address: u64) -> Option<EventPlace> {
        let len = size_of::<Event>() as u64;
        let whole = address % PAGE_SIZE <= PAGE_SIZE - len
            && address.is_multiple_of(align_of::<Event>() as u64);
        UserRange::new(address, len).filter(|_| whole)?;
        let mapping = self.lookup(address).filter(|mapping| mapping.writable)?;
        Some(EventPlace {
            address,
            physical: mapping.pfn.address() + address % PAGE_SIZE,
        })
    }

    /// The first address from `start` on, and below `end`, that is mapped. Both are in the process's half.
    pub fn first_mapped(&self, start: u64, end: u64) -> Option<u64> {
        Tables::new(self.root, &mut ReadTables).first_mapped(start, end)
    }

    /// RAM and this processor, for changing mappings of the process that is in this processor's hands.
    pub fn machine(&self) -> SpaceMachine {
        SpaceMachine { root: self.root }
    }

    /// The top table.
    pub fn root(&self) -> Pfn {
        self.root
    }

    /// Gives everything back, in parts, and calls `between` after each: a guest can make that as many small pages as it has
    /// memory. The process must be gone, and in no processor's hands.
    pub fn dismantle(self, between: impl Fn()) {
        leave();
        while !self.with_tables(|tables| tables.dismantle_some(DISMANTLED_AT_ONCE)) {
            between();
        }
        let owner = Owner::new(self.slot, Class::PageTable);
        if let Err(error) = FRAMES.with(|frames| frames.release(self.root, 0, owner)) {
            panic!("address space: {error}");
        }
    }
}
