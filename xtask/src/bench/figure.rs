//! A figure, and the line in which a payload prints one.

use std::collections::BTreeMap;

use serde::Serialize;

/// One figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    pub counters: BTreeMap<String, u64>,
}

/// Figures by their keys.
pub type Figures = BTreeMap<String, Figure>;

impl Figure {
    /// A figure without samples or counters.
    pub fn new(value: u64, unit: &str, command: &str) -> Self {
        Self {
            value,
            unit: unit.into(),
            command: command.into(),
            min: None,
            max: None,
            counters: BTreeMap::new(),
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
    figure.counters = words
        .filter_map(|word| word.split_once('='))
        .filter_map(|(name, number)| Some((name.to_owned(), number.parse().ok()?)))
        .collect();
    figure.min = figure.counters.remove("min");
    figure.max = figure.counters.remove("max");
    Some((key, figure))
}

#[cfg(test)]
mod tests {
    use super::parse;

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
        assert_eq!(figure.counters["exits"], 1000);
    }

    #[test]
    fn other_lines_are_no_figures() {
        assert!(parse("benchmark cpuid_exit 250 instructions", "x").is_none());
        assert!(parse("bench cpuid_exit fast", "x").is_none());
    }
}
