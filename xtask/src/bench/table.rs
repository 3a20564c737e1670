//! The printed table, with the verdicts.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use super::figure::{Figure, Figures, Measured};
use crate::machine::Vendor;

/// The most that a figure may be, whoever's virtualization it is; figures without a bound are reported only.
const BOUNDS: [(&str, u64); 7] = [
    ("null_hypercall", 300),
    ("cpuid_exit", 300),
    ("msr_exit", 400),
    ("io_intercept_round_trip", 3_000),
    ("max_hypervisor_section", 100_000),
    ("bytes_per_mapped_gib", 16_384),
    ("exit_growth_with_64_vms", 2),
];

/// Figures of round trips, for which is counted what the processor does.
const ROUND_TRIPS: [&str; 4] = [
    "null_hypercall",
    "cpuid_exit",
    "msr_exit",
    "io_intercept_round_trip",
];
/// Those of an exit that returns to the same VP, and what the processor must not do for one.
const SAME_VP: [&str; 3] = ["null_hypercall", "cpuid_exit", "msr_exit"];
const NOT_FOR_SAME_VP: [&str; 3] = ["xsave", "xrstor", "tlb_flush"];

/// How instructions are counted.
pub const COUNTING: [(Vendor, &str); 2] = [
    (
        Vendor::Amd,
        "QEMU's software CPU with -icount shift=0: an instruction is a nanosecond, and that is a tick of the TSC.",
    ),
    (
        Vendor::Intel,
        "Bochs: an instruction is a tick of the TSC, VMRESUME too, and the one that causes an exit.\n     \
         An exit for an interrupt or the preemption timer, which no instruction causes, is a tick.",
    ),
];

/// The table.
pub struct Table {
    /// To be printed.
    pub text: String,
    /// Whether all bounds are kept.
    pub good: bool,
}

/// What there is to say of one figure of one vendor.
struct Cell {
    /// Value and verdict.
    shown: String,
    /// What is wrong besides the value.
    faults: String,
}

impl Table {
    /// Of what was measured. A `complete` one has to have every figure with a bound, of every vendor.
    pub fn new(measured: &Measured, complete: bool) -> Self {
        let mut table = Self {
            text: String::new(),
            good: true,
        };
        let vendors: Vec<Vendor> = measured.keys().copied().collect();
        let names = vendors.iter().map(|vendor| vendor.extension());
        table.row("figure", "bound", "unit", names);
        for (key, unit) in keys(measured, complete) {
            let bound = bound_of(key);
            let cell = |figures: &Figures| Cell::new(key, figures.get(key), bound, complete);
            let cells: Vec<Cell> = measured.values().map(cell).collect();
            table.good &= cells.iter().all(Cell::is_good);
            let bound = bound.map_or_else(String::new, |bound| bound.to_string());
            table.row(key, &bound, unit, cells.iter().map(|cell| &cell.shown));
            for ((vendor, figures), cell) in measured.iter().zip(&cells) {
                table.details(*vendor, figures.get(key), &cell.faults);
            }
        }
        for (vendor, how) in COUNTING
            .iter()
            .filter(|(vendor, _)| vendors.contains(vendor))
        {
            let _ = writeln!(table.text, "{}: {how}", vendor.extension());
        }
        table
    }

    fn row(
        &mut self,
        key: &str,
        bound: &str,
        unit: &str,
        values: impl Iterator<Item = impl Display>,
    ) {
        let mut line = format!("{key:<32} {bound:>8} {unit:<14}");
        for value in values {
            let _ = write!(line, " {value:>16}");
        }
        let _ = writeln!(self.text, "{}", line.trim_end());
    }

    /// What a figure counted, and what is wrong with that, on lines below its row.
    fn details(&mut self, vendor: Vendor, figure: Option<&Figure>, faults: &str) {
        const WIDTH: usize = 110;
        let begin = || format!("     {}:", vendor.extension());
        let mut line = begin();
        let counters = figure.iter().flat_map(|figure| &figure.counters);
        let words = counters.map(|(name, value)| format!("  {name}={value}"));
        for word in words.chain((!faults.is_empty()).then(|| format!(" {faults}"))) {
            if line.len() + word.len() > WIDTH {
                let _ = writeln!(self.text, "{line}");
                line = begin();
            }
            line += &word;
        }
        if line.len() > begin().len() {
            let _ = writeln!(self.text, "{line}");
        }
    }
}

impl Cell {
    fn new(key: &str, figure: Option<&Figure>, bound: Option<u64>, complete: bool) -> Self {
        let Some(figure) = figure else {
            let missing = complete && bound.is_some();
            return Self {
                shown: if missing { "- MISS" } else { "-" }.into(),
                faults: String::new(),
            };
        };
        let verdict = match bound {
            None => "",
            Some(bound) if figure.value <= bound => " pass",
            Some(_) => " MISS",
        };
        Self {
            shown: format!("{}{verdict}", figure.value),
            faults: faults(key, figure, complete),
        }
    }

    fn is_good(&self) -> bool {
        self.faults.is_empty() && !self.shown.ends_with("MISS")
    }
}

/// The keys of all rows with their units: what was measured, and what should have been.
fn keys(measured: &Measured, complete: bool) -> BTreeMap<&str, &str> {
    let bounded = BOUNDS.iter().filter(|_| complete);
    let mut keys: BTreeMap<&str, &str> = bounded.map(|(key, _)| (*key, "")).collect();
    for (key, figure) in measured.values().flatten() {
        keys.insert(key, &figure.unit);
    }
    keys
}

fn bound_of(key: &str) -> Option<u64> {
    let (_, bound) = BOUNDS.iter().find(|(name, _)| *name == key)?;
    Some(*bound)
}

/// What was not counted for a round trip, or what it does that it must not.
fn faults(key: &str, figure: &Figure, complete: bool) -> String {
    let mut text = String::new();
    if complete && ROUND_TRIPS.contains(&key) && figure.counters.is_empty() {
        text.push_str(" MISS (not counted)");
    }
    for name in NOT_FOR_SAME_VP.iter().filter(|_| SAME_VP.contains(&key)) {
        if let Some(count) = figure.counters.get(*name).filter(|count| **count != 0.0) {
            let _ = write!(text, " MISS ({name}={count})");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{BOUNDS, Figure, Figures, Measured, ROUND_TRIPS, Table, Vendor};

    fn msr_exit(value: u64, xsave: f64) -> Figures {
        let mut figure = Figure::new(value, "instructions", "x");
        for (name, count) in [("xrstor", 0.0), ("tlb_flush", 0.0), ("xsave", xsave)] {
            figure.counters.insert(name.into(), count);
        }
        [("msr_exit".to_owned(), figure)].into()
    }

    /// Every figure with a bound, at its bound.
    fn all_bounded() -> Figures {
        let figure = |(key, bound): &(&str, u64)| {
            let mut figure = Figure::new(*bound, "", "x");
            if ROUND_TRIPS.contains(key) {
                figure.counters.insert("msr_write".into(), 1.0);
            }
            ((*key).to_owned(), figure)
        };
        BOUNDS.iter().map(figure).collect()
    }

    fn table(measured: impl IntoIterator<Item = (Vendor, Figures)>, complete: bool) -> Table {
        let measured: Measured = measured.into_iter().collect();
        Table::new(&measured, complete)
    }

    #[test]
    fn an_exit_that_switches_floating_point_state_misses() {
        for vendor in [Vendor::Amd, Vendor::Intel] {
            assert!(table([(vendor, msr_exit(1, 0.0))], false).good);
            let wasteful = table([(vendor, msr_exit(1, 0.001))], false);
            assert!(!wasteful.good && wasteful.text.contains("MISS (xsave=0.001)"));
        }
    }

    #[test]
    fn both_vendors_stand_in_one_row_under_one_bound() {
        let both = table(
            [
                (Vendor::Amd, msr_exit(400, 0.0)),
                (Vendor::Intel, msr_exit(401, 0.0)),
            ],
            false,
        );
        assert!(!both.good);
        let rows: Vec<_> = both
            .text
            .lines()
            .filter(|line| line.starts_with("msr_exit"))
            .collect();
        let words: Vec<_> = rows.iter().flat_map(|row| row.split_whitespace()).collect();
        assert_eq!(
            words,
            [
                "msr_exit",
                "400",
                "instructions",
                "400",
                "pass",
                "401",
                "MISS"
            ]
        );
    }

    #[test]
    fn the_table_has_only_the_vendors_that_ran() {
        let one = table([(Vendor::Intel, msr_exit(1, 0.0))], false).text;
        assert!(one.contains("VMX") && !one.contains("SVM"));
    }

    #[test]
    fn a_complete_table_needs_bounded_figures_of_every_vendor() {
        assert!(
            table(
                [(Vendor::Amd, all_bounded()), (Vendor::Intel, all_bounded())],
                true
            )
            .good
        );
        for (key, _) in BOUNDS {
            let mut fewer = all_bounded();
            fewer.remove(key);
            let pair = [(Vendor::Amd, all_bounded()), (Vendor::Intel, fewer.clone())];
            assert!(!table(pair.clone(), true).good, "{key}");
            assert!(table(pair, false).good, "{key}");
            // Nobody has it: there is a row nevertheless.
            let none = table([(Vendor::Amd, fewer)], true);
            assert!(!none.good && none.text.contains(key));
        }
    }

    #[test]
    fn round_trips_of_a_complete_table_are_counted() {
        for key in ROUND_TRIPS {
            let mut figures = all_bounded();
            figures.get_mut(key).unwrap().counters.clear();
            assert!(!table([(Vendor::Intel, figures)], true).good, "{key}");
        }
    }
}
