//! What processors do for round trips, by their counters, most of which are Partita's own.

use tlfs::stats::{logical_processor as lp, partita};
use tlfs::{HvStatsAreaType, HvStatsObjectIdentity, HvStatsObjectType};

use super::{Root, memory, stats};

/// What is counted, with the names of the bench.
const COUNTED: [(&str, u32); 10] = [
    ("vmload", partita::VMLOADS),
    ("vmsave", partita::VMSAVES),
    ("xsave", partita::XSAVES),
    ("xrstor", partita::XRSTORS),
    ("tlb_flush", partita::TLB_FLUSH_REQUESTS),
    ("msr_write", partita::MSR_WRITES),
    ("cr_write", partita::CONTROL_REGISTER_WRITES),
    // Only where VPs and processors wait for each other.
    ("switch", lp::CONTEXT_SWITCHES),
    ("halt", lp::PROCESSOR_HALTS),
    ("ipi", lp::INTER_PROCESSOR_INTERRUPTS),
];
/// Those of every row.
const OF_A_TRIP: usize = 7;
const SWITCH: usize = 7;
const HALT: usize = 8;
const IPI: usize = 9;

/// What one or more processors did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; COUNTED.len()]);

impl Counts {
    /// What `task` lets processor 0 do.
    pub fn during(root: &mut Root, task: impl FnOnce(&mut Root)) -> Self {
        Self::on_all(root, 1, task)
    }

    /// What `task` lets the first `processors` do, added up. More than one bring their pages up to date when their root VPs
    /// wake up, which they do each second ([`super::processors`]).
    pub fn on_all(root: &mut Root, processors: u32, task: impl FnOnce(&mut Root)) -> Self {
        let before = Self::look(root, processors);
        task(root);
        Self::look(root, processors).less(before)
    }

    fn look(root: &mut Root, processors: u32) -> Self {
        const A_WHILE: u64 = 1_100_000;
        if processors > 1 {
            root.messages.sleep(A_WHILE);
        }
        let mut sum = Self::default();
        for index in 0..processors {
            let found = read(root, index, COUNTED.map(|(_, index)| index));
            (sum.0.iter_mut().zip(found)).for_each(|(sum, found)| *sum += found);
        }
        sum
    }

    /// Without what something else takes that was done as well. What is less than that by chance, an interrupt or so, is
    /// nothing.
    #[must_use]
    pub fn less(self, other: Self) -> Self {
        Self(core::array::from_fn(|index| {
            self.0[index].saturating_sub(other.0[index])
        }))
    }

    /// Switches between VPs.
    pub fn switches(&self) -> u64 {
        self.0[SWITCH]
    }

    /// How often processors were halted.
    pub fn halts(&self) -> u64 {
        self.0[HALT]
    }

    /// Interrupts of one processor's for another that came.
    pub fn ipis(&self) -> u64 {
        self.0[IPI]
    }

    /// ` NAME=N.NNN` for each, of so many round trips.
    pub fn per(&self, trips: u64) -> Line<'_> {
        Line(&self.0, trips)
    }
}

/// Prints what a round trip under the bench's `key` takes. `task` makes so many round trips.
///
/// The bench adds the line to its figure: `counts KEY NAME=N.NNN ...`.
pub fn row(root: &mut Root, key: &str, mut task: impl FnMut(&mut Root, u64)) {
    const TRIPS: u64 = 1000;
    // The first time fills caches and pools; and a task costs something besides its round trips.
    task(root, TRIPS);
    let none = Counts::during(root, |root| task(root, 0));
    let all = Counts::during(root, |root| task(root, TRIPS));
    for (index, (name, _)) in COUNTED[..OF_A_TRIP].iter().enumerate() {
        check!(all.0[index] >= none.0[index], "{name} of {key} goes down");
    }
    let trips = all.less(none).0;
    say!("counts {key}{}", Line(&trips[..OF_A_TRIP], TRIPS));
}

/// Prints the longest stretch of the hypervisor with interrupts off, if this is a hypervisor that measures it.
pub fn longest_section(root: &mut Root) {
    let [length, exit, rcx] = read(
        root,
        0,
        [
            partita::LONGEST_SECTION,
            partita::LONGEST_SECTION_EXIT,
            partita::LONGEST_SECTION_RCX,
        ],
    );
    if length != 0 {
        say!("bench max_hypervisor_section {length} instructions exit={exit} rcx={rcx}");
    }
}

/// Counters of a processor: the page of the one that this runs on is brought up to date when it is mapped.
fn read<const N: usize>(root: &mut Root, processor: u32, indexes: [u32; N]) -> [u64; N] {
    let identity = HvStatsObjectIdentity::logical_processor(processor, HvStatsAreaType::SELF);
    let input = stats::object(HvStatsObjectType::LOGICAL_PROCESSOR, identity);
    let page = stats::map(root, &input);
    let values = indexes.map(|index| memory::read(page + 8 * u64::from(index)));
    stats::unmap(root, &input);
    values
}

/// The first of the counters, of so many round trips.
pub struct Line<'a>(&'a [u64], u64);

impl core::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self(counts, trips) = *self;
        counts
            .iter()
            .zip(COUNTED)
            .try_for_each(|(count, (name, _))| {
                let thousandths = (count * 1000 + trips / 2) / trips.max(1);
                write!(
                    f,
                    " {name}={}.{:03}",
                    thousandths / 1000,
                    thousandths % 1000
                )
            })
    }
}
