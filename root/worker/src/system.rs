//! What a worker needs from the system it is a process of.

use core::ops::Range;

use board::ram::{GuestRam, OutOfRam};
use manager::WorkerNews;
use root_abi::{Event, MemoryOrder};
use tlfs::{HvCallCode, HvMessage, HvPartitionCreationFlags, HvStatus, HvX64RegisterPage};

/// A call to the system that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The system refused; the number is [`root_abi::Error`]'s.
    #[error("{call}: error {error}")]
    System {
        /// Name of the call.
        call: &'static str,
        /// Error number.
        error: i64,
    },
    /// The hypervisor refused.
    #[error("{code:?}: {status:?}")]
    Hypercall {
        /// Call code.
        code: HvCallCode,
        /// Status.
        status: HvStatus,
    },
}

/// A VP whose state pages are mapped.
pub trait VpState {
    /// Register page and intercept message. Both stand still while the VP is suspended.
    fn pages(&mut self) -> (&mut HvX64RegisterPage, &HvMessage);
}

/// The files that the VM's definition names.
pub trait Files {
    /// Contents of a file.
    fn get(&self, name: &str) -> Option<&[u8]>;
}

/// Guest RAM that is accessed in place while the guest runs. Clones are the same memory.
pub trait SharedRam: GuestRam + Clone {
    /// As [`GuestRam::write`].
    ///
    /// # Errors
    /// If not all of it is RAM.
    fn write_shared(&self, gpa: u64, data: &[u8]) -> Result<(), OutOfRam>;

    /// Loads a word with acquire order. `gpa` is a multiple of 4, or the word is not RAM.
    ///
    /// # Errors
    /// If it is not RAM.
    fn load_acquire(&self, gpa: u64) -> Result<u32, OutOfRam>;

    /// Stores a word with release order. `gpa` as for [`SharedRam::load_acquire`].
    ///
    /// # Errors
    /// If it is not RAM.
    fn store_release(&self, gpa: u64, value: u32) -> Result<(), OutOfRam>;

    /// Takes the memory that the map needs for telling whether these pages (their numbers) are there. False if there is none:
    /// then they cannot be put to use. After it [`Self::set_present`] needs none for them.
    fn make_room(&self, pages: Range<u64>) -> bool;

    /// Pages (their numbers) leave the guest's memory map, or come back. From now on every access to them fails, or works
    /// again; nothing else remembers that they were RAM. To be called before the hypervisor unmaps them, and after it has
    /// mapped them.
    fn set_present(&self, pages: Range<u64>, present: bool);
}

/// The system. The calls are those of root-abi; see there for their meaning.
pub trait System {
    /// Guest memory, mapped into the process.
    type Ram: SharedRam;
    /// A VP.
    type Vp: VpState;

    /// Resumes a VP if one is given, then waits for an event until `deadline` (reference time; `u64::MAX` = for ever).
    fn wait(&mut self, deadline: u64, resume: Option<u32>) -> Result<Event, CallError>;

    /// A hypercall on the own partition. The system puts the partition id into the first 8 bytes of `input`.
    fn hypercall(
        &mut self,
        code: HvCallCode,
        reps: u16,
        input: &mut [u8],
        output: &mut [u8],
    ) -> Result<(), CallError>;

    /// Creates the process's partition, not yet initialized.
    fn create_partition(&mut self, flags: HvPartitionCreationFlags) -> Result<(), CallError>;

    /// Initializes it.
    fn initialize_partition(&mut self) -> Result<(), CallError>;

    /// Makes the partition's RAM, laid out as [`board::layout::RamLayout`] says for `reach` bytes. The first `startup` bytes
    /// of its linear backing are zeroed memory; the rest is away until it is [backed](Self::back_ram). Both are whole pages,
    /// and `startup` is not more than `reach`. Called once.
    fn create_ram(&mut self, startup: u64, reach: u64) -> Result<Self::Ram, CallError>;

    /// The books of the guest's memory may take that many bytes beyond what a process without such books has. They take them
    /// when there is RAM to keep books of.
    fn allow_books(&mut self, bytes: u64);

    /// Puts new zeroed memory behind guest pages (their numbers) that have none, all of them on one side of the devices below
    /// 4 GiB. Returns how many pages from the first on have it now: fewer than all if free memory is used up. They are not in
    /// the memory map yet ([`SharedRam::set_present`]).
    ///
    /// # Errors
    /// If there is no such RAM, one of the pages has memory already, or the first cannot have some.
    fn back_ram(&mut self, pages: Range<u64>) -> Result<u64, CallError>;

    /// Takes the memory behind guest pages (their numbers) away, all of them on one side of the devices below 4 GiB. They have
    /// left the memory map before. Returns how many pages from the first on have none now: fewer than all if one has none
    /// already, or something failed.
    ///
    /// # Errors
    /// If there is no such RAM, or the first page's memory cannot be taken.
    fn take_ram(&mut self, pages: Range<u64>) -> Result<u64, CallError>;

    /// The manager's order about the guest's memory, if there is one.
    fn memory_order(&mut self) -> Option<MemoryOrder>;

    /// Creates a VP.
    fn create_vp(&mut self, index: u32) -> Result<Self::Vp, CallError>;

    /// Reference time in 100 ns.
    fn reference_time(&mut self) -> u64;

    /// Seconds since 1970.
    fn wall_clock(&mut self) -> i64;

    /// Real randomness, if the machine has some.
    fn random(&mut self) -> Option<[u8; 32]>;

    /// Output of the guest's serial line.
    fn console_write(&mut self, bytes: &[u8]);

    /// Typed input for the guest, as much as there is and fits.
    fn console_read<'a>(&mut self, buffer: &'a mut [u8]) -> &'a [u8];

    /// News for the manager.
    fn tell(&mut self, news: &WorkerNews<'_>);

    /// A line for the event list.
    fn log(&mut self, text: &str) {
        self.tell(&WorkerNews::Line(text.into()));
    }

    /// Misbehaves as asked for, to test that the system survives it.
    fn misbehave(&mut self, how: u32);
}
