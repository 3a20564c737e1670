//! Figures from the tables that the root console's `counters` prints.
//!
//! A table begins with a line `COUNTER VALUE PERFORMANCE COUNTER`, and has a line for each counter that is not zero: its
//! name, its value, and the name of the performance counter, if there is one. Before those of an object there is a line with
//! the object; what is the sum of others is not looked at.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use tlfs::stats::{partita, vp};

use super::figure::{Counters, Figure, Figures};
use crate::test::scenario::Work;

/// A table: values by the names of the counters, those of several VPs added up.
pub type Table = BTreeMap<String, u64>;

/// The line before the counters of an object begins with one of these.
const OBJECTS: [&str; 2] = ["Hyper-V Hypervisor", "Root kernel"];

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
        let known = partita::COUNTERS.iter().find(|(known, ..)| *known == index);
        let counter = known.map_or("", |(_, counter, _)| counter);
        // The table leaves zeros out.
        let of = |table: &Table| table.get(counter).copied().unwrap_or(0) as f64;
        let trips = of(third) - of(second) - (of(second) - of(first));
        let thousandths = (1000.0 * trips / f64::from(work.trips)).round();
        (name.to_owned(), thousandths / 1000.0)
    });
    Ok(per_trip.into())
}

#[cfg(test)]
mod tests {
    use super::{Figures, Work, exits, tables, work};

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
}
