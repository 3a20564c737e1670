//! Figures of the rings of VMBus: `root/vmbus/benches/ring.rs`.

use anyhow::Result;

use super::{build, count_in, told};
use crate::bench::figure::{Figure, Figures};
use crate::step::Step;

/// What `cargo xtask bench FILTER` looks for.
pub const NAME: &str = "host-rings";
const COMMAND: &str = "cargo xtask bench host-rings";

/// Packets of 16 bytes: those that go around the ring's end, some dozens, count in the average.
const PACKETS: u64 = 10_000;

/// Builds the program and takes its figures.
pub fn measure() -> Result<Figures> {
    let program = build("vmbus", "ring")?;
    let step = Step::start("Measuring the rings on the host");
    let mut figures = Figures::new();

    let count = PACKETS.to_string();
    let small = count_in(&program, "write_16", &["write_16", &count])?;
    let value = small.instructions.div_ceil(PACKETS);
    let mut figure = Figure::new(value, "instructions", COMMAND);
    let average = small.instructions as f64 / PACKETS as f64;
    figure.counters.insert("average".into(), average);
    figures.insert("ring_write_16".into(), figure);

    let mut copies = Figure::new(0, "memcpy calls", COMMAND);
    for place in ["inside", "across"] {
        let large = count_in(&program, "write_8k", &["write_8k", place])?;
        copies.value = copies.value.max(large.copies);
        copies.counters.insert(place.into(), large.copies as f64);
    }
    figures.insert("ring_write_8k_copies".into(), copies);

    figures.extend(told(&program, &["ratio"], COMMAND)?);
    step.done();
    Ok(figures)
}
