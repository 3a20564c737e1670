//! The performance counters of Dynamic Memory.

use serde_json::json;

use super::{A, MIB, Machine, dynamic, state};
use crate::memory::counters::{BALANCER, BALANCER_SET, Kind, Name, Unit, VM, VM_SET};
use crate::stream::{Stream, VPS_PER_LINE};
use crate::tests::fake::vm;

/// The tables of the sheet, 3.3.
const SHEET_BALANCER: &str = "
| Available Memory | MB | u32 gauge |
| Available Memory For Balancing | MB | u32 gauge |
| Average Pressure | % | u32 gauge |
| System Current Pressure | % | u32 gauge |
";
const SHEET_VM: &str = "
| Physical Memory | MB | u32 gauge |
| Guest Visible Physical Memory | MB | u32 gauge |
| Current Pressure | % | u32 gauge |
| Average Pressure | % | u32 gauge |
| Minimum Pressure | % | u32 gauge |
| Maximum Pressure | % | u32 gauge |
| Added Memory | MB | u64 counter |
| Removed Memory | MB | u64 counter |
| Memory Add Operations | count | u64 counter |
| Memory Remove Operations | count | u64 counter |
| Guest Available Memory | MB | u32 gauge |
| Smart Paging Working Set Size | MB | u32 gauge |
";

fn table(names: &[Name]) -> String {
    let row = |name: &Name| {
        let unit = match name.unit {
            Unit::Megabytes => "MB",
            Unit::Percent => "%",
            Unit::Count => "count",
        };
        let kind = match name.kind {
            Kind::Gauge => "u32 gauge",
            Kind::Counter => "u64 counter",
        };
        format!("| {} | {unit} | {kind} |\n", name.name)
    };
    names.iter().map(row).collect()
}

#[test]
fn names_and_units_are_those_of_the_sheet() {
    assert_eq!(table(&BALANCER), SHEET_BALANCER.trim_start());
    assert_eq!(table(&VM), SHEET_VM.trim_start());
    assert_eq!(BALANCER_SET, "Hyper-V Dynamic Memory Balancer");
    assert_eq!(VM_SET, "Hyper-V Dynamic Memory VM");
}

/// The VM of the sheet's experiment, as it idles.
fn idle() -> Machine {
    let mut machine = Machine::new(16384, &[dynamic("a", [1024, 512, 8192], ""), vm("c", "")]);
    machine.run(A, 668);
    let mut told = state(1024, 356, 500);
    told.added = 10 * MIB + 255;
    told.removed = 366 * MIB + 255;
    (told.add_operations, told.remove_operations) = (2, 3);
    told.pressures = [74, 75];
    machine.tell(A, told);
    machine.second();
    machine
}

#[test]
fn values_of_a_vm_are_what_its_worker_told() {
    let machine = idle();
    let values = machine.manager.memory_counters(A).expect("dynamic");
    assert_eq!(
        values.map(|(_, value)| value),
        [668, 1024, 74, 75, 50, 78, 10, 366, 2, 3, 100, 0]
    );
    assert_eq!(machine.manager.memory_counters(super::B), None);
}

#[test]
fn values_of_the_balancer_are_those_of_the_last_round() {
    let mut machine = idle();
    let free = 16384 - 880 - 668;
    let surplus = 668 - 600;
    let values = machine.balancer().expect("a VM");
    assert_eq!(
        values.map(|(_, value)| value),
        [free, free + surplus, 74, 74]
    );
    machine.ends(A);
    machine.second();
    assert_eq!(machine.balancer(), None);
}

#[test]
fn a_vm_with_an_order_under_way_or_a_late_report_counts_as_before() {
    let counters = |machine: &Machine| {
        let balancer = machine.balancer().expect("a VM");
        let vm = machine.manager.memory_counters(A).expect("dynamic");
        (balancer, vm)
    };
    let mut machine = idle();
    let mut told = state(1024, 356, 1200);
    told.flags &= !root_abi::news::MEMORY_CAN_HOT_ADD;
    told.since_add = 0;
    machine.tell(A, told);
    machine.second();
    let before = counters(&machine);
    assert_ne!(before.1[5].1, 78, "a goal of its own");
    told.flags |= root_abi::news::MEMORY_IN_FLIGHT;
    machine.tell(A, told);
    machine.second();
    assert_eq!(counters(&machine), before);
    told.flags &= !root_abi::news::MEMORY_IN_FLIGHT;
    told.report_age = 9 * crate::life::SECOND;
    machine.tell(A, told);
    machine.second();
    assert_eq!(counters(&machine), before);
    // It reports no more, and its pressures are nobody's.
    told.flags &= !root_abi::news::MEMORY_LIVE;
    machine.tell(A, told);
    machine.second();
    let (balancer, _) = counters(&machine);
    assert_eq!((balancer[2].1, balancer[3].1), (0, 0));
}

#[test]
fn a_vm_that_has_told_nothing_has_what_it_started_with() {
    let mut machine = Machine::new(16384, &[dynamic("a", [1024, 512, 8192], "")]);
    assert_eq!(machine.manager.memory_counters(A), None, "it does not run");
    machine.run(A, 1024);
    let values = machine.manager.memory_counters(A).expect("dynamic");
    assert_eq!(
        values.map(|(_, value)| value),
        [1024, 1024, 0, 0, 50, 78, 0, 0, 0, 0, 0, 0]
    );
}

#[test]
fn gauges_do_not_exceed_32_bits() {
    let mut machine = idle();
    let mut lie = state(0, 0, 0);
    lie.visible = u64::MAX;
    lie.added = u64::MAX;
    lie.pressures = [u32::MAX; 2];
    machine.tell(A, lie);
    let values = machine.manager.memory_counters(A).expect("dynamic");
    for ((name, value), of) in values.into_iter().zip(VM) {
        let most = u64::from(u32::MAX);
        assert!(of.kind == Kind::Counter || value <= most, "{name} {value}");
    }
}

#[test]
fn physical_memory_is_startup_and_what_came_less_what_went() {
    let mut machine = idle();
    for pages in 0..600 {
        let mut told = state(1024, 0, 500);
        told.added = pages * 7;
        told.removed = pages * 13;
        machine.tell(A, told);
        let values = machine.manager.memory_counters(A).expect("dynamic");
        let [(_, physical), .., (_, added), (_, removed), _, _, _, _] = values;
        assert_eq!(physical, 1024 + added - removed);
        let exact = 1024 * MIB + pages * 7 - pages * 13;
        assert!(physical.abs_diff(exact / MIB) <= 1);
    }
}

#[test]
fn a_pattern_finds_counters_of_everybody() {
    let mut machine = idle();
    let text = machine.type_in("counters average PRESSURE");
    let expected = "counters average PRESSURE
COUNTER  VALUE  PERFORMANCE COUNTER
Hyper-V Dynamic Memory Balancer (System Balancer)
-           74  Average Pressure
Hyper-V Dynamic Memory VM (a)
-           75  Average Pressure
partita> ";
    assert_eq!(text, expected);
    let all = machine.type_in("counters dynamic memory");
    assert_eq!(all.lines().count(), 2 + 1 + 4 + 1 + 12 + 1, "{all}");
    let own = machine.type_in("counters a");
    assert!(own.contains("Smart Paging Working Set Size"), "{own}");
    assert!(!own.contains("System Balancer"), "{own}");
    assert!(machine.type_in("counters").contains("System Balancer"));
    let text = machine.type_in("counters frob");
    assert!(
        text.contains("there is no VM \"frob\"; there are: a, c; and no counter"),
        "{text}"
    );
}

#[test]
fn csv_is_a_header_and_a_line_for_each_instance() {
    let mut machine = idle();
    let text = machine.type_in("counters average pressure --csv");
    let expected = "counters average pressure --csv
Time,Set,Instance,Average Pressure
6.000000,Hyper-V Dynamic Memory Balancer,System Balancer,74
6.000000,Hyper-V Dynamic Memory VM,a,75
partita> ";
    assert_eq!(text, expected);
    let text = machine.type_in("counters memory balancer --csv");
    assert!(
        text.contains(
            "\nTime,Set,Instance,Available Memory,Available Memory For Balancing,Average Pressure,"
        ),
        "{text}"
    );
    // A counter that is only the other's is empty.
    let text = machine.type_in("counters dynamic memory --csv");
    let lines: Vec<Vec<&str>> = text
        .lines()
        .skip(1)
        .take(3)
        .map(|line| line.split(',').collect())
        .collect();
    let at = |name: &str| {
        let found = lines[0].iter().position(|field| *field == name);
        found.expect(name)
    };
    let (free, size) = (at("Available Memory"), at("Physical Memory"));
    assert_eq!((lines[1][free], lines[1][size]), ("14836", ""));
    assert_eq!((lines[2][free], lines[2][size]), ("", "668"));
    assert!(lines.iter().all(|line| line.len() == lines[0].len()));
    let text = machine.type_in("counters frob --csv");
    assert!(text.contains("there is no VM \"frob\""), "{text}");
}

#[test]
fn csv_has_counters_that_are_zero_and_quotes_what_has_a_comma() {
    let mut machine = idle();
    let whose = crate::counters::Whose::Machine;
    let object = crate::counters::Object::LogicalProcessor(0);
    machine.host.set(whose, object, &[]);
    let text = machine.type_in("counters total run --csv");
    assert!(
        text.contains("Processor,Hv LP 0,0\n"),
        "an object that has counted nothing: {text}"
    );
}

#[test]
fn watched_csv_has_one_header_and_a_sample_each_second() {
    let mut machine = idle();
    let mut text = machine.type_in("counters average pressure --watch --csv");
    for pressure in [80, 90] {
        let mut told = state(1024, 356, 500);
        told.pressures = [74, pressure];
        machine.tell(A, told);
        machine.second();
        text += &machine.host.seen().replace("\r\n", "\n");
    }
    // Nobody has them now, which does not end it.
    machine.ends(A);
    machine.second();
    assert_eq!(machine.host.seen(), "");
    assert_eq!(
        machine.manager.deadline(),
        Some(machine.host.now + crate::life::SECOND)
    );
    machine.manager.console_input(&mut machine.host, b"x");
    assert!(machine.host.seen().ends_with("partita> "));
    machine.second();
    assert_eq!(machine.host.seen(), "");
    let expected = "counters average pressure --watch --csv
Time,Set,Instance,Average Pressure
6.000000,Hyper-V Dynamic Memory Balancer,System Balancer,74
6.000000,Hyper-V Dynamic Memory VM,a,75
7.000000,Hyper-V Dynamic Memory Balancer,System Balancer,74
7.000000,Hyper-V Dynamic Memory VM,a,80
8.000000,Hyper-V Dynamic Memory Balancer,System Balancer,74
8.000000,Hyper-V Dynamic Memory VM,a,90
";
    assert_eq!(text, expected);
}

#[test]
fn watched_counters_are_drawn_every_second_and_fit_the_screen() {
    let mut machine = idle();
    let error = machine.type_in("counters frob --watch");
    assert!(error.contains("there is no VM"), "{error}");
    let shown = machine.type_in("counters average --watch");
    assert!(shown.contains("75  Average Pressure"), "{shown}");
    let mut told = state(1024, 356, 500);
    told.pressures = [74, 88];
    machine.tell(A, told);
    machine.second();
    let shown = machine.host.seen();
    assert!(shown.starts_with("\x1b[H") && shown.contains("88  Average Pressure"));
    machine.manager.console_input(&mut machine.host, b"x");
    machine.host.seen();
    let shown = machine.type_in("counters --watch");
    assert!(!shown.contains("lines more"));
    for index in 0..20 {
        let object = crate::counters::Object::LogicalProcessor(index);
        let whose = crate::counters::Whose::Machine;
        machine.host.set(whose, object, &[(0, 7), (1, 7), (2, 7)]);
    }
    machine.second();
    let shown = machine.host.seen();
    assert!(
        shown.contains("lines more; a pattern shows fewer"),
        "{shown}"
    );
    assert!(shown.lines().count() <= crate::top::ROWS);
}

#[test]
fn the_stream_has_them_in_the_first_line_of_the_machine_and_of_the_vm() {
    let mut machine = idle();
    let whose = crate::counters::Whose::Vm(A);
    for index in 0..=VPS_PER_LINE as u32 {
        let object = crate::counters::Object::VirtualProcessor(index);
        machine.host.set(whose, object, &[(1, 1)]);
    }
    let mut lines: Vec<serde_json::Value> = Vec::new();
    let mut send = |line: &str| {
        lines.push(serde_json::from_str(line).expect("JSON"));
        true
    };
    let mut stream = Stream::default();
    while machine
        .manager
        .stream(&machine.host, &mut stream, &mut send)
    {}
    let balancers = json!([{"name": "System Balancer", "counters": {
        "Available Memory": 14836, "Available Memory For Balancing": 14904,
        "Average Pressure": 74, "System Current Pressure": 74}}]);
    assert_eq!(lines[0]["balancers"], balancers);
    let memory = json!({
        "Physical Memory": 668, "Guest Visible Physical Memory": 1024,
        "Current Pressure": 74, "Average Pressure": 75,
        "Minimum Pressure": 50, "Maximum Pressure": 78,
        "Added Memory": 10, "Removed Memory": 366,
        "Memory Add Operations": 2, "Memory Remove Operations": 3,
        "Guest Available Memory": 100});
    assert_eq!(lines[2]["partitions"][0]["memory"], memory);
    assert_eq!(lines.len(), 4);
    for line in [&lines[1], &lines[3]] {
        assert!(line["partitions"][0].get("memory").is_none());
        assert!(line.get("balancers").is_none());
    }
}
