//! Figures from the tables that the root console's `counters` prints.
//!
//! A table begins with a line `COUNTER VALUE PERFORMANCE COUNTER`, and has a line for each counter that is not zero: its
//! name, its value, and the name of the performance counter, if there is one. Before those of an object there is a line with
//! the object; what is the sum of others is not looked at.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use tlfs::stats::{CounterName, partita, partition, vp};

use super::figure::{Counters, Figure, Figures};
use crate::test::scenario::Work;

/// A table: values by the names of the counters, those of several VPs added up.
pub type Table = BTreeMap<String, u64>;

/// The line before the counters of an object begins with one of these.
const OBJECTS: [&str; 3] = [
    "Hyper-V Hypervisor",
    "Hyper-V Dynamic Memory",
    "Root kernel",
];

/// Pages of a GiB.
const GIB: f64 = (1 << 18) as f64;

/// All tables of a transcript, in their order.
pub fn tables(transcript: &str) -> Vec<Table> {
    let mut tables = Vec::new();
    let mut open: Option<Table> = None;
    let mut sums = false;
    for line in transcript.lines() {
        // Names have single spaces in them, columns are at least two apart.
        let cells: Vec<&str> = line.split("  ").filter(|cell| !cell.is_empty()).collect();
        let cells: Vec<&str> = cells.into_iter().map(str::trim).collect();
        match (cells.as_slice(), &mut open) {
            (["COUNTER", "VALUE", ..], _) => tables.extend(open.replace(Table::new())),
            ([object], Some(_)) if OBJECTS.iter().any(|start| object.starts_with(start)) => {
                sums = object.ends_with("(_Total)");
            }
            ([name, value, ..], Some(table)) if value.parse::<u64>().is_ok() => {
                let value: u64 = value.parse().unwrap_or_default();
                if !sums && *name != "-" {
                    *table.entry((*name).to_owned()).or_default() += value;
                }
            }
            _ => tables.extend(open.take()),
        }
    }
    tables.extend(open);
    tables
}

/// The exits of a VM by kind, from the last table of its counters: the figure `NAME` is their sum, and
/// `NAME_without_port_io` is that without the accesses to ports.
///
/// # Errors
/// If the transcript has no table with exits.
pub fn exits(name: &str, transcript: &str, command: &str, figures: &mut Figures) -> Result<()> {
    let table = tables(transcript).pop();
    let table = table.context("the console printed no counters")?;
    let kind = |index: &u32| {
        let (_, counter, _) = vp::COUNTERS.iter().find(|(known, ..)| known == index)?;
        Some((*index, (*counter).to_owned(), *table.get(*counter)?))
    };
    let kinds: Vec<(u32, String, u64)> = vp::TOTAL_INTERCEPTS_COUNTS
        .iter()
        .filter_map(kind)
        .collect();
    let mut add = |key: String, counted: &dyn Fn(u32) -> bool| {
        let counted = kinds.iter().filter(|(index, ..)| counted(*index));
        let sum = counted.clone().map(|(.., value)| value).sum();
        let mut figure = Figure::new(sum, "exits", command);
        figure.counters = counted
            .map(|(_, counter, value)| (counter.clone(), *value as f64))
            .collect();
        figures.insert(key, figure);
    };
    add(name.into(), &|_| true);
    add(format!("{name}_without_port_io"), &|index| {
        index != vp::IO_INSTRUCTIONS_COUNT
    });
    (!kinds.is_empty())
        .then_some(())
        .context("the console's counters have no exits")
}

/// The longest stretch with interrupts off, from the last table of the machine's counters, if that has one.
pub fn section(transcript: &str, command: &str) -> Option<Figure> {
    let table = tables(transcript).pop()?;
    let value = *table.get("PartitaLpLongestSection")?;
    let mut figure = Figure::new(value, "instructions", command);
    for (name, counter) in [
        ("exit", "PartitaLpLongestSectionExit"),
        ("rcx", "PartitaLpLongestSectionRcx"),
    ] {
        let value = table.get(counter).copied().unwrap_or(0);
        figure.counters.insert(name.into(), value as f64);
    }
    Some(figure)
}

/// What the processor does for a round trip, from the last three tables of the machine's counters: what came between the
/// second and the third, without what came between the first and the second, in which no round trips were made.
///
/// # Errors
/// If there are fewer tables, or without these counters.
pub fn work(work: &Work, transcript: &str) -> Result<Counters> {
    let tables = tables(transcript);
    let [.., first, second, third] = tables.as_slice() else {
        bail!("the console did not print counters three times");
    };
    let names = [
        ("vmload", partita::VMLOADS),
        ("vmsave", partita::VMSAVES),
        ("xsave", partita::XSAVES),
        ("xrstor", partita::XRSTORS),
        ("tlb_flush", partita::TLB_FLUSH_REQUESTS),
        ("msr_write", partita::MSR_WRITES),
        ("cr_write", partita::CONTROL_REGISTER_WRITES),
    ];
    if !third.contains_key("PartitaLpGuestEntries") {
        bail!("the console's counters are not the machine's");
    }
    let per_trip = names.map(|(name, index)| {
        let of = |table: &Table| value(table, partita::COUNTERS, index);
        let trips = of(third) - of(second) - (of(second) - of(first));
        let thousandths = (1000.0 * trips / f64::from(work.trips)).round();
        (name.to_owned(), thousandths / 1000.0)
    });
    Ok(per_trip.into())
}

/// What was counted at a moment.
struct Look<'t> {
    root: &'t Table,
    vm: &'t Table,
}

impl Look<'_> {
    /// A counter of the root's VPs.
    fn root(&self, index: u32) -> f64 {
        value(self.root, vp::COUNTERS, index)
    }

    /// A counter of the VM's partition.
    fn vm(&self, index: u32) -> f64 {
        value(self.vm, partition::COUNTERS, index)
    }
}

/// A counter in a table, which leaves zeros out.
fn value(table: &Table, names: &[CounterName], index: u32) -> f64 {
    let known = names.iter().find(|(known, ..)| *known == index);
    let name = known.map_or("", |(_, counter, _)| *counter);
    table.get(name).copied().unwrap_or(0) as f64
}

/// What a balloon costs, from the last eight tables: the root's and the VM's, before its pages are taken, after that, after as long a
/// time in which nothing was, and after they were given back. What that idle time has is no part of the figures. An instruction is
/// 2^`shift` ns.
///
/// # Errors
/// If there are fewer tables, no pages moved, or nothing was counted for them; or if the VM had no mappings of 2 MiB to begin with.
pub fn balloon(transcript: &str, shift: u8, command: &str, figures: &mut Figures) -> Result<()> {
    let tables = tables(transcript);
    let [.., root0, vm0, root1, vm1, root2, vm2, root3, vm3] = tables.as_slice() else {
        bail!("the console did not print counters of the root and the VM four times");
    };
    let looks = [(root0, vm0), (root1, vm1), (root2, vm2), (root3, vm3)];
    let [before, taken, idle, given] = looks.map(|(root, vm)| Look { root, vm });
    for (name, from, to) in [("balloon", &before, &taken), ("unballoon", &idle, &given)] {
        let moved = (to.vm(partition::GPA_PAGES) - from.vm(partition::GPA_PAGES)).abs();
        ensure!(moved > 0.0, "no pages moved ({name})");
        let net = |of: &dyn Fn(&Look<'_>) -> f64| of(to) - of(from) - (of(&idle) - of(&taken));
        let of_root = |index: u32| net(&|look: &Look<'_>| look.root(index));
        let of_vm = |index: u32| net(&|look: &Look<'_>| look.vm(index));

        let calls = of_root(vp::GPA_SPACE_HYPERCALLS) * GIB / moved;
        // Times are in units of 100 ns.
        let instructions = of_root(vp::TOTAL_RUN_TIME) * 100.0 / f64::from(1_u32 << shift);
        let each = instructions / moved;
        ensure!(calls > 0.0 && each > 0.0, "nothing was counted ({name})");
        let mut figure = Figure::new(calls.round() as u64, "hypercalls", command);
        let counters = [
            ("pages", moved),
            ("gpa_space_hypercalls", of_root(vp::GPA_SPACE_HYPERCALLS)),
            ("all_hypercalls", of_root(vp::HYPERCALLS_COUNT)),
            ("modifications", of_vm(partition::GPA_SPACE_MODIFICATIONS)),
            ("deposited", of_vm(partition::DEPOSITED_PAGES)),
            ("split", of_vm(partition::PAGES_SHATTERED)),
            ("joined", of_vm(partition::PAGES_RECOMBINED)),
            ("2m_before", from.vm(partition::GPA_PAGES_2M)),
            ("2m_after", to.vm(partition::GPA_PAGES_2M)),
            ("4k_before", from.vm(partition::GPA_PAGES_4K)),
            ("4k_after", to.vm(partition::GPA_PAGES_4K)),
        ];
        figure.counters = counters
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        figures.insert(format!("{name}_hypercalls_per_gib"), figure);

        let figure = Figure::new(each.round() as u64, "instructions", command);
        figures.insert(format!("{name}_instructions_per_page"), figure);
    }
    let [had, has] = [&before, &given].map(|look| look.vm(partition::GPA_PAGES_2M));
    ensure!(had > 0.0, "no mapping of 2 MiB could be kept");
    let kept = Figure::new((has * 100.0 / had) as u64, "percent", command);
    figures.insert("balloon_2m_kept".into(), kept);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Figures, Work, balloon, exits, tables, work};

    const TEXT: &str = "partita> counters a\n\
        COUNTER                   VALUE  PERFORMANCE COUNTER\n\
        Hyper-V Hypervisor Partition (a)\n\
        PtGpaPages                    3  GPA Pages\n\
        Hyper-V Hypervisor Virtual Processor (a:Hv VP 0)\n\
        -                            37  Total Intercepts/sec\n\
        VpIoInstructionsCount        30  IO Instructions/sec\n\
        VpMsrAccessesCount            7  MSR Accesses/sec\n\
        VpVirtualInterrupts           9  Virtual Interrupts/sec\n\
        Hyper-V Hypervisor Virtual Processor (a:Hv VP 1)\n\
        VpIoInstructionsCount         4  IO Instructions/sec\n\
        Hyper-V Hypervisor Virtual Processor (_Total)\n\
        VpIoInstructionsCount        34  IO Instructions/sec\n\
        partita> counters b\n\
        not VALUE 5\n";

    #[test]
    fn a_table_ends_with_the_prompt_and_adds_vps_up() {
        let tables = tables(TEXT);
        assert_eq!(tables.len(), 1);
        assert_eq!(tables[0]["VpIoInstructionsCount"], 34);
        assert_eq!(tables[0].len(), 4);
    }

    #[test]
    fn exits_are_the_kinds_of_intercepts() {
        let mut figures = Figures::new();
        exits("boot_exits", TEXT, "x", &mut figures).unwrap();
        assert_eq!(figures["boot_exits"].value, 41);
        assert_eq!(figures["boot_exits_without_port_io"].value, 7);
        assert_eq!(figures["boot_exits"].counters.len(), 2);
        assert!(exits("boot_exits", "partita> ", "x", &mut figures).is_err());
    }

    #[test]
    fn a_round_trip_does_not_pay_for_the_typing() {
        let table = |loads: u32| {
            format!(
                "COUNTER  VALUE\nPartitaLpGuestEntries  9\nPartitaLpVmloads  {loads}\npartita> \n"
            )
        };
        let text = [100, 130, 2164].map(table).concat();
        let asked = Work {
            figure: "a".into(),
            trips: 1000,
        };
        let counters = work(&asked, &text).unwrap();
        assert_eq!(counters["vmload"], 2.004);
        assert_eq!(counters["xsave"], 0.0);
        assert!(work(&asked, &table(1)).is_err());
    }

    /// What the console prints of the root and the VM, one after the other.
    fn look(pages: u32, calls: u32, time: u32) -> String {
        let large = pages / 512;
        format!(
            "COUNTER  VALUE\nHyper-V Hypervisor Root Virtual Processor (Root VP 0)\n\
             VpTotalRunTime  {time}  % Total Run Time\nVpGpaSpaceHypercalls  {calls}\npartita> \n\
             COUNTER  VALUE\nHyper-V Hypervisor Partition (guest)\nPtGpaPages  {pages}\nPtGpaPages2M  {large}\n\
             Hyper-V Dynamic Memory VM (guest)\n-  7  Physical Memory\n\
             Hyper-V Hypervisor Virtual Processor (guest:Hv VP 0)\nVpTotalRunTime  9\npartita> \n"
        )
    }

    /// 2 GiB are taken, and 1 GiB given back. 10 calls and 1,000 units of time go by in any case.
    fn looks() -> String {
        const GIB: u32 = 1 << 18;
        [
            look(3 * GIB, 100, 5000),
            look(GIB, 100 + 10 + 1024, 5000 + 1000 + 2 * GIB),
            look(GIB, 1144, 7000 + 2 * GIB),
            look(2 * GIB, 1144 + 10 + 5, 8000 + 2 * GIB + 8 * GIB),
        ]
        .concat()
    }

    #[test]
    fn a_balloon_does_not_pay_for_the_time_that_passes() {
        let mut figures = Figures::new();
        balloon(&looks(), 2, "x", &mut figures).unwrap();
        for (figure, value) in [
            ("balloon_hypercalls_per_gib", 512),
            ("unballoon_hypercalls_per_gib", 5),
            ("balloon_instructions_per_page", 25),
            ("unballoon_instructions_per_page", 200),
            // Of 3 GiB in large pages it has 2 again.
            ("balloon_2m_kept", 66),
        ] {
            assert_eq!(figures[figure].value, value, "{figure}");
        }
        let pages = figures["balloon_hypercalls_per_gib"].counters["pages"];
        assert_eq!(pages, 524_288.0);
    }

    #[test]
    fn a_balloon_of_which_nothing_was_counted_is_no_figure() {
        let refused = |text: &str| balloon(text, 2, "x", &mut Figures::new()).is_err();
        assert!(refused(&look(1024, 1, 1)), "one look");
        assert!(refused(&look(1024, 1, 1).repeat(4)), "no pages moved");
        for counter in ["VpGpaSpaceHypercalls", "VpTotalRunTime", "PtGpaPages2M"] {
            assert!(refused(&looks().replace(counter, "Other")), "{counter}");
        }
    }
}
