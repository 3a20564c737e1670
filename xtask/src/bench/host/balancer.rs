//! Figures of the memory balancer: `root/balancer/benches/round.rs`.

use anyhow::Result;

use super::{build, count_in};
use crate::bench::figure::{Figure, Figures};
use crate::step::Step;

/// What `cargo xtask bench FILTER` looks for.
pub const NAME: &str = "host-balancer";
const COMMAND: &str = "cargo xtask bench host-balancer";

/// VMs on the node.
const COUNTS: [u64; 4] = [10, 100, 1_000, 10_000];

/// Builds the program and takes its figures: a round for so many VMs, and how it grows from 1,000 VMs to 10,000.
pub fn measure() -> Result<Figures> {
    let program = build("balancer", "round")?;
    let step = Step::start("Measuring the balancer on the host");
    let mut figures = Figures::new();
    let mut rounds = Vec::new();
    for count in COUNTS {
        let counted = count_in(&program, "one_round", &[&count.to_string()])?;
        let mut figure = Figure::new(counted.instructions, "instructions", COMMAND);
        let each = counted.instructions as f64 / count as f64;
        figure.counters.insert("per_vm".into(), each);
        figures.insert(format!("balancer_{count}"), figure);
        rounds.push(counted.instructions);
    }
    figures.insert("balancer_ratio".into(), ratio(&rounds));
    step.done();
    Ok(figures)
}

/// The last of these rounds by the one before, rounded up: a bound that is kept is kept by the fraction, too.
fn ratio(rounds: &[u64]) -> Figure {
    let (many, fewer) = match rounds {
        [.., fewer, many] => (*many, *fewer),
        _ => (0, 0),
    };
    let mut figure = Figure::new(many.div_ceil(fewer.max(1)), "times", COMMAND);
    let exact = many as f64 / fewer.max(1) as f64;
    figure.counters.insert("exact".into(), exact);
    figure
}

#[cfg(test)]
mod tests {
    use super::ratio;

    #[test]
    fn a_ratio_is_of_the_two_largest_rounds_and_rounded_up() {
        assert_eq!(ratio(&[1, 5, 100, 1400]).value, 14);
        let above = ratio(&[1, 5, 100, 1401]);
        assert_eq!(above.value, 15);
        assert_eq!(above.counters["exact"], 14.01);
    }
}
