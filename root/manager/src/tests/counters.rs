//! Counters by their names.

use std::collections::HashSet;

use tlfs::stats::{logical_processor as lp, partition, vp};

use super::fake::{begun, typed, vm};
use crate::VmId;
use crate::counters::{Object, Page, Whose};

const A: VmId = VmId(0);

fn page(counters: &[(u32, u64)]) -> Box<Page> {
    let mut page = Box::new([0; 512]);
    for (counter, value) in counters {
        page[*counter as usize] = *value;
    }
    page
}

#[test]
fn names_are_unique_within_a_page() {
    for object in [
        Object::Hypervisor,
        Object::LogicalProcessor(0),
        Object::Partition,
        Object::VirtualProcessor(0),
    ] {
        let mut seen = HashSet::new();
        for value in object.values(&Box::new([1; 512])) {
            assert!(seen.insert(value.name()), "{object:?}: {}", value.name());
        }
    }
}

#[test]
fn totals_are_sums_of_what_is_kept() {
    let vp = page(&[
        (vp::IO_INSTRUCTIONS_COUNT, 5),
        (vp::IO_INSTRUCTIONS_TIME, 1000),
        (vp::CPUID_INSTRUCTIONS_COUNT, 2),
        (vp::IO_INTERCEPT_MESSAGES, 4),
    ]);
    let first: Vec<_> = Object::VirtualProcessor(0).values(&vp).take(2).collect();
    assert_eq!(
        (first[0].name(), first[0].value),
        ("Total Intercepts/sec", 7)
    );
    assert_eq!((first[1].name(), first[1].value), ("Total Messages/sec", 4));
    let lp = page(&[
        (lp::GLOBAL_TIME, 100),
        (lp::TOTAL_RUN_TIME, 30),
        (lp::TIMER_INTERRUPTS, 8),
        (lp::HARDWARE_INTERRUPTS, 1),
    ]);
    let values: Vec<_> = Object::LogicalProcessor(0).values(&lp).collect();
    assert_eq!(
        (values[0].name(), values[0].value),
        ("Total Interrupts/sec", 9)
    );
    assert_eq!((values[1].name(), values[1].value), ("% Idle Time", 70));
}

#[test]
fn the_table_has_a_section_for_each_object_and_sums_of_several_vps() {
    let (mut manager, mut host) = begun(&[vm("a", "")]);
    let whose = Whose::Vm(A);
    host.set(whose, Object::Partition, &[(partition::GPA_PAGES, 9)]);
    for (index, count) in [(0, 3), (1, 40)] {
        let counters = [(vp::HYPERCALLS_COUNT, count)];
        host.set(whose, Object::VirtualProcessor(index), &counters);
    }
    let expected = "counters a
COUNTER            VALUE  PERFORMANCE COUNTER
Hyper-V Hypervisor Partition (a)
PtGpaPages             9  GPA Pages
Hyper-V Hypervisor Virtual Processor (a:Hv VP 0)
-                      3  Total Intercepts/sec
VpHypercallsCount      3  Hypercalls/sec
Hyper-V Hypervisor Virtual Processor (a:Hv VP 1)
-                     40  Total Intercepts/sec
VpHypercallsCount     40  Hypercalls/sec
Hyper-V Hypervisor Virtual Processor (_Total)
-                     43  Total Intercepts/sec
VpHypercallsCount     43  Hypercalls/sec
partita> ";
    assert_eq!(typed(&mut manager, &mut host, "counters a"), expected);
}

#[test]
fn the_machine_is_the_hypervisor_its_processors_and_the_root() {
    let (mut manager, mut host) = begun(&[vm("a", "")]);
    host.set(
        Whose::Machine,
        Object::LogicalProcessor(1),
        &[(lp::PROCESSOR_HALTS, 6)],
    );
    host.set(
        Whose::Root,
        Object::VirtualProcessor(1),
        &[(vp::APIC_IPIS_SENT, 5)],
    );
    host.set(
        Whose::Vm(A),
        Object::VirtualProcessor(0),
        &[(vp::HYPERCALLS_COUNT, 1)],
    );
    let text = typed(&mut manager, &mut host, "counters");
    assert!(text.contains("Hyper-V Hypervisor Logical Processor (Hv LP 1)\nLpProcessorHalts"));
    let root = "Hyper-V Hypervisor Root Virtual Processor (Root VP 1)\nVpApicIpisSent";
    assert!(text.contains(root), "{text}");
    assert!(text.contains("Root kernel\nprocess turns "), "{text}");
    assert!(!text.contains("VpHypercallsCount"));
}
