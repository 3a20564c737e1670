//! Children that keep a processor busy, or wait for interrupts, and what became of them: for roots that look at who runs.

use tlfs::stats::vp as counter;
use tlfs::{
    HvPartitionPropertyCode, HvRegisterName, HvStatsAreaType, HvStatsObjectIdentity,
    HvStatsObjectType, HvVpIndex,
};

use super::child::VMM_FLAGS;
use super::memory;
use super::{Child, Root, Vp, stats};

const CODE: u64 = 0x1000;
const HANDLER: u64 = 0x2000;
const GDT: u64 = 0x6000;
const IDT: u64 = 0x7000;
/// Top of the first VP's stack.
const STACKS: u64 = 0x8000;
/// Where a spinning child keeps the longest time, in TSC ticks, for which it did not run.
const LONGEST_GAP: u64 = 0x3000;
/// Where a waiting child keeps when its last interrupt came, by TSC, and how many came.
const CAME_AT: u64 = 0x3008;
const CAME: u64 = 0x3010;
/// What keeps a child from taking interrupts, while it is not 0.
const CLOSED: u64 = 0x3018;

/// The vector that a waiting child takes.
pub const VECTOR: u8 = 0x61;

child_code!(
    /// Looks at the TSC, not too often, and keeps the longest gap. Interrupts are off.
    busy_spinning,
    "32",
    "rdtsc",
    "mov esi, eax",
    "2: mov ecx, 1000",
    "3: dec ecx",
    "jnz 3b",
    "rdtsc",
    "mov ecx, eax",
    "sub ecx, esi",
    "mov esi, eax",
    "cmp ecx, dword ptr [0x3000]",
    "jbe 2b",
    "mov dword ptr [0x3000], ecx",
    "jmp 2b",
);

child_code!(
    /// Spins with interrupts off until it may take them, and sleeps then for ever.
    busy_waiting,
    "32",
    "mov ecx, 0x1b",
    "rdmsr",
    "or eax, 0xc00",
    "wrmsr",
    "mov ecx, 0x80f",
    "mov eax, 0x1ff",
    "xor edx, edx",
    "wrmsr",
    "2: cmp dword ptr [0x3018], 0",
    "jne 2b",
    "sti",
    "3: hlt",
    "jmp 3b",
);

child_code!(
    /// Of every vector.
    busy_handler,
    "32",
    "push eax",
    "push ecx",
    "push edx",
    "rdtsc",
    "mov dword ptr [0x3008], eax",
    "mov dword ptr [0x300c], edx",
    "inc dword ptr [0x3010]",
    "mov ecx, 0x80b",
    "xor eax, eax",
    "xor edx, edx",
    "wrmsr",
    "pop edx",
    "pop ecx",
    "pop eax",
    "iretd",
);

/// A child whose VPs all do the same.
pub struct Busy {
    /// The partition.
    pub child: Child,
}

/// One of its VPs.
#[derive(Clone, Copy)]
pub struct Worker {
    /// The VP.
    pub vp: Vp,
    /// Its counters, physical address.
    pub counters: u64,
}

impl Busy {
    fn new(root: &mut Root, code: &'static [u8]) -> Self {
        let child = Child::with_ram(root, VMM_FLAGS);
        child.load(CODE, code);
        child.load(HANDLER, busy_handler());
        child.put_segments(GDT);
        (0..256).for_each(|vector| child.put_gate(IDT, vector, HANDLER));
        Self { child }
    }

    /// Its VPs always want to run.
    pub fn spinning(root: &mut Root) -> Self {
        Self::new(root, busy_spinning())
    }

    /// Its VPs sleep, and wake for interrupts once it is [open](Self::open).
    pub fn waiting(root: &mut Root) -> Self {
        let child = Self::new(root, busy_waiting());
        child.child.poke(CLOSED, 1);
        child
    }

    /// From now on its VPs take interrupts.
    pub fn open(&self) {
        self.child.poke(CLOSED, 0);
    }

    /// A VP of it, suspended. Its counters are mapped.
    pub fn worker(&self, root: &mut Root, index: u32) -> Worker {
        let vp = Vp::create(root, &self.child, index);
        vp.enter_flat(root, CODE);
        vp.set_tables(root, (GDT, 0x17), (IDT, 0x7FF));
        // Those behind the first wait for a startup IPI otherwise.
        vp.set64(
            root,
            &[
                (HvRegisterName::RSP, STACKS + 0x100 * u64::from(index)),
                (HvRegisterName::INTERNAL_ACTIVITY_STATE, 0),
            ],
        );
        let area = HvStatsAreaType::SELF;
        let identity = HvStatsObjectIdentity::vp(self.child.id, HvVpIndex(index), area);
        let counters = stats::map(root, &stats::object(HvStatsObjectType::VP, identity));
        Worker { vp, counters }
    }

    /// SetPartitionProperty.
    pub fn set(&self, root: &Root, property: HvPartitionPropertyCode, value: u64) {
        self.child.set_property(root, property, value);
    }

    /// The longest time, in TSC ticks, for which it did not run since this was asked last.
    pub fn longest_gap(&self) -> u64 {
        let gap = self.child.peek(LONGEST_GAP) & 0xFFFF_FFFF;
        self.child.poke(LONGEST_GAP, 0);
        gap
    }

    /// When its last interrupt came, by TSC, and how many came.
    pub fn came(&self) -> (u64, u64) {
        let count = self.child.peek(CAME) & 0xFFFF_FFFF;
        (self.child.peek(CAME_AT), count)
    }
}

impl Worker {
    /// A counter of the VP.
    pub fn counter(&self, index: u32) -> u64 {
        memory::read(self.counters + 8 * u64::from(index))
    }

    /// For how long it ran, in 100 ns.
    pub fn ran(&self) -> u64 {
        self.counter(counter::TOTAL_RUN_TIME)
    }
}
