//! How buffers fill, and when the root is told.

use tlfs::HvEventLogSystemSources;

use super::*;

/// Entries of 32 bytes that a buffer of one page holds.
const PER_PAGE: u64 = (4096 - 72) / 32;

#[test]
fn the_threshold_brings_one_message_with_a_list_in_the_order_of_completion() {
    let mut root = Root::tracing(geometry(LOCAL));
    hypercalls(&root, 0, 2 * PER_PAGE);
    assert!(!root.machine.event_log.pending());
    assert_eq!(root.message(), None);
    hypercalls(&root, 2 * PER_PAGE, PER_PAGE + 1);
    assert!(root.machine.event_log.pending());
    // Three by now: one message reports more than the threshold.
    assert_eq!(root.message(), Some((LOCAL, 0)));
    assert!(!root.machine.event_log.pending());
    assert_eq!(root.list(LOCAL, 0), [0, 1, 2]);
    for index in 0..3 {
        let header = root.header(LOCAL, index);
        assert_eq!(header.buffer_state, HvEventLogBufferState::READY);
        assert_eq!(header.lp_sequence_number, index + 1);
        let first = u64::from(index) * PER_PAGE;
        assert_eq!(
            numbers(&root, index),
            (first..first + PER_PAGE).collect::<Vec<_>>()
        );
    }
    assert_eq!(root.message(), None);
    root.close(LOCAL);
}

#[test]
fn buffers_are_used_again_after_their_release_in_any_order() {
    let mut root = Root::tracing(geometry(LOCAL));
    hypercalls(&root, 0, 2 * PER_PAGE + 1);
    assert_eq!(root.message(), Some((LOCAL, 0)));
    root.release(LOCAL, 1).unwrap();
    hypercalls(&root, 2 * PER_PAGE + 1, 2 * PER_PAGE - 1);
    root.release(LOCAL, 0).unwrap();
    hypercalls(&root, 4 * PER_PAGE, 1);
    // 2 was in use, then 1 (the lowest free one), then 0.
    assert_eq!(root.message(), Some((LOCAL, 2)));
    assert_eq!(root.list(LOCAL, 2), [2, 1]);
    assert_eq!(numbers(&root, 0), [4 * PER_PAGE]);
    root.close(LOCAL);
}

#[test]
fn events_without_a_buffer_are_counted_in_the_next_one() {
    let mut root = Root::tracing(geometry(LOCAL));
    hypercalls(&root, 0, 4 * PER_PAGE + 7);
    assert_eq!(root.message(), Some((LOCAL, 0)));
    assert_eq!(root.list(LOCAL, 0), [0, 1, 2, 3]);
    hypercalls(&root, 0, 3);
    root.release(LOCAL, 3).unwrap();
    hypercalls(&root, 1000, 1);
    assert_eq!(root.header(LOCAL, 3).events_lost, 10);
    assert_eq!(numbers(&root, 3), [1000]);
    root.release(LOCAL, 2).unwrap();
    hypercalls(&root, 1001, PER_PAGE);
    assert_eq!(root.header(LOCAL, 2).events_lost, 0);
    root.close(LOCAL);
}

#[test]
fn the_root_is_told_below_the_threshold_when_no_buffer_is_left() {
    let mut root = Root::tracing(HvInputInitializeEventLogBufferGroup {
        threshold: 4,
        ..geometry(LOCAL)
    });
    root.unmap(LOCAL, 3).unwrap();
    hypercalls(&root, 0, 3 * PER_PAGE);
    assert!(!root.machine.event_log.pending());
    hypercalls(&root, 0, 1);
    assert_eq!(root.message(), Some((LOCAL, 0)));
    assert_eq!(root.list(LOCAL, 0), [0, 1, 2]);
    root.close(LOCAL);
}

#[test]
fn a_flush_completes_the_buffer_in_use_and_reports_all_that_is_complete() {
    let mut root = Root::tracing(HvInputInitializeEventLogBufferGroup {
        threshold: 4,
        ..geometry(LOCAL)
    });
    hypercalls(&root, 0, PER_PAGE + 2);
    root.flush(LOCAL, 3).unwrap();
    assert!(!root.machine.event_log.pending());
    root.flush(LOCAL, 1).unwrap();
    assert!(root.machine.event_log.pending());
    assert_eq!(
        root.header(LOCAL, 1).buffer_state,
        HvEventLogBufferState::COMPLETE
    );
    assert_eq!(root.message(), Some((LOCAL, 0)));
    assert_eq!(root.list(LOCAL, 0), [0, 1]);
    assert_eq!(numbers(&root, 1), [PER_PAGE, PER_PAGE + 1]);
    // A complete one that waits for the threshold.
    hypercalls(&root, 0, PER_PAGE + 1);
    root.flush(LOCAL, 2).unwrap();
    assert_eq!(root.message(), Some((LOCAL, 2)));
    assert_eq!(root.list(LOCAL, 2), [2]);
    assert_eq!(
        root.header(LOCAL, 3).buffer_state,
        HvEventLogBufferState::IN_USE
    );
    root.close(LOCAL);
}

#[test]
fn a_message_that_finds_no_place_waits_and_the_buffers_with_it() {
    let mut root = Root::tracing(geometry(LOCAL));
    hypercalls(&root, 0, 2 * PER_PAGE + 1);
    let log = &root.machine.event_log;
    assert!(log.has_news());
    assert!(!log.post_message(&root.machine, |_, _| false));
    assert!(log.pending() && !log.has_news());
    assert_eq!(
        root.header(LOCAL, 0).buffer_state,
        HvEventLogBufferState::COMPLETE
    );
    assert_eq!(root.release(LOCAL, 0), Err(HvStatus::OPERATION_DENIED));
    hypercalls(&root, 0, PER_PAGE);
    // Still: it goes out when the slot is free.
    assert!(!root.machine.event_log.has_news());
    let mut seen = None;
    let posted = root
        .machine
        .event_log
        .post_message(&root.machine, |message, more| {
            assert!(!more);
            seen = Some((message.event_log_type, message.buffer_index.0));
            true
        });
    assert!(posted);
    assert_eq!(seen, Some((LOCAL, 0)));
    assert_eq!(root.list(LOCAL, 0), [0, 1, 2]);
    root.close(LOCAL);
}

#[test]
fn a_circular_group_overwrites_the_oldest_and_reports_when_flushed() {
    let mut input = geometry(LOCAL);
    input.init.set_mode(HvEventLogMode::CIRCULAR);
    let mut root = Root::tracing(input);
    hypercalls(&root, 0, 9 * PER_PAGE + 5);
    assert!(!root.machine.event_log.pending());
    // Buffer 1 is in use for the third time, and the last three full ones are there.
    assert_eq!(
        numbers(&root, 1),
        (9 * PER_PAGE..9 * PER_PAGE + 5).collect::<Vec<_>>()
    );
    root.flush(LOCAL, 1).unwrap();
    assert_eq!(root.message(), Some((LOCAL, 2)));
    assert_eq!(root.list(LOCAL, 2), [2, 3, 0, 1]);
    assert_eq!(numbers(&root, 2)[0], 6 * PER_PAGE);
    assert_eq!(root.header(LOCAL, 1).events_lost, 0);
    assert_eq!(root.header(LOCAL, 1).lp_sequence_number, 10);
    // All are the root's now.
    hypercalls(&root, 0, 2);
    root.release(LOCAL, 0).unwrap();
    hypercalls(&root, 0, 1);
    assert_eq!(root.header(LOCAL, 0).events_lost, 2);
    root.close(LOCAL);
}

#[test]
fn nothing_is_overwritten_that_waits_for_the_root() {
    let mut input = geometry(LOCAL);
    input.init.set_mode(HvEventLogMode::CIRCULAR);
    let mut root = Root::tracing(input);
    hypercalls(&root, 0, 4 * PER_PAGE);
    root.flush(LOCAL, 0).unwrap();
    hypercalls(&root, 0, 1);
    assert_eq!(root.message(), Some((LOCAL, 0)));
    assert_eq!(root.list(LOCAL, 0), [0, 1, 2, 3]);
    assert_eq!(numbers(&root, 0)[0], 0);
    root.close(LOCAL);
}

#[test]
fn two_types_have_a_message_each() {
    let mut root = Root::tracing(geometry(LOCAL));
    root.initialize(geometry(SYSTEM)).unwrap();
    root.create(SYSTEM, 0).unwrap();
    root.map(SYSTEM, 0).unwrap();
    root.sources(SYSTEM, HvEventLogSystemSources::TEST.0)
        .unwrap();
    root.record(hypercall(1));
    root.flush(LOCAL, 0).unwrap();
    root.flush(SYSTEM, 0).unwrap();
    let log = &root.machine.event_log;
    let mut posted = Vec::new();
    while log.post_message(&root.machine, |message, more| {
        posted.push((message.event_log_type, more));
        true
    }) {
        assert_eq!(log.pending(), posted.len() == 1);
    }
    assert_eq!(posted, [(SYSTEM, true), (LOCAL, false)]);
    root.record(hypercall(1));
    root.flush(LOCAL, 1).unwrap();
    assert!(root.machine.event_log.has_news());
    root.close(SYSTEM);
    root.close(LOCAL);
}
