//! What lies in buffers.

use std::collections::BTreeSet;

use tlfs::{HvEventLogEntryType, HvEventLogSystemSources, HvPartitionId};

use super::*;
use crate::arch::exit::Access;

#[test]
fn a_buffer_and_its_entries_have_the_documented_layout() {
    let mut root = Root::tracing(geometry(LOCAL));
    let free = root.header(LOCAL, 0);
    assert_eq!(free.buffer_state, HvEventLogBufferState::FREE);
    let before = root.machine.now().units();
    let vp = VpRef {
        slot: PartitionSlot(5),
        index: 2,
    };
    let event = Event::MsrWrite {
        rip: 0xFFFF_8000_1234_5678,
        index: 0x4000_0000,
        value: 7,
    };
    root.sources(LOCAL, (HvTraceGroups::IM | HvTraceGroups::HC).0)
        .unwrap();
    root.machine
        .event_log
        .record(&root.machine, Some(vp), event);
    root.record(hypercall(9));
    let after = root.machine.now().units();

    let bytes = root.bytes(LOCAL, 0);
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let [size, index, lost, writers] = [word(0), word(4), word(8), word(12)];
    assert_eq!([size, index, lost, writers], [4096 - 72, 0, 0, 0]);
    assert!((before..=after).contains(&long(16)));
    assert_eq!([long(24), long(32), long(64)], [0; 3]);
    assert_eq!([word(40), word(44)], [0, 2]);
    assert_eq!([word(48), word(52), word(56)], [72 + 40 + 32, 1, u32::MAX]);

    assert_eq!(word(72), 0x8005_0002);
    assert_eq!(word(76), 40 | 0x22 << 16);
    assert!((long(16)..=after).contains(&long(80)));
    let parameters = [long(88), long(96), long(104)];
    assert_eq!(parameters, [0xFFFF_8000_1234_5678, 0x4000_0000, 7]);
    assert_eq!(word(112), 0);
    assert_eq!(word(116), 32 | 0x1A << 16);
    assert_eq!([long(128), long(136)], [0x1000, 9]);
    root.close(LOCAL);
}

#[test]
fn entries_run_on_over_the_end_of_a_page() {
    let mut root = Root::tracing(HvInputInitializeEventLogBufferGroup {
        buffer_size_in_bytes: 3 * 4096,
        ..geometry(LOCAL)
    });
    // 72 + 125 * 32 = 4072: the next entry crosses into the second page.
    let count = (3 * 4096 - 72) / 32;
    hypercalls(&root, 0, count);
    assert_eq!(root.mapped[&(LOCAL.0, 0)].len(), 3);
    assert_eq!(
        root.header(LOCAL, 0).buffer_state,
        HvEventLogBufferState::IN_USE
    );
    assert_eq!(numbers(&root, 0), (0..count).collect::<Vec<_>>());
    hypercalls(&root, count, 1);
    assert_eq!(
        root.header(LOCAL, 0).buffer_state,
        HvEventLogBufferState::COMPLETE
    );
    assert_eq!(numbers(&root, 1), [count]);
    root.close(LOCAL);
}

#[test]
fn only_what_is_enabled_is_recorded() {
    let mut root = Root::tracing(geometry(LOCAL));
    root.sources(LOCAL, HvTraceGroups::OB.0).unwrap();
    root.record(hypercall(1));
    assert_eq!(
        root.header(LOCAL, 0).buffer_state,
        HvEventLogBufferState::FREE
    );
    let id = HvPartitionId(0x203);
    let status = HvStatus::SUCCESS;
    root.record(Event::CreatePartition { id, status });
    root.sources(LOCAL, 0).unwrap();
    root.record(Event::DeletePartition { id, status });
    let entries = root.entries(LOCAL, 0);
    assert_eq!(entries.len(), 1);
    assert_eq!(
        entries[0].0.entry_type,
        HvEventLogEntryType::OB_CREATE_PARTITION
    );
    assert_eq!(entries[0].1, [0x203, 0]);
    // An event that is enabled but has no buffer to go to must not be one for the other log.
    assert!(root.sources(SYSTEM, 4).is_err());
    root.close(LOCAL);
    root.record(hypercall(1));
}

#[test]
fn system_events_go_to_their_own_buffers() {
    let mut root = Root::tracing(geometry(LOCAL));
    root.initialize(geometry(SYSTEM)).unwrap();
    root.create(SYSTEM, 3).unwrap();
    root.map(SYSTEM, 3).unwrap();
    let id = HvPartitionId(0x203);
    let (good, bad) = (HvStatus::SUCCESS, HvStatus::NO_RESOURCES);
    let all = |root: &Root| {
        root.record(Event::CreatePartition { id, status: good });
        root.record(Event::CreatePartition { id, status: bad });
        root.record(Event::DeletePartition { id, status: good });
        root.record(Event::DeletePartition { id, status: bad });
        root.record(hypercall(1));
        root.entries(SYSTEM, 3).len()
    };
    root.sources(SYSTEM, HvEventLogSystemSources::PARTITION.0)
        .unwrap();
    assert_eq!(all(&root), 3);
    root.sources(SYSTEM, HvEventLogSystemSources::AUDIT_SUCCESS.0)
        .unwrap();
    assert_eq!(all(&root), 5);
    root.sources(SYSTEM, HvEventLogSystemSources::AUDIT_FAILURE.0)
        .unwrap();
    assert_eq!(all(&root), 6);
    let test = HvEventLogSystemSources::TEST.0;
    root.sources(SYSTEM, test).unwrap();
    root.sources(SYSTEM, test).unwrap();
    assert_eq!(all(&root), 7);
    let entries = root.entries(SYSTEM, 3);
    let found: Vec<(u16, Option<u64>)> = entries
        .iter()
        .map(|(header, parameters)| (header.entry_type.0, parameters.first().copied()))
        .collect();
    let (created, failed, deleted) = (
        (0x4101, Some(0x203)),
        (0x2103, Some(0x1D)),
        (0x4102, Some(0x203)),
    );
    let expected = [
        created,
        failed,
        deleted,
        created,
        deleted,
        failed,
        (0x4001, None),
    ];
    assert_eq!(found, expected);
    root.flush(SYSTEM, 3).unwrap();
    assert_eq!(root.message(), Some((SYSTEM, 3)));
    root.close(SYSTEM);
    root.close(LOCAL);
}

#[test]
fn time_stamps_follow_the_time_basis() {
    let mut root = Root::tracing(HvInputInitializeEventLogBufferGroup {
        time_basis: HvEventLogEntryTimeBasis::TSC,
        ..geometry(LOCAL)
    });
    let before = crate::cpu::tsc();
    root.record(hypercall(1));
    let after = crate::cpu::tsc();
    let stamp = root.entries(LOCAL, 0)[0].0.time_stamp;
    assert!((before..=after).contains(&stamp));
    let expected = root.machine.time_at(stamp).units();
    assert_eq!(root.header(LOCAL, 0).time_stamp, expected);
    root.close(LOCAL);
}

#[test]
fn every_event_has_an_entry_in_a_log_that_can_be_enabled() {
    let id = HvPartitionId(1);
    let status = HvStatus::SUCCESS;
    let (rip, vector, value) = (1, 2, 3);
    let events = [
        hypercall(0),
        Event::GuestException { rip, vector },
        Event::ReflectedException { rip, vector },
        Event::MsrRead {
            rip,
            index: 1,
            value,
        },
        Event::MsrWrite {
            rip,
            index: 1,
            value,
        },
        Event::CrRead {
            rip,
            index: 0,
            value,
        },
        Event::CrWrite {
            rip,
            index: 0,
            value,
        },
        Event::Halt { rip },
        Event::Cpuid {
            rip,
            eax: 1,
            ecx: 2,
        },
        Event::IoPortRead {
            rip,
            port: 1,
            value: 2,
        },
        Event::IoPortWrite {
            rip,
            port: 1,
            value: 2,
        },
        Event::InterruptPending { rip },
        Event::GuestShutdown { rip },
        Event::Nmi { rip },
        Event::Invd { rip },
        Event::TaskSwitch { rip },
        Event::MemoryIntercept {
            rip,
            access: Access::Execute,
        },
        Event::CreatePartition { id, status },
        Event::DeletePartition { id, status },
        Event::CreateVp {
            id,
            index: 1,
            status,
        },
        Event::DeleteVp {
            id,
            index: 1,
            status,
        },
    ];
    let mut types = BTreeSet::new();
    for event in events {
        assert!(!event.traces().is_empty(), "{event:?}");
        let entry = event.entry(LOCAL).unwrap();
        assert!(entry.entry_type.name().is_some() && !entry.parameters().is_empty());
        assert!(
            types.insert(entry.entry_type),
            "{event:?} has a type of its own"
        );
        let system = event.entry(SYSTEM).is_some();
        assert_eq!(system, !event.system_sources().is_empty(), "{event:?}");
    }
    assert!(Event::AdminTest.entry(LOCAL).is_none());
    assert!(Event::AdminTest.entry(SYSTEM).is_some());
}
