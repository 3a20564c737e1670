//! System calls between the root kernel and its processes.
//!
//! They mirror what `/dev/mshv` offers to a VMM on Linux (root sheet, section G), so that the same worker can become
//! a Linux process: the ioctl each call stands for is named beside it. Number in RAX, arguments in RDI, RSI, RDX, R10,
//! R8; result in RAX: `>= 0` success, `< 0` a negated [`Error`].
#![no_std]
#![forbid(unsafe_code)]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Numbers of the system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Call {
    /// `exit(reason: ExitReason, text, text_len)`: ends the process; the text (UTF-8, at most 200 bytes) says why.
    Exit = 0,
    /// `tell(kind, bytes, len)`: news for the manager, of one of the kinds in [`news`].
    Tell = 1,
    /// `console_write(bytes, len)`: output of the guest's serial line. Returns the number of bytes taken (all of them).
    ConsoleWrite = 2,
    /// `console_read(bytes, len)`: typed input for the guest. Never blocks; returns the number of bytes.
    ConsoleRead = 3,
    /// `map_memory(len)`: anonymous zeroed memory, `len` a multiple of 4096; returns its address. For memory meant as
    /// guest RAM (2 MiB and more) the backing is in 2 MiB pieces wherever possible. (Linux: `mmap`)
    MapMemory = 4,
    /// `wait(event: *mut Event, deadline, resume_vp)`: first, unless `resume_vp` is [`NO_VP`], lets that VP run on
    /// (`MSHV_RUN_VP`); then blocks until an event or the reference time `deadline` (100 ns, `u64::MAX` = none).
    /// A VP whose intercept has not been reported yet is not resumed: [`Error::State`].
    Wait = 5,
    /// `create_partition(args: *const CreatePartition)`: one per process. (`MSHV_CREATE_PARTITION`)
    CreatePartition = 6,
    /// `initialize_partition()`. (`MSHV_INITIALIZE_PARTITION`)
    InitializePartition = 7,
    /// `add_guest_memory(args: *const GuestMemory)`: a range of guest pages and addresses of the process that stand for
    /// them, for the rest of the process's life; returns the first address. There is no memory behind either yet:
    /// [`Call::BackGuestMemory`]. (Linux: `mmap`)
    AddGuestMemory = 8,
    /// `create_vp(index, pages: *mut VpPages)`: also maps the VP's state pages. (`MSHV_CREATE_VP` and `mmap`)
    CreateVp = 9,
    /// `hvcall(args: *mut Hvcall)`: a hypercall on the own partition; the kernel overwrites the first 8 input bytes with
    /// the partition id (VP calls keep their VP index). (`MSHV_ROOT_HVCALL`)
    Hvcall = 10,
    /// `reference_time()`: 100 ns units since the root started.
    ReferenceTime = 11,
    /// `wall_clock()`: seconds since 1970, from the machine's CMOS clock.
    WallClock = 12,
    /// `stop_vp(index)`: ExplicitSuspend; returns 1 if an intercept event is still to come, else 0.
    StopVp = 13,
    /// `debug(what)`: misbehave on request, for tests of the kernel's isolation. Reserved for the worker's own use.
    Debug = 14,
    /// `back_guest_memory(first, pages)`: puts new zeroed memory behind guest pages of a range of
    /// [`Call::AddGuestMemory`] that have none, in the process and in the guest, in 2 MiB pieces wherever possible. Returns
    /// how many pages from the first on have memory now: fewer than all only if free memory is used up, or something failed
    /// after the first ones. (Linux: touching the range, and `MSHV_SET_GUEST_MEMORY`)
    BackGuestMemory = 15,
    /// `take_guest_memory(first, pages)`: takes the memory behind guest pages away, from the guest, from every processor
    /// that could still reach it, and from the process; it is free then. Returns how many pages from the first on have
    /// none now: fewer than all only if one had none before, or something failed. (Linux: `MSHV_SET_GUEST_MEMORY` with unmap, and
    /// `madvise(MADV_DONTNEED)`)
    TakeGuestMemory = 16,
    /// `memory_order(order: *mut MemoryOrder)`: the manager's latest order about the guest's memory; [`Error::State`] if
    /// there is none that has not been taken.
    MemoryOrder = 17,
}

/// Errors of a system call; the result is the negated number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Error {
    /// No such call, or an argument out of range.
    Invalid = 1,
    /// An address outside the process's own memory.
    Fault = 2,
    /// Not enough memory.
    NoMemory = 3,
    /// Wrong state or order (no partition yet, VP exists, …).
    State = 4,
    /// A hypercall failed; its status is in the log.
    Hypercall = 5,
    /// Not permitted (a hypercall outside the list).
    Denied = 6,
}

/// "No VP" for [`Call::Wait`].
pub const NO_VP: u64 = u64::MAX;

/// Why a process ended, as it says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum ExitReason {
    /// The guest switched its machine off.
    PowerOff = 0,
    /// The guest reset its machine: start it again.
    Reset = 1,
    /// The guest cannot go on (triple fault, impossible state).
    GuestFault = 2,
    /// The definition cannot be started (no kernel, does not fit, …).
    BadDefinition = 3,
    /// The worker failed: a bug of ours.
    WorkerFault = 4,
    /// The manager asked for it.
    Stopped = 5,
}

/// Kinds of [`Event`], and the order in which they are reported when there are several: debug, stop, shutdown, memory,
/// intercept, console, timeout. Each is reported once: an intercept until the VP is resumed, console input until more arrives (what is not
/// read then can be read at any time).
pub mod event {
    /// The deadline has passed.
    pub const TIMEOUT: u32 = 0;
    /// A VP is suspended by an intercept; its message is in its intercept page. `vp` is its index.
    pub const INTERCEPT: u32 = 1;
    /// There is console input to read.
    pub const CONSOLE: u32 = 2;
    /// The manager wants the VM to end: stop and exit with `Stopped`.
    pub const STOP: u32 = 3;
    /// For tests of the kernel's isolation: the worker is to misbehave. `vp` says how: 1 panic, 2 write to an address of
    /// the kernel, 3 loop without end.
    pub const DEBUG: u32 = 4;
    /// The manager wants the guest to end by itself: ask it. `vp` says how: [`POWER_OFF`] or [`REBOOT`].
    pub const SHUTDOWN: u32 = 5;
    /// The manager has an order about the guest's memory ([`MemoryOrder`](crate::MemoryOrder)).
    pub const MEMORY: u32 = 6;

    /// `vp` of [`SHUTDOWN`]: it is to switch its machine off.
    pub const POWER_OFF: u32 = 0;
    /// `vp` of [`SHUTDOWN`]: it is to start anew.
    pub const REBOOT: u32 = 1;
}

/// Kinds of news for the manager ([`Call::Tell`]), and how each is laid out.
///
/// Whatever a guest has a part in may be a lie, and a worker may be in its guest's hands: the manager takes texts as
/// untrusted.
pub mod news {
    use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

    /// A line for the event list: UTF-8, at most [`MAX_LINE`] bytes.
    pub const LINE: u64 = 0;
    /// What is known of the guest, a [`GuestState`]. It replaces what was told before.
    pub const GUEST: u64 = 1;
    /// The guest says that it has crashed: a [`Crash`], then at most [`MAX_CRASH_TEXT`] bytes of the guest's own text.
    pub const CRASH: u64 = 2;
    /// How the guest's memory is, a [`MemoryState`]. It replaces what was told before.
    pub const MEMORY: u64 = 3;

    /// Longest line, bytes.
    pub const MAX_LINE: usize = 200;
    /// Longest text of a crash, bytes: the page that the guest has for it (guest sheet 4.12).
    pub const MAX_CRASH_TEXT: usize = 4096;
    /// Longest name of a guest's system, bytes.
    pub const MAX_SYSTEM: usize = 48;

    /// [`GuestState::heartbeat`]: the guest has none, or not yet.
    pub const HEARTBEAT_NONE: u32 = 0;
    /// [`GuestState::heartbeat`]: the guest answers.
    pub const HEARTBEAT_OK: u32 = 1;
    /// [`GuestState::heartbeat`]: the guest has answered, and does so no more.
    pub const HEARTBEAT_LOST: u32 = 2;

    /// What a worker knows of its guest by VMBus.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
    #[repr(C)]
    pub struct GuestState {
        /// One of `HEARTBEAT_*`.
        pub heartbeat: u32,
        /// Version of VMBus: major in the upper half, minor in the lower one; 0 while the guest is not connected.
        pub vmbus: u32,
        /// Open channels.
        pub channels: u32,
        /// Bytes of `system` that count.
        pub system_len: u32,
        /// Name and version of the guest's system, printable ASCII.
        pub system: [u8; MAX_SYSTEM],
    }

    impl Default for GuestState {
        /// Nothing is known.
        fn default() -> Self {
            Self {
                heartbeat: HEARTBEAT_NONE,
                vmbus: 0,
                channels: 0,
                system_len: 0,
                system: [0; MAX_SYSTEM],
            }
        }
    }

    /// The memory of a guest with Dynamic Memory, as the balancer and the counters need it (sheet of Dynamic Memory, 3.3
    /// and 4.1). Sizes in pages of 4 KiB, times in units of 100 ns up to the moment when it was told, [`NEVER`] for what
    /// has not been.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    #[repr(C)]
    pub struct MemoryState {
        /// What the guest believes it has.
        pub visible: u64,
        /// What it gave back, lost pages included.
        pub ballooned: u64,
        /// What of that it can be given again.
        pub returnable: u64,
        /// What machine memory is behind.
        pub assigned: u64,
        /// Added since the start.
        pub added: u64,
        /// Removed since the start.
        pub removed: u64,
        /// Most pages that it may have, what its kind of guest allows included.
        pub maximum: u64,
        /// Demand: the lowest of the last three reports.
        pub settled: u64,
        /// Demand, smoothed.
        pub smoothed: u64,
        /// Demand of the newest report.
        pub newest: u64,
        /// What the guest's kernel could give out.
        pub available: u64,
        /// New memory comes in multiples of this.
        pub alignment: u64,
        /// Since the last report.
        pub report_age: u64,
        /// Since the last add that was no partial one.
        pub since_add: u64,
        /// Since the guest returned less than it was asked for.
        pub since_refusal: u64,
        /// For how long the average pressure has been low.
        pub low_for: u64,
        /// Adds that are over.
        pub add_operations: u64,
        /// Removes that are over.
        pub remove_operations: u64,
        /// Pressure of the newest report and of the smoothed demand, per cent.
        pub pressures: [u32; 2],
        /// `MEMORY_*`.
        pub flags: u32,
        /// [`MemoryOrder::number`](crate::MemoryOrder::number) of the newest order that the worker has seen; 0 before the
        /// first.
        pub order: u32,
    }

    /// Of a time in [`MemoryState`]: there was none.
    pub const NEVER: u64 = u64::MAX;
    /// [`MemoryState::flags`]: there are reports, and the quiet time is over.
    pub const MEMORY_LIVE: u32 = 1 << 0;
    /// [`MemoryState::flags`]: an order is under way.
    pub const MEMORY_IN_FLIGHT: u32 = 1 << 1;
    /// [`MemoryState::flags`]: the guest gives pages away.
    pub const MEMORY_CAN_BALLOON: u32 = 1 << 2;
    /// [`MemoryState::flags`]: the guest takes more than it has ever had.
    pub const MEMORY_CAN_HOT_ADD: u32 = 1 << 3;

    /// What a guest says about its end (guest sheet 4.12), and where the VP was that said so.
    #[derive(
        Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
    )]
    #[repr(C)]
    pub struct Crash {
        /// CRASH_P0 to CRASH_P4.
        pub parameters: [u64; 5],
        /// CRASH_CTL as it was written.
        pub control: u64,
        /// RIP of the write.
        pub rip: u64,
        /// RSP at the write.
        pub rsp: u64,
        /// Index of the VP.
        pub vp: u32,
        /// Zero.
        pub reserved: u32,
    }
}

/// What [`Call::Wait`] returns.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Event {
    /// One of [`event`].
    pub kind: u32,
    /// VP index, for an intercept.
    pub vp: u32,
    /// Reference time at return, 100 ns.
    pub now: u64,
}

/// Argument of [`Call::CreatePartition`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CreatePartition {
    /// `HV_PARTITION_CREATION_FLAG_*`; EXO and INTERCEPT_MESSAGE_PAGE are always added.
    pub flags: u64,
    /// Property 0x10001, synthetic processor features; 0 = the kernel's default.
    pub synthetic_features: u64,
}

/// Argument of [`Call::AddGuestMemory`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct GuestMemory {
    /// Pages, at least one.
    pub pages: u64,
    /// First guest page number, a multiple of 512. Ranges of a guest do not overlap.
    pub guest_pfn: u64,
    /// What the guest may do: bit 0 write, bit 1 execute. Reading it always may.
    pub flags: u64,
}

/// What the manager wants done with a guest's memory, in pages of 4 KiB ([`Call::MemoryOrder`]): one of removing and adding.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MemoryOrder {
    /// Pages that the guest is to return.
    pub remove: u64,
    /// Pages of its balloon that it gets back.
    pub unballoon: u64,
    /// Pages of new memory that it gets behind that.
    pub hot_add: u64,
    /// Bit 0: it is less than the guest should get (its cool-down is another).
    pub flags: u32,
    /// Orders to one worker count from 1 (0 follows [`u32::MAX`]). The worker says in
    /// [`MemoryState::order`](news::MemoryState::order) which it has seen, so a state that crossed an order on its way does not
    /// look like an answer to it.
    pub number: u32,
}

impl MemoryOrder {
    /// Bit of [`flags`](Self::flags): less than the guest should get.
    pub const PARTIAL: u32 = 1 << 0;
}

/// Result of [`Call::CreateVp`]: where the state pages are in the process.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct VpPages {
    /// Register page, read-write.
    pub registers: u64,
    /// Intercept message page, read-only.
    pub intercept: u64,
    /// Stats page, read-only.
    pub stats: u64,
}

/// Argument of [`Call::Hvcall`], the layout of `mshv_root_hvcall`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Hvcall {
    /// Call code.
    pub code: u16,
    /// In: repetitions wanted; out: done.
    pub reps: u16,
    /// Input bytes, 8 to 4096.
    pub input_size: u16,
    /// Output bytes, at most 4096.
    pub output_size: u16,
    /// Out: HV_STATUS.
    pub status: u16,
    /// Zero.
    pub reserved: [u8; 6],
    /// Address of the input block.
    pub input: u64,
    /// Address of the output block.
    pub output: u64,
}

/// Start of a process: the kernel enters it with RDI = address of this, mapped read-only.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct StartInfo {
    /// Address and length of the VM definition (TOML text).
    pub definition: u64,
    /// Length of the definition.
    pub definition_len: u64,
    /// Address of the first [`File`].
    pub files: u64,
    /// Number of files.
    pub file_count: u64,
}

/// An archive member mapped read-only into a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct File {
    /// Name, padded with NULs.
    pub name: [u8; 64],
    /// Address of its bytes.
    pub address: u64,
    /// Length in bytes.
    pub len: u64,
}
