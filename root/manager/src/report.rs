//! What the reporting commands print.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::console::{Table, kib, seconds};
use crate::host::{Event, MemoryReport, VmId};
use crate::life::SECOND;
use crate::rates::PerMille;

/// `mem`: every owner with its pages, of the machine and of each NUMA node if there are several, and whether nothing is missing.
/// `name` gives a VM's name.
pub fn memory(report: &MemoryReport, name: impl Fn(VmId) -> String) -> String {
    let mut table = Table::new(["OWNER", ">KIB", ">PAGES"]);
    let mut sum = 0u64;
    let mut row = |owner: String, pages: u64| {
        sum = sum.saturating_add(pages);
        table.row([owner, kib(pages).to_string(), pages.to_string()]);
    };
    row("free".into(), report.free);
    row("root kernel".into(), report.root_kernel);
    row("worker processes".into(), report.workers);
    row("boot archive".into(), report.archive);
    row("hypervisor".into(), report.hypervisor);
    row("firmware".into(), report.firmware);
    for partition in &report.partitions {
        let vm = name(partition.vm);
        row(format!("{vm}: guest RAM"), partition.ram);
        row(
            format!("{vm}: deposited, available"),
            partition.deposited_available,
        );
        row(
            format!("{vm}: deposited, in use"),
            partition.deposited_in_use,
        );
    }
    table.row(["sum".into(), kib(sum).to_string(), sum.to_string()]);
    table.row([
        "machine".into(),
        kib(report.total).to_string(),
        report.total.to_string(),
    ]);
    let mut text = table.text();
    if report.nodes.len() > 1 {
        text += &nodes(report, name);
    }
    format!("{text}{}\n", verdict(sum, report.total))
}

/// Whether owners with `sum` pages are all there are of `total`.
fn verdict(sum: u64, total: u64) -> String {
    if sum == total {
        "every page has one owner".into()
    } else if sum < total {
        format!(
            "{} pages have no owner: memory is lost, or counted wrongly",
            total - sum
        )
    } else {
        format!("{} pages are counted twice", sum - total)
    }
}

/// Who has what of each node, and where the sum is wrong. Nobody knows where the hypervisor's own pages are: they are in no node.
fn nodes(report: &MemoryReport, name: impl Fn(VmId) -> String) -> String {
    let mut table = Table::new(["NODE", "OWNER", ">KIB", ">PAGES"]);
    let mut wrong = String::new();
    for (at, node) in report.nodes.iter().enumerate() {
        let mut owners = Vec::from([
            ("free".to_string(), node.free),
            ("root".into(), node.root),
            ("worker processes".into(), node.workers),
        ]);
        for part in &report.partitions {
            let vm = name(part.vm);
            let of = |spread: &[u64]| spread.get(at).copied().unwrap_or(0);
            owners.push((format!("{vm}: guest RAM"), of(&part.ram_in)));
            owners.push((format!("{vm}: deposited"), of(&part.deposited_in)));
        }
        let all = owners.iter().map(|(_, pages)| *pages);
        let sum = all.fold(0, u64::saturating_add);
        owners.retain(|(_, pages)| *pages != 0);
        owners.push(("all".into(), node.total));
        for (owner, pages) in owners {
            table.row([
                at.to_string(),
                owner,
                kib(pages).to_string(),
                pages.to_string(),
            ]);
        }
        if sum != node.total {
            wrong += &format!("node {at}: {}\n", verdict(sum, node.total));
        }
    }
    format!("{}{wrong}", table.text())
}

/// A share with one digit behind the point.
pub fn percent(share: PerMille) -> String {
    format!("{}.{}", share / 10, share % 10)
}

/// `events`.
pub fn events(events: &[Event]) -> String {
    let mut table = Table::new([">SECONDS", "SOURCE", "EVENT"]);
    for event in events {
        let mut lines = event.text.split('\n');
        let first = lines.next().unwrap_or_default();
        table.row([seconds(event.time), event.source.clone(), first.into()]);
        for line in lines {
            table.row([String::new(), String::new(), format!("  {line}")]);
        }
    }
    table.text()
}

/// A duration as hours, minutes and seconds.
pub fn duration(time: u64) -> String {
    let all = time / SECOND;
    format!("{}:{:02}:{:02}", all / 3600, all / 60 % 60, all % 60)
}
