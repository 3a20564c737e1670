//! The stream of counters: whole lines of JSON, none longer than the buffer, nothing lost without being counted.

use serde_json::Value;
use tlfs::stats::{hypervisor, logical_processor as lp, partition, vp};

use super::fake::{Fake, begun, vm};
use crate::counters::{Object, Whose};
use crate::host::{MemoryReport, PartitionMemory};
use crate::life::SECOND;
use crate::stream::{MAX_LINE, RATE, SCHEMA, Stream, VPS_PER_LINE};
use crate::{Manager, VmId};

const A: VmId = VmId(0);

fn machine(vms: u16) -> (Manager, Fake) {
    let definitions: Vec<_> = (0..vms)
        .map(|index| vm(&format!("vm{index:02}"), "autostart = true"))
        .collect();
    let (manager, mut host) = begun(&definitions);
    let whose = Whose::Machine;
    host.set(whose, Object::Hypervisor, &[(hypervisor::PARTITIONS, 2)]);
    host.set(
        whose,
        Object::LogicalProcessor(0),
        &[(lp::PROCESSOR_HALTS, 3)],
    );
    for whose in (0..vms).map(|vm| Whose::Vm(VmId(vm))).chain([Whose::Root]) {
        host.set(whose, Object::Partition, &[(partition::PARTITION_ID, 257)]);
        let counters = [(vp::HYPERCALLS_COUNT, 5)];
        host.set(whose, Object::VirtualProcessor(0), &counters);
    }
    (manager, host)
}

/// The lines of one look at a serial line that takes so many.
fn look(manager: &Manager, host: &Fake, stream: &mut Stream, most: usize) -> Vec<Value> {
    let mut lines = Vec::new();
    let mut send = |line: &str| {
        let room = lines.len() < most;
        if room {
            assert!(line.ends_with('\n') && line.trim_end().lines().count() == 1);
            lines.push(serde_json::from_str(line).expect("JSON"));
        }
        room
    };
    while manager.stream(host, stream, &mut send) {}
    lines
}

#[test]
fn a_look_is_the_machine_the_root_and_each_vm() {
    let (manager, mut host) = machine(1);
    let part = |vm| PartitionMemory {
        vm: VmId(vm),
        ram: 130,
        deposited_available: 7,
        deposited_in_use: 3,
        ..PartitionMemory::default()
    };
    host.report = MemoryReport {
        total: 1000,
        free: 700,
        root_kernel: 20,
        partitions: vec![part(0), part(1)],
        ..MemoryReport::default()
    };
    let mut stream = Stream::default();
    let lines = look(&manager, &host, &mut stream, 9);
    let expected = serde_json::json!([
        {"schema": SCHEMA, "time": host.now, "sample": 1, "dropped": 0,
         "hypervisor": {"Partitions": 2},
         "processors": [{"index": 0, "counters": {"Processor Halts/sec": 3}}],
         "partitions": [],
         "owners": {"Total": 1000, "Free": 700, "Root Kernel": 20, "Guest RAM": 260, "Deposited": 20}},
        {"schema": SCHEMA, "time": host.now, "sample": 1, "dropped": 0,
         "processors": [],
         "partitions": [{"name": "root", "root": true, "id": 257,
                         "counters": {"Partition Id": 257},
                         "vps": [{"index": 0, "counters":
                                  {"Total Intercepts/sec": 5, "Hypercalls/sec": 5}}]}]},
        {"schema": SCHEMA, "time": host.now, "sample": 1, "dropped": 0,
         "processors": [],
         "partitions": [{"name": "vm00", "root": false, "id": 257,
                         "counters": {"Partition Id": 257},
                         "vps": [{"index": 0, "counters":
                                  {"Total Intercepts/sec": 5, "Hypercalls/sec": 5}}]}]},
    ]);
    assert_eq!(Value::from(lines), expected);
    assert_eq!(look(&manager, &host, &mut stream, 9)[0]["sample"], 2);
}

#[test]
fn vps_of_a_large_vm_are_in_several_lines() {
    let (manager, mut host) = machine(1);
    for index in 0..16 {
        let counters = [(vp::HYPERCALLS_COUNT, 5)];
        host.set(Whose::Vm(A), Object::VirtualProcessor(index), &counters);
    }
    let lines = look(&manager, &host, &mut Stream::default(), 99);
    let of_vm = lines.iter().skip(2);
    let vps = |line: &Value| line["partitions"][0]["vps"].as_array().map(Vec::len);
    let counts: Vec<_> = of_vm.clone().map(vps).collect();
    assert_eq!(counts, [Some(VPS_PER_LINE); 4]);
    let id = |line: &Value| line["partitions"][0]["id"].as_u64();
    assert!(of_vm.clone().all(|line| id(line) == Some(257)));
    let counters = of_vm.map(|line| line["partitions"][0]["counters"].is_object());
    assert!(counters.into_iter().all(|object| object));
}

#[test]
fn the_longest_lines_fit_the_buffer() {
    let (manager, mut host) = machine(1);
    let full: Vec<(u32, u64)> = (0..512).map(|counter| (counter, u64::MAX)).collect();
    host.set(Whose::Machine, Object::Hypervisor, &full);
    for index in 0..16 {
        host.set(Whose::Machine, Object::LogicalProcessor(index), &full);
    }
    host.set(Whose::Vm(A), Object::Partition, &full);
    for index in 0..VPS_PER_LINE as u32 {
        host.set(Whose::Vm(A), Object::VirtualProcessor(index), &full);
    }
    let mut stream = Stream::default();
    let mut longest = 0;
    let mut measure = |line: &str| {
        longest = longest.max(line.len());
        true
    };
    // There is time enough for each.
    while manager.stream(&host, &mut stream, &mut measure) {
        host.now += 100 * SECOND;
    }
    assert!(longest > MAX_LINE / 2 && longest <= MAX_LINE, "{longest}");
    host.now += 100 * SECOND;
    let lines = look(&manager, &host, &mut stream, 99);
    assert_eq!(lines[0]["dropped"], 0);
}

#[test]
fn lines_left_out_are_counted_and_vms_take_turns() {
    let (manager, host) = machine(5);
    let mut stream = Stream::default();
    let mut names = Vec::new();
    let mut dropped = Vec::new();
    for _ in 0..4 {
        let lines = look(&manager, &host, &mut stream, 4);
        assert_eq!(lines.len(), 4);
        let counts = lines.iter().map(|line| line["dropped"].clone());
        dropped.push(counts.collect::<Vec<_>>());
        let name = |line: &Value| line["partitions"][0]["name"].as_str().map(str::to_string);
        names.extend(lines[2..].iter().filter_map(name));
    }
    let order = [
        "vm00", "vm01", "vm02", "vm03", "vm04", "vm00", "vm01", "vm02",
    ];
    assert_eq!(names, order);
    assert_eq!(dropped[0], [0, 0, 0, 0]);
    assert_eq!(dropped[1], [3, 0, 0, 0]);
}

#[test]
fn a_line_that_takes_nothing_loses_no_turn() {
    let (manager, host) = machine(3);
    let mut stream = Stream::default();
    look(&manager, &host, &mut stream, 3);
    for _ in 0..2 {
        assert_eq!(look(&manager, &host, &mut stream, 0).len(), 0);
    }
    let lines = look(&manager, &host, &mut stream, 3);
    assert_eq!(lines[0]["dropped"], 2 + 5 + 5);
    assert_eq!(lines[2]["partitions"][0]["name"], "vm01");
}

#[test]
fn a_vm_that_ends_in_the_midst_of_a_look_is_left_out() {
    let (mut manager, mut host) = machine(2);
    let mut stream = Stream::default();
    let mut lines = 0;
    let mut count = |_: &str| {
        lines += 1;
        true
    };
    assert!(manager.stream(&host, &mut stream, &mut count));
    manager.worker_ended(&mut host, A, &crate::WorkerEnd::Killed);
    while manager.stream(&host, &mut stream, &mut count) {}
    assert_eq!(lines, 3);
}

#[test]
fn no_more_is_sent_than_the_line_carries() {
    let (manager, mut host) = machine(63);
    let mut stream = Stream::default();
    let mut sent = 0;
    let mut count = |line: &str| {
        sent += line.len() as u64;
        true
    };
    const LOOKS: u64 = 20;
    for _ in 0..LOOKS {
        while manager.stream(&host, &mut stream, &mut count) {}
        host.now += SECOND;
    }
    let most = RATE * (LOOKS + 1) + MAX_LINE as u64;
    assert!(sent <= most && sent >= RATE * (LOOKS - 1), "{sent}");
    host.now += 100 * SECOND;
    let lines = look(&manager, &host, &mut stream, 1);
    assert!(lines[0]["dropped"].as_u64() > Some(0));
}
