//! The printed table, with the verdicts.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter, Write as _};

use super::figure::{Figure, Figures, Measured};
use crate::machine::Vendor;

/// What a figure has to keep.
#[derive(Clone, Copy)]
pub enum Bound {
    /// It may be so much.
    Most(u64),
    /// It must be so much.
    Least(u64),
}

/// Bounds by keys; figures without one are reported only.
pub type Bounds = [(&'static str, Bound)];

/// Bounds of what is measured in machines, whoever's virtualization it is.
const IN_MACHINES: &Bounds = &[
    ("null_hypercall", Bound::Most(300)),
    ("cpuid_exit", Bound::Most(300)),
    ("msr_exit", Bound::Most(400)),
    ("io_intercept_round_trip", Bound::Most(3_000)),
    ("max_hypervisor_section", Bound::Most(100_000)),
    ("bytes_per_mapped_gib", Bound::Most(16_384)),
    ("exit_growth_with_64_vms", Bound::Most(2)),
    ("boot_exits_without_port_io", Bound::Most(3_500)),
    // A call for each 2 MiB, and 88 for what is at no such place.
    ("balloon_hypercalls_per_gib", Bound::Most(600)),
    ("unballoon_hypercalls_per_gib", Bound::Most(600)),
    ("balloon_instructions_per_page", Bound::Most(200)),
    // 512 of them fill the page with zeros.
    ("unballoon_instructions_per_page", Bound::Most(1_000)),
    ("balloon_2m_kept", Bound::Least(100)),
];

/// Bounds of the rings, on the host.
pub const OF_RINGS: &Bounds = &[
    ("ring_write_16", Bound::Most(60)),
    ("ring_write_8k_copies", Bound::Most(2)),
    ("ring_write_8k_ratio", Bound::Least(80)),
];

/// Bounds of the balancer, on the host.
pub const OF_BALANCER: &Bounds = &[
    ("balancer_1000", Bound::Most(3_000_000)),
    ("balancer_ratio", Bound::Most(14)),
];

/// Bounds of a balloon, on the host. A message holds 510 ranges, so 1 GiB takes two of them, each way: ranges, not
/// single pages. What single pages cost must grow with their number only.
pub const OF_BALLOON: &Bounds = &[
    ("balloon_pages_per_message", Bound::Least(100_000)),
    ("unballoon_pages_per_message", Bound::Least(100_000)),
    ("balloon_gib_large", Bound::Most(1_500_000)),
    ("unballoon_gib_large", Bound::Most(3_000_000)),
    ("balloon_gib_single", Bound::Most(250_000_000)),
    ("unballoon_gib_single", Bound::Most(400_000_000)),
    ("dynamic_memory_book_per_gib", Bound::Most(70_000)),
];

/// Bounds of the manager, on the host.
pub const OF_MANAGER: &Bounds = &[("manager_bytes_per_vm", Bound::Most(2_048))];

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

/// The head of a column, and its figures.
type Column<'a> = (&'static str, &'a Figures);

/// What there is to say of one figure of one column.
struct Cell {
    /// Value and verdict.
    shown: String,
    /// What is wrong besides the value.
    faults: String,
}

impl Bound {
    fn holds(self, value: u64) -> bool {
        match self {
            Self::Most(most) => value <= most,
            Self::Least(least) => value >= least,
        }
    }
}

impl Display for Bound {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Most(most) => f.pad(&most.to_string()),
            Self::Least(least) => f.pad(&format!(">={least}")),
        }
    }
}

impl Table {
    /// Of what was measured in machines. A `complete` one has to have every figure with a bound, of every vendor.
    pub fn new(measured: &Measured, complete: bool) -> Self {
        let columns: Vec<Column> = measured
            .iter()
            .map(|(vendor, figures)| (vendor.extension(), figures))
            .collect();
        let mut table = Self::of(&columns, IN_MACHINES, complete);
        for (vendor, how) in COUNTING {
            if measured.contains_key(&vendor) {
                let _ = writeln!(table.text, "{}: {how}", vendor.extension());
            }
        }
        table
    }

    /// Of all that a bench measured on the host.
    pub fn of_host(figures: &Figures, bounds: &Bounds) -> Self {
        Self::of(&[("host", figures)], bounds, true)
    }

    fn of(columns: &[Column], bounds: &Bounds, complete: bool) -> Self {
        let mut table = Self {
            text: String::new(),
            good: true,
        };
        let names = columns.iter().map(|(name, _)| name);
        table.row("figure", "bound", "unit", names);
        for (key, unit) in keys(columns, bounds, complete) {
            let bound = bounds.iter().find(|(name, _)| *name == key);
            let bound = bound.map(|(_, bound)| *bound);
            let cell = |(_, figures): &Column| Cell::new(key, figures.get(key), bound, complete);
            let cells: Vec<Cell> = columns.iter().map(cell).collect();
            table.good &= cells.iter().all(Cell::is_good);
            let bound = bound.map_or_else(String::new, |bound| bound.to_string());
            table.row(key, &bound, unit, cells.iter().map(|cell| &cell.shown));
            for ((name, figures), cell) in columns.iter().zip(&cells) {
                table.details(name, figures.get(key), &cell.faults);
            }
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
    fn details(&mut self, column: &str, figure: Option<&Figure>, faults: &str) {
        const WIDTH: usize = 110;
        let begin = || format!("     {column}:");
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
    fn new(key: &str, figure: Option<&Figure>, bound: Option<Bound>, complete: bool) -> Self {
        let Some(figure) = figure else {
            let missing = complete && bound.is_some();
            return Self {
                shown: if missing { "- MISS" } else { "-" }.into(),
                faults: String::new(),
            };
        };
        let verdict = match bound {
            None => "",
            Some(bound) if bound.holds(figure.value) => " pass",
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
fn keys<'a>(
    columns: &[Column<'a>],
    bounds: &'a Bounds,
    complete: bool,
) -> BTreeMap<&'a str, &'a str> {
    let bounded = bounds.iter().filter(|_| complete);
    let mut keys: BTreeMap<&str, &str> = bounded.map(|(key, _)| (*key, "")).collect();
    for (key, figure) in columns.iter().flat_map(|(_, figures)| *figures) {
        keys.insert(key, &figure.unit);
    }
    keys
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
    use super::{
        Bound, Figure, Figures, IN_MACHINES, Measured, OF_BALANCER, OF_BALLOON, OF_MANAGER,
        OF_RINGS, ROUND_TRIPS, Table, Vendor,
    };

    fn msr_exit(value: u64, xsave: f64) -> Figures {
        let mut figure = Figure::new(value, "instructions", "x");
        for (name, count) in [("xrstor", 0.0), ("tlb_flush", 0.0), ("xsave", xsave)] {
            figure.counters.insert(name.into(), count);
        }
        [("msr_exit".to_owned(), figure)].into()
    }

    fn at_bound(bound: Bound) -> Figure {
        let (Bound::Most(value) | Bound::Least(value)) = bound;
        Figure::new(value, "", "x")
    }

    /// Every figure with a bound in machines, at its bound.
    fn all_bounded() -> Figures {
        let figure = |(key, bound): &(&str, Bound)| {
            let mut figure = at_bound(*bound);
            if ROUND_TRIPS.contains(key) {
                figure.counters.insert("msr_write".into(), 1.0);
            }
            ((*key).to_owned(), figure)
        };
        IN_MACHINES.iter().map(figure).collect()
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
        for (key, _) in IN_MACHINES {
            let mut fewer = all_bounded();
            fewer.remove(*key);
            let pair = [(Vendor::Amd, all_bounded()), (Vendor::Intel, fewer.clone())];
            assert!(!table(pair.clone(), true).good, "{key}");
            assert!(table(pair, false).good, "{key}");
            // Nobody has it: there is a row nevertheless.
            let none = table([(Vendor::Amd, fewer)], true);
            assert!(!none.good && none.text.contains(*key));
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

    #[test]
    fn what_the_host_measures_keeps_both_kinds_of_bounds() {
        for bounds in [OF_RINGS, OF_BALANCER, OF_BALLOON, OF_MANAGER] {
            let good: Figures = bounds
                .iter()
                .map(|(key, bound)| ((*key).to_owned(), at_bound(*bound)))
                .collect();
            let table = Table::of_host(&good, bounds);
            assert!(table.good);
            for (key, bound) in bounds {
                let mut worse = good.clone();
                let value = &mut worse.get_mut(*key).unwrap().value;
                match bound {
                    Bound::Most(_) => *value += 1,
                    Bound::Least(least) => {
                        *value -= 1;
                        assert!(table.text.contains(&format!(">={least}")));
                    }
                }
                assert!(!Table::of_host(&worse, bounds).good, "{key}");
                worse.remove(*key);
                assert!(!Table::of_host(&worse, bounds).good, "{key}");
            }
        }
    }
}
