//! What became of the operations.

use core::fmt;

use guests::program::Family;
use guests::tally::Tally;
use tlfs::{HvCallCode, HvStatus};

/// Types of channel messages that are counted one by one.
const TYPES: usize = 25;

/// Counts of everything.
pub struct Counts {
    /// By family: operations that did what they are for, and those that were refused or came to nothing.
    families: [[u64; 2]; Family::ALL.len()],
    /// By type: messages of the host that say that something is so, and those that say that it failed.
    messages: [[u64; 2]; TYPES],
    /// Hypercalls.
    calls: Tally<1024>,
    /// Packets of ours that the host took, packets of the host's, event flags and interrupts.
    pub taken: u64,
    pub packets: u64,
    pub flags: u64,
}

impl Counts {
    pub const fn new() -> Self {
        Self {
            families: [[0; 2]; Family::ALL.len()],
            messages: [[0; 2]; TYPES],
            calls: Tally::new(),
            taken: 0,
            packets: 0,
            flags: 0,
        }
    }

    /// An operation has ended.
    pub fn operation(&mut self, family: Family, did: bool) {
        self.families[family as usize][usize::from(!did)] += 1;
    }

    /// A message of the host.
    pub fn message(&mut self, kind: u32, is_good: bool) {
        if let Some(counts) = self.messages.get_mut(kind as usize) {
            counts[usize::from(!is_good)] += 1;
        }
    }

    /// A hypercall has come back.
    pub fn call(&mut self, code: HvCallCode, status: HvStatus) {
        self.calls.count(code, status);
    }

    /// All hypercalls, by their statuses: a long table.
    pub const fn calls(&self) -> &Tally<1024> {
        &self.calls
    }

    /// Good and bad ones of a family.
    pub fn family(&self, family: Family) -> [u64; 2] {
        self.families[family as usize]
    }

    /// Good and bad messages of a type.
    pub fn messages(&self, kind: u32) -> [u64; 2] {
        self.messages.get(kind as usize).copied().unwrap_or([0; 2])
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, [good, bad]) in self.messages.iter().enumerate() {
            if good + bad != 0 {
                writeln!(f, "message type {kind}: {good} good, {bad} bad")?;
            }
        }
        for family in Family::ALL {
            let [did, refused] = self.family(family);
            writeln!(f, "{family:?}: {did} done, {refused} refused")?;
        }
        let (taken, packets, flags) = (self.taken, self.packets, self.flags);
        writeln!(f, "packets: {taken} taken, {packets} came; {flags} flags")
    }
}
