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
    let values = machine.manager.balancer_counters().expect("a VM");
    assert_eq!(
        values.map(|(_, value)| value),
        [free, free + surplus, 74, 74]
    );
    machine.ends(A);
    machine.second();
    assert_eq!(machine.manager.balancer_counters(), None);
}

#[test]
fn a_vm_with_an_order_under_way_or_a_late_report_counts_as_before() {
    let counters = |machine: &Machine| {
        let balancer = machine.manager.balancer_counters().expect("a VM");
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
