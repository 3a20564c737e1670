//! What the manager needs of the machine: implemented by the root kernel, and by a fake in the tests.

use alloc::string::String;
use alloc::vec::Vec;

use root_abi::ExitReason;
use tlfs::{HvRegisterName, HvRegisterValue};

use crate::counters::{Object, Page, Whose};
use crate::definition::Definition;

/// A VM's place in the manager's list. Stable while the root runs; there is at most one worker for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VmId(pub u16);

/// Most NUMA nodes that a host tells apart. What a machine has beyond counts as the last one's.
pub const MAX_NODES: usize = 8;

/// Where a VM's memory comes from. Only its guest's memory keeps to it strictly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Home {
    /// From this NUMA node first.
    pub node: u32,
    /// Whether its guest may have memory of other nodes.
    pub spanning: bool,
    /// Pages of each node that its guest's memory leaves free as long as another node has some: each node's balancer keeps them
    /// for the host, and would have to ask VMs for them otherwise.
    pub keep: [u64; MAX_NODES],
}

/// The effects of the manager. Calls return at once; what happens later comes back as an event.
pub trait Host {
    /// Reference time: 100 ns units since the root started.
    fn now(&self) -> u64;

    /// Writes to the machine's console, COM1.
    fn console_write(&mut self, bytes: &[u8]);

    /// Size in bytes of the boot archive's member of that name, if there is one.
    fn file_size(&self, name: &str) -> Option<u64>;

    /// Bytes of memory free for a new VM.
    fn free_memory(&self) -> u64;

    /// How many NUMA nodes the machine has, numbered from 0; at most [`MAX_NODES`]. Those who do not know have one.
    fn nodes(&self) -> u32 {
        1
    }

    /// Starts a worker process for `vm`. `text` is the definition's TOML, as the worker is to get it; `home` says where its
    /// memory is to come from for as long as it lives, which the worker has no say in.
    ///
    /// # Errors
    /// Why it could not be started, for the console. Nothing is left behind then.
    fn start_worker(
        &mut self,
        vm: VmId,
        definition: &Definition,
        text: &str,
        home: Home,
    ) -> Result<(), String>;

    /// Asks the worker to stop its VM and exit (`root_abi::event::STOP`).
    fn stop_worker(&mut self, vm: VmId);

    /// Asks the guest to switch its machine off (`root_abi::event::SHUTDOWN`). What comes of it is the guest's affair.
    fn shut_down_guest(&mut self, vm: VmId);

    /// Ends the worker without asking. `worker_ended` follows, with [`WorkerEnd::Killed`].
    fn kill_worker(&mut self, vm: VmId);

    /// Wants the worker to give its guest memory, or to take some (`root_abi::event::MEMORY`). An order that the worker has not
    /// taken yet is replaced.
    fn order_memory(&mut self, vm: VmId, order: root_abi::MemoryOrder);

    /// Gives typed bytes to the guest's serial line.
    fn send_input(&mut self, vm: VmId, bytes: &[u8]);

    /// Test hook: makes the worker misbehave, to show that nobody else suffers.
    fn debug_worker(&mut self, vm: VmId, fault: DebugFault);

    /// Who owns the machine's memory at this moment.
    fn memory(&self) -> MemoryReport;

    /// Shows the stats pages of `whose`, as they are now: objects in their order, a partition before its VPs. What is not
    /// there is left out.
    fn counters(&self, whose: Whose, look: &mut dyn FnMut(Object, &Page));

    /// Shows registers of a VM's VPs, each VP with the values of `names` in their order. What is not there is left out.
    ///
    /// Of a VP that runs they are those of a moment.
    fn registers(
        &self,
        vm: VmId,
        names: &[HvRegisterName],
        look: &mut dyn FnMut(u32, &[HvRegisterValue]),
    );

    /// Counters of the root's own kernel, for `counters`.
    fn own_counters(&self) -> Vec<Counter>;

    /// Events that others than the manager keep (the hypervisor's log, the kernel's), oldest first.
    fn events(&self) -> Vec<Event>;

    /// Switches the machine off.
    fn power_off(&mut self);

    /// Resets the machine.
    fn reboot(&mut self);
}

/// How a worker ended. By the time the manager is told, its partition and memory are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerEnd {
    /// It exited by itself; the text is its own.
    Exited(ExitReason, String),
    /// The kernel ended it: a CPU exception, or a system call nobody makes by accident.
    Crashed(String),
    /// It was killed by [`Host::kill_worker`].
    Killed,
}

/// Ways to misbehave, for [`Host::debug_worker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DebugFault {
    /// Panic.
    Panic,
    /// Write to memory that is not its own.
    Wild,
    /// Loop for ever.
    Loop,
}

/// Who owns the machine's memory; everything in pages of 4 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryReport {
    /// All RAM of the machine.
    pub total: u64,
    /// Free in the root.
    pub free: u64,
    /// The root kernel: image, heap, page tables.
    pub root_kernel: u64,
    /// Worker processes, without their guests' RAM.
    pub workers: u64,
    /// The boot archive.
    pub archive: u64,
    /// The hypervisor itself.
    pub hypervisor: u64,
    /// RAM that firmware keeps or that is not used by anyone.
    pub firmware: u64,
    /// Each child partition.
    pub partitions: Vec<PartitionMemory>,
    /// The same memory by NUMA node, but for the hypervisor's own, of which nobody says where it is. May be empty if there is one
    /// node.
    pub nodes: Vec<NodeMemory>,
}

/// A NUMA node's part of [`MemoryReport`], in pages of 4 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeMemory {
    /// All of it.
    pub total: u64,
    /// Free.
    pub free: u64,
    /// The root's kernel, the boot archive, and what firmware keeps of it.
    pub root: u64,
    /// Worker processes, without their guests' RAM.
    pub workers: u64,
}

impl MemoryReport {
    /// All owners, with the pages of each. Their sum is [`total`](Self::total): every page has one owner.
    pub fn owners(&self) -> [(&'static str, u64); 8] {
        let sum = |pages: fn(&PartitionMemory) -> u64| {
            let pages = self.partitions.iter().map(pages);
            pages.fold(0, u64::saturating_add)
        };
        [
            ("Free", self.free),
            ("Root Kernel", self.root_kernel),
            ("Worker Processes", self.workers),
            ("Boot Archive", self.archive),
            ("Hypervisor", self.hypervisor),
            ("Firmware", self.firmware),
            ("Guest RAM", sum(|part| part.ram)),
            ("Deposited", sum(PartitionMemory::deposited)),
        ]
    }

    /// Guest RAM of a VM, in pages.
    pub fn ram_of(&self, vm: VmId) -> u64 {
        let parts = self.partitions.iter().filter(|part| part.vm == vm);
        parts.fold(0, |sum, part| part.ram.saturating_add(sum))
    }

    /// What was deposited for a VM, in pages.
    pub fn deposited_of(&self, vm: VmId) -> u64 {
        let parts = self.partitions.iter().filter(|part| part.vm == vm);
        parts
            .map(PartitionMemory::deposited)
            .fold(0, u64::saturating_add)
    }
}

/// A child partition's part of [`MemoryReport`], in pages of 4 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionMemory {
    /// Whose it is.
    pub vm: VmId,
    /// Guest RAM.
    pub ram: u64,
    /// Deposited and not used yet.
    pub deposited_available: u64,
    /// Deposited and in use.
    pub deposited_in_use: u64,
    /// Guest RAM in each NUMA node; only meaningful if the report has nodes.
    pub ram_in: [u64; MAX_NODES],
    /// Deposited in each NUMA node, in use or not; as `ram_in`.
    pub deposited_in: [u64; MAX_NODES],
}

impl PartitionMemory {
    /// All that was deposited.
    pub fn deposited(&self) -> u64 {
        self.deposited_available
            .saturating_add(self.deposited_in_use)
    }
}

/// A counter of the root's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Name.
    pub name: String,
    /// Value.
    pub value: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Reference time, 100 ns.
    pub time: u64,
    /// Who says so: `hypervisor`, `root`, or a VM's name.
    pub source: String,
    /// What: a line, or several.
    pub text: String,
}
