//! Every refusal of the table in `docs/event-log.md`, and every call in every state of a buffer.

use super::*;

const INVALID_PARAMETER: HvStatus = HvStatus::INVALID_PARAMETER;
const OPERATION_DENIED: HvStatus = HvStatus::OPERATION_DENIED;
const ACCESS_DENIED: HvStatus = HvStatus::ACCESS_DENIED;
/// A type that does not exist.
const NO_TYPE: HvEventLogType = HvEventLogType(3);

type Input = HvInputInitializeEventLogBufferGroup;

#[test]
fn a_type_that_does_not_exist_is_refused_by_every_call() {
    let mut root = Root::new(8);
    let invalid = Err(INVALID_PARAMETER);
    for log in [NO_TYPE, HvEventLogType(u32::MAX)] {
        assert_eq!(root.initialize(geometry(NO_TYPE)), invalid);
        assert_eq!(root.finalize(log), invalid);
        assert_eq!(root.create(log, 0), invalid);
        assert_eq!(root.delete(log, 0), invalid);
        assert_eq!(root.map(log, 0), invalid);
        assert_eq!(root.unmap(log, 0), invalid);
        assert_eq!(root.sources(log, 0), invalid);
        assert_eq!(root.release(log, 0), invalid);
        assert_eq!(root.flush(log, 0), invalid);
    }
}

#[test]
fn without_a_group_every_call_on_it_is_denied() {
    let mut root = Root::new(8);
    root.initialize(geometry(SYSTEM)).unwrap();
    let denied = Err(OPERATION_DENIED);
    assert_eq!(root.finalize(LOCAL), denied);
    assert_eq!(root.create(LOCAL, 0), denied);
    assert_eq!(root.delete(LOCAL, 0), denied);
    assert_eq!(root.map(LOCAL, 0), denied);
    assert_eq!(root.unmap(LOCAL, 0), denied);
    assert_eq!(root.sources(LOCAL, 1), denied);
    assert_eq!(root.release(LOCAL, 0), denied);
    assert_eq!(root.flush(LOCAL, 0), denied);
}

#[test]
fn a_group_has_a_geometry_within_the_limits() {
    let root = Root::new(16);
    let base = geometry(LOCAL);
    let with = |change: &dyn Fn(&mut Input)| {
        let mut input = base;
        change(&mut input);
        input
    };
    let bad: [Input; 12] = [
        with(&|g| g.maximum_buffer_count = 0),
        with(&|g| g.maximum_buffer_count = 513),
        with(&|g| g.buffer_size_in_bytes = 0),
        with(&|g| g.buffer_size_in_bytes = 513),
        with(&|g| g.buffer_size_in_bytes = 4097),
        with(&|g| g.buffer_size_in_bytes = 513 * 4096),
        with(&|g| g.threshold = 0),
        with(&|g| g.threshold = 5),
        with(&|g| g.time_basis = HvEventLogEntryTimeBasis::QPC),
        with(&|g| g.time_basis = HvEventLogEntryTimeBasis(u32::MAX)),
        with(&|g| g.init.set_mode(HvEventLogMode(2))),
        with(&|g| g.init.set_event_log_type(0xFFFF)),
    ];
    for input in bad {
        assert_eq!(root.initialize(input), Err(INVALID_PARAMETER), "{input:?}");
    }
    let good: [Input; 6] = [
        base,
        with(&|g| g.maximum_buffer_count = 512),
        with(&|g| (g.maximum_buffer_count, g.threshold) = (1, 1)),
        with(&|g| g.buffer_size_in_bytes = 512 * 4096),
        with(&|g| g.buffer_size_in_bytes = 512),
        with(&|g| g.time_basis = HvEventLogEntryTimeBasis::TSC),
    ];
    for input in good {
        root.initialize(input).unwrap();
        assert_eq!(root.initialize(base), Err(HvStatus::OBJECT_IN_USE));
        root.finalize(LOCAL).unwrap();
    }
}

#[test]
fn a_size_in_pages_and_one_in_bytes_mean_the_same() {
    for size in [2, 2 * 4096] {
        let mut root = Root::tracing(Input {
            buffer_size_in_bytes: size,
            ..geometry(LOCAL)
        });
        assert_eq!(root.header(LOCAL, 0).buffer_size, 2 * 4096 - 72);
        root.close(LOCAL);
    }
}

#[test]
fn a_group_ends_only_when_it_has_neither_buffers_nor_sources() {
    let mut root = Root::new(16);
    root.initialize(geometry(LOCAL)).unwrap();
    root.sources(LOCAL, 0x400).unwrap();
    assert_eq!(root.finalize(LOCAL), Err(OPERATION_DENIED));
    root.sources(LOCAL, 0).unwrap();
    root.create(LOCAL, 2).unwrap();
    assert_eq!(root.finalize(LOCAL), Err(OPERATION_DENIED));
    root.map(LOCAL, 2).unwrap();
    assert_eq!(root.finalize(LOCAL), Err(OPERATION_DENIED));
    root.unmap(LOCAL, 2).unwrap();
    root.delete(LOCAL, 2).unwrap();
    root.finalize(LOCAL).unwrap();
    assert_eq!(root.finalize(LOCAL), Err(OPERATION_DENIED));
}

#[test]
fn sources_that_only_newer_hypervisors_know_are_refused() {
    let root = Root::new(16);
    root.initialize(geometry(LOCAL)).unwrap();
    root.initialize(geometry(SYSTEM)).unwrap();
    assert_eq!(root.sources(LOCAL, 0x401), Err(INVALID_PARAMETER));
    assert_eq!(root.sources(SYSTEM, 0x401), Ok(()));
    let groups = HvInputSetEventLogGroupSources {
        event_log_type: LOCAL,
        group_count: 1,
        enable_flags: 0x400,
    };
    assert_eq!(set_sources(&root.machine, &groups), Err(INVALID_PARAMETER));
    assert!(!root.machine.event_log.traces(HvTraceGroups::HC));
    assert_eq!(root.sources(LOCAL, !1), Ok(()));
    assert!(root.machine.event_log.traces(HvTraceGroups::HC));
}

#[test]
fn memory_of_a_domain_that_does_not_exist_is_refused() {
    let root = Root::new(16);
    root.initialize(geometry(LOCAL)).unwrap();
    let mut input = HvInputCreateEventLogBuffer {
        event_log_type: LOCAL,
        ..Default::default()
    };
    let create = |input| create_buffer(&root.machine, &input);
    input.proximity_info.flags = 2;
    assert_eq!(create(input), Err(INVALID_PARAMETER));
    input.proximity_info.flags = 1 | 1 << 31;
    input.proximity_info.domain_id = 7;
    assert_eq!(create(input), Err(INVALID_PARAMETER));
    input.proximity_info.flags = 1;
    assert_eq!(create(input), Ok(Progress::Done));
    input.buffer_index.0 = 1;
    input.proximity_info.flags = 1 | 1 << 31;
    input.proximity_info.domain_id = 0;
    assert_eq!(create(input), Ok(Progress::Done));
}

/// What create, delete, map, unmap, release and flush answer for one buffer, as far as they refuse.
fn refusals(root: &mut Root, index: u32) -> [Option<HvStatus>; 6] {
    let state = |root: &Root| root.mapped.get(&(LOCAL.0, index)).cloned();
    let before = state(root);
    let answers = [
        root.create(LOCAL, index).err(),
        root.delete(LOCAL, index).err(),
        root.map(LOCAL, index).err(),
        root.unmap(LOCAL, index).err(),
        root.release(LOCAL, index).err(),
        root.flush(LOCAL, index).err(),
    ];
    assert_eq!(state(root), before);
    answers
}

#[test]
fn an_index_without_a_buffer_is_refused() {
    let mut root = Root::tracing(geometry(LOCAL));
    let invalid = Some(INVALID_PARAMETER);
    let denied = Some(OPERATION_DENIED);
    for index in [4, 512, u32::MAX] {
        let expected = [invalid, invalid, invalid, invalid, denied, invalid];
        assert_eq!(refusals(&mut root, index), expected);
    }
    root.unmap(LOCAL, 3).unwrap();
    root.delete(LOCAL, 3).unwrap();
    assert_eq!(root.delete(LOCAL, 3), Err(INVALID_PARAMETER));
    assert_eq!(root.map(LOCAL, 3), Err(INVALID_PARAMETER));
    assert_eq!(root.unmap(LOCAL, 3), Err(INVALID_PARAMETER));
    assert_eq!(root.release(LOCAL, 3), Err(OPERATION_DENIED));
    assert_eq!(root.flush(LOCAL, 3), Err(INVALID_PARAMETER));
}

#[test]
fn each_state_allows_what_its_row_says_and_nothing_else() {
    let mut root = Root::tracing(geometry(LOCAL));
    let used = Some(INVALID_PARAMETER);
    let denied = Some(OPERATION_DENIED);
    let access = Some(ACCESS_DENIED);
    // Standby.
    root.unmap(LOCAL, 3).unwrap();
    assert_eq!(root.create(LOCAL, 3).err(), used);
    assert_eq!(root.unmap(LOCAL, 3).err(), access);
    assert_eq!(root.release(LOCAL, 3).err(), denied);
    assert_eq!(root.flush(LOCAL, 3), Ok(()));
    // Free.
    root.map(LOCAL, 3).unwrap();
    assert_eq!(root.create(LOCAL, 3).err(), used);
    assert_eq!(root.delete(LOCAL, 3).err(), denied);
    assert_eq!(root.map(LOCAL, 3).err(), denied);
    assert_eq!(root.release(LOCAL, 3).err(), denied);
    assert_eq!(root.flush(LOCAL, 3), Ok(()));
    assert_eq!(root.message(), None);
    // In use; then complete, because the message does not go out; the flush asks for it in both.
    root.record(hypercall(1));
    let refused = [used, denied, denied, access, denied, None];
    assert_eq!(refusals(&mut root, 0), refused);
    assert_eq!(refusals(&mut root, 0), refused);
    let state = |root: &Root| root.header(LOCAL, 0).buffer_state;
    assert_eq!(state(&root), HvEventLogBufferState::COMPLETE);
    // Ready.
    assert_eq!(root.message(), Some((LOCAL, 0)));
    assert_eq!(state(&root), HvEventLogBufferState::READY);
    assert_eq!(root.create(LOCAL, 0).err(), used);
    assert_eq!(root.delete(LOCAL, 0).err(), denied);
    assert_eq!(root.map(LOCAL, 0).err(), denied);
    assert_eq!(root.flush(LOCAL, 0), Ok(()));
    assert_eq!(root.message(), None);
    root.release(LOCAL, 0).unwrap();
    assert_eq!(state(&root), HvEventLogBufferState::FREE);
    root.close(LOCAL);
}
