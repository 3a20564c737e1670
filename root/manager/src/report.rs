//! What the reporting commands print.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};

use tlfs::HV_STATS_COUNTERS_PER_PAGE;

use crate::console::{Table, kib, seconds};
use crate::counters::{Object, Page};
use crate::host::{Counter, Event, MemoryReport, VmId};
use crate::life::SECOND;
use crate::rates::PerMille;

/// `mem`: every owner with its pages, and whether nothing is missing. `name` gives a VM's name.
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
    let verdict = if sum == report.total {
        "every page has one owner".into()
    } else if sum < report.total {
        format!(
            "{} pages have no owner: memory is lost, or counted wrongly",
            report.total - sum
        )
    } else {
        format!("{} pages are counted twice", sum - report.total)
    };
    format!("{}{verdict}\n", table.text())
}

/// `counters`: `show` is asked to show the pages; those of a VM belong to `vm`, those of the machine and the root to
/// nobody. The VPs of a VM are followed by their sums, if there are several. `own` are the root kernel's.
pub fn counters(
    show: impl FnOnce(&mut dyn FnMut(Object, &Page)),
    vm: &str,
    own: &[Counter],
) -> String {
    let root = vm.is_empty();
    let owner = if root { "Root" } else { vm };
    let mut table = Table::new(["COUNTER", ">VALUE", "PERFORMANCE COUNTER"]);
    let mut vps: (usize, Box<Page>) = (0, Box::new([0; HV_STATS_COUNTERS_PER_PAGE]));
    let mut section = |object: Object, instance: &str, page: &Page| {
        let mut values = object.values(page).peekable();
        if values.peek().is_some() {
            table.line(format!("{} ({instance})", object.set(root)));
        }
        for value in values {
            let counter = if value.counter.is_empty() {
                "-"
            } else {
                value.counter
            };
            table.row([
                counter.into(),
                value.value.to_string(),
                value.performance.into(),
            ]);
        }
    };
    show(&mut |object, page| {
        let instance = match object {
            Object::Hypervisor => "Hv".into(),
            Object::LogicalProcessor(index) => format!("Hv LP {index}"),
            Object::Partition => owner.into(),
            Object::VirtualProcessor(index) if root => format!("Root VP {index}"),
            Object::VirtualProcessor(index) => format!("{vm}:Hv VP {index}"),
        };
        if let Object::VirtualProcessor(_) = object {
            vps.0 += 1;
            crate::counters::add(&mut vps.1, page);
        }
        section(object, &instance, page);
    });
    if vps.0 > 1 {
        section(Object::VirtualProcessor(0), "_Total", &vps.1);
    }
    if !own.is_empty() {
        table.line("Root kernel".into());
    }
    for counter in own {
        table.row([
            counter.name.clone(),
            counter.value.to_string(),
            String::new(),
        ]);
    }
    if table.is_empty() {
        return "no counters\n".into();
    }
    table.text()
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
