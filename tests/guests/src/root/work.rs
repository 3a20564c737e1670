//! What the processor does for round trips, by Partita's own counters of it.

use tlfs::stats::partita;
use tlfs::{HvStatsAreaType, HvStatsObjectIdentity, HvStatsObjectType};

use super::{Root, memory, stats};

/// What is counted, with the names of the bench.
const COUNTED: [(&str, u32); 7] = [
    ("vmload", partita::VMLOADS),
    ("vmsave", partita::VMSAVES),
    ("xsave", partita::XSAVES),
    ("xrstor", partita::XRSTORS),
    ("tlb_flush", partita::TLB_FLUSH_REQUESTS),
    ("msr_write", partita::MSR_WRITES),
    ("cr_write", partita::CONTROL_REGISTER_WRITES),
];

type Work = [u64; COUNTED.len()];

/// Prints what a round trip under the bench's `key` takes. `task` makes so many round trips.
///
/// The bench adds the line to its figure: `counts KEY NAME=N.NNN ...`.
pub fn row(root: &mut Root, key: &str, mut task: impl FnMut(&mut Root, u64)) {
    const TRIPS: u64 = 1000;
    // The first time fills caches and pools; and a task costs something besides its round trips.
    task(root, TRIPS);
    let none = during(root, |root| task(root, 0));
    let all = during(root, |root| task(root, TRIPS));
    let mut line = Line::default();
    for (index, (name, _)) in COUNTED.iter().enumerate() {
        check!(all[index] >= none[index], "{name} of {key} goes down");
        line.0[index] = (all[index] - none[index], name);
    }
    say!("counts {key}{line}");
    const {
        assert!(
            TRIPS == 1000,
            "three digits behind the point are thousandths"
        )
    };
}

/// Prints the longest stretch of the hypervisor with interrupts off, if this is a hypervisor that measures it.
pub fn longest_section(root: &mut Root) {
    let [length, exit, rcx] = read(
        root,
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

fn during(root: &mut Root, task: impl FnOnce(&mut Root)) -> Work {
    let before = look(root);
    task(root);
    let after = look(root);
    core::array::from_fn(|index| after[index] - before[index])
}

fn look(root: &mut Root) -> Work {
    read(root, COUNTED.map(|(_, index)| index))
}

/// Counters of the processor: the page is brought up to date when it is mapped.
fn read<const N: usize>(root: &mut Root, indexes: [u32; N]) -> [u64; N] {
    let identity = HvStatsObjectIdentity::logical_processor(0, HvStatsAreaType::SELF);
    let input = stats::object(HvStatsObjectType::LOGICAL_PROCESSOR, identity);
    let page = stats::map(root, &input);
    let values = indexes.map(|index| memory::read(page + 8 * u64::from(index)));
    stats::unmap(root, &input);
    values
}

/// ` NAME=N.NNN` for each, of counts of a thousand round trips.
#[derive(Default)]
struct Line([(u64, &'static str); COUNTED.len()]);

impl core::fmt::Display for Line {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.0
            .iter()
            .try_for_each(|(count, name)| write!(f, " {name}={}.{:03}", count / 1000, count % 1000))
    }
}
