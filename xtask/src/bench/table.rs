//! The printed table, with the verdicts.

use super::figure::{Figure, Figures};

/// The most that a figure may be; figures without a bound are reported only.
const BOUNDS: [(&str, u64); 6] = [
    ("null_hypercall", 300),
    ("cpuid_exit", 300),
    ("msr_exit", 400),
    ("io_intercept_round_trip", 3_000),
    ("max_hypervisor_section", 100_000),
    ("bytes_per_mapped_gib", 16_384),
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

/// Prints the table; returns whether all bounds are kept. A `complete` one has to have every figure with a bound.
pub fn print(figures: &Figures, complete: bool) -> bool {
    let mut good = true;
    row("figure", "value", "unit", "bound", "verdict");
    for (key, figure) in figures {
        let bound = bound_of(key);
        let verdict = match bound {
            None => "",
            Some(bound) if figure.value <= bound => "pass",
            Some(_) => "MISS",
        };
        let wasted = wasted(key, figure, complete);
        let verdict = verdict.to_owned() + &wasted;
        good &= !verdict.contains("MISS");
        let bound = bound.map(|bound| bound.to_string()).unwrap_or_default();
        row(
            key,
            &figure.value.to_string(),
            &figure.unit,
            &bound,
            &verdict,
        );
        counters(figure);
    }
    for (key, bound) in BOUNDS
        .iter()
        .filter(|(key, _)| complete && !figures.contains_key(*key))
    {
        good = false;
        row(key, "-", "-", &bound.to_string(), "MISS (not measured)");
    }
    good
}

fn bound_of(key: &str) -> Option<u64> {
    let (_, bound) = BOUNDS.iter().find(|(name, _)| *name == key)?;
    Some(*bound)
}

/// What was not counted for a round trip, or what it does that it must not.
fn wasted(key: &str, figure: &Figure, complete: bool) -> String {
    let mut text = String::new();
    if complete && ROUND_TRIPS.contains(&key) && figure.counters.is_empty() {
        text.push_str(" MISS (not counted)");
    }
    for name in NOT_FOR_SAME_VP.iter().filter(|_| SAME_VP.contains(&key)) {
        if let Some(count) = figure.counters.get(*name).filter(|count| **count != 0.0) {
            text.push_str(&format!(" MISS ({name}={count})"));
        }
    }
    text
}

fn row(key: &str, value: &str, unit: &str, bound: &str, verdict: &str) {
    let line = format!("{key:<32} {value:>12} {unit:<14} {bound:>10}  {verdict}");
    println!("{}", line.trim_end());
}

/// What a figure counted, on lines below its row.
fn counters(figure: &Figure) {
    const WIDTH: usize = 110;
    let mut line = String::new();
    for (name, value) in &figure.counters {
        let word = format!("  {name}={value}");
        if !line.is_empty() && line.len() + word.len() > WIDTH {
            println!("   {line}");
            line.clear();
        }
        line += &word;
    }
    if !line.is_empty() {
        println!("   {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::{Figure, Figures, print};

    fn msr_exit(xsave: Option<f64>) -> Figures {
        let mut figure = Figure::new(1, "instructions", "x");
        for name in ["xrstor", "tlb_flush"] {
            figure.counters.insert(name.into(), 0.0);
        }
        figure
            .counters
            .extend(xsave.map(|count| ("xsave".to_owned(), count)));
        [("msr_exit".to_owned(), figure)].into()
    }

    #[test]
    fn an_exit_that_switches_floating_point_state_misses() {
        assert!(print(&msr_exit(Some(0.0)), false));
        assert!(!print(&msr_exit(Some(0.001)), false));
    }

    #[test]
    fn a_complete_table_needs_bounded_figures() {
        assert!(!print(&msr_exit(Some(0.0)), true));
    }
}
