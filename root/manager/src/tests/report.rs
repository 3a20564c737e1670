//! Reports: the sums are right, and say so.

use crate::{MemoryReport, PartitionMemory, VmId, report};

fn machine() -> MemoryReport {
    let partition = PartitionMemory {
        vm: VmId(0),
        ram: 16384,
        deposited_available: 100,
        deposited_in_use: 28,
        ..PartitionMemory::default()
    };
    MemoryReport {
        total: 65536,
        free: 40000,
        root_kernel: 1024,
        workers: 500,
        archive: 4096,
        hypervisor: 3000,
        firmware: 404,
        partitions: vec![partition],
        nodes: Vec::new(),
    }
}

fn text(report: &MemoryReport) -> String {
    report::memory(report, |_| "a".into())
}

#[test]
fn memory_is_listed_in_kib_and_pages_and_adds_up() {
    let text = text(&machine());
    let row = |owner: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(owner))
            .expect(owner);
        line.split_whitespace()
            .rev()
            .take(2)
            .map(str::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(row("free"), ["40000", "160000"]);
    assert_eq!(row("a: guest RAM"), ["16384", "65536"]);
    assert_eq!(row("a: deposited, in use"), ["28", "112"]);
    assert_eq!(row("sum"), ["65536", "262144"]);
    assert_eq!(row("machine"), ["65536", "262144"]);
    assert!(text.ends_with("every page has one owner\n"));
}

#[test]
fn memory_that_does_not_add_up_is_told() {
    let lost = MemoryReport {
        free: 39990,
        ..machine()
    };
    assert!(text(&lost).ends_with("10 pages have no owner: memory is lost, or counted wrongly\n"));
    let twice = MemoryReport {
        free: 40007,
        ..machine()
    };
    assert!(text(&twice).ends_with("7 pages are counted twice\n"));
    let absurd = MemoryReport {
        free: u64::MAX,
        ..machine()
    };
    assert!(text(&absurd).contains("counted twice"), "sums do not wrap");
}

#[test]
fn numbers_line_up_at_the_right() {
    let text = text(&machine());
    let widths: Vec<_> = text.lines().take(5).map(str::len).collect();
    assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
}
