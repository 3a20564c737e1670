//! A figure, and the line in which a payload prints one.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::machine::Vendor;

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The median, the sum or the size.
    pub value: u64,
    /// What of.
    pub unit: String,
    /// How to measure it again.
    pub command: String,
    /// The least of the samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u64>,
    /// The greatest of the samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
    /// What else was counted during the measurement.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: Counters,
}

/// What was counted, by name: sums, or numbers per round trip.
pub type Counters = BTreeMap<String, f64>;

/// Figures of one vendor's virtualization, by their keys.
pub type Figures = BTreeMap<String, Figure>;

/// Figures of what was measured: each vendor's.
pub type Measured = BTreeMap<Vendor, Figures>;

impl Figure {
    /// A figure without samples or counters.
    pub fn new(value: u64, unit: &str, command: &str) -> Self {
        Self {
            value,
            unit: unit.into(),
            command: command.into(),
            min: None,
            max: None,
            counters: Counters::new(),
        }
    }
}

/// Reads a line `bench KEY VALUE UNIT NAME=N ...`; whatever stands before the word is somebody's prefix.
pub fn parse(line: &str, command: &str) -> Option<(String, Figure)> {
    let mut words = line
        .split_whitespace()
        .skip_while(|word| *word != "bench")
        .skip(1);
    let key = words.next()?.to_owned();
    let value = words.next()?.parse().ok()?;
    let unit = words.next()?;
    let mut figure = Figure::new(value, unit, command);
    for (name, number) in words.filter_map(|word| word.split_once('=')) {
        match name {
            "min" => figure.min = Some(number.parse().ok()?),
            "max" => figure.max = Some(number.parse().ok()?),
            _ => {
                figure.counters.insert(name.into(), number.parse().ok()?);
            }
        }
    }
    Some((key, figure))
}

/// Reads a line `counts KEY NAME=N.NNN ...`.
pub fn parse_counts(line: &str) -> Option<(String, Counters)> {
    let mut words = line.split_whitespace();
    if words.next()? != "counts" {
        return None;
    }
    let key = words.next()?.to_owned();
    let counters = words
        .map(|word| {
            let (name, number) = word.split_once('=')?;
            Some((name.to_owned(), number.parse().ok()?))
        })
        .collect::<Option<Counters>>()?;
    Some((key, counters))
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_counts};

    #[test]
    fn a_figure_has_bounds_and_counters() {
        let (key, figure) = parse(
            "[vm1] bench cpuid_exit 250 instructions min=240 max=300 exits=1000",
            "x",
        )
        .unwrap();
        assert_eq!(key, "cpuid_exit");
        assert_eq!(
            (figure.value, figure.min, figure.max),
            (250, Some(240), Some(300))
        );
        assert_eq!(figure.counters["exits"], 1000.0);
    }

    #[test]
    fn counts_are_whole_or_thousandths() {
        let (key, counters) = parse_counts("counts msr_exit vmload=2.001 xsave=0.000").unwrap();
        assert_eq!(key, "msr_exit");
        assert_eq!(counters["vmload"], 2.001);
        assert_eq!(counters["xsave"], 0.0);
        assert!(parse_counts("counts msr_exit vmload=many").is_none());
    }

    #[test]
    fn other_lines_are_no_figures() {
        assert!(parse("benchmark cpuid_exit 250 instructions", "x").is_none());
        assert!(parse("bench cpuid_exit fast", "x").is_none());
    }
}
