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
        good &= verdict != "MISS";
        let bound = bound.map(|bound| bound.to_string()).unwrap_or_default();
        row(
            key,
            &figure.value.to_string(),
            &figure.unit,
            &bound,
            verdict,
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
