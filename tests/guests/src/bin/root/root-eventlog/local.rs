//! Type 1: traces of the logical processor.

use guests::root::child::VMM_FLAGS;
use guests::root::{Child, Root, Vp, report};
use guests::{check, ok};
use tlfs::{
    HvCallCode, HvEventLogBufferIndex, HvEventLogBufferState, HvEventLogEntryType, HvEventLogType,
    HvMessageType, HvPartitionId, HvStatus, HvTraceGroups, HvX64UnrecoverableExceptionMessage,
};

use crate::log::{Log, SMALL, count, entries, header, state};
use crate::order::{end, ready};

const LOG: Log = Log(HvEventLogType::LOCAL_DIAGNOSTICS);

/// A partition's life and a triple fault are entries; the states behind FREE and what they refuse.
pub fn events(root: &mut Root) {
    let pages = ready(root, LOG, &SMALL);
    let sources = HvTraceGroups::OB | HvTraceGroups::VP | HvTraceGroups::IM;
    let status = LOG.sources(root, sources.0);
    report::status(status, HvStatus::SUCCESS, "0x66");
    report::status(
        LOG.sources(root, sources.0 | 1),
        HvStatus::INVALID_PARAMETER,
        "0x66 with extended flags",
    );
    let child = Child::with_ram(root, VMM_FLAGS);
    let id = child.id;
    let vp = Vp::create(root, &child, 0);
    // UD2 without an interrupt table.
    child.load(0x1000, &[0x0F, 0x0B]);
    vp.enter_flat(root, 0x1000);
    vp.set_tables(root, (0, 0), (0, 0));
    let fault: HvX64UnrecoverableExceptionMessage =
        vp.run_to(root, HvMessageType::UNRECOVERABLE_EXCEPTION);
    child.end(root);
    report::status(LOG.sources(root, 0), HvStatus::SUCCESS, "0x66 of no source");

    let page = pages[0];
    state(page, HvEventLogBufferState::IN_USE);
    let used = header(page).next_buffer_offset;
    check!(used > 72, "the buffer in use is empty");
    report::status(
        LOG.unmap(root, 0),
        HvStatus::ACCESS_DENIED,
        "0x65 of a buffer in use",
    );
    report::status(
        LOG.release(root, 0),
        HvStatus::OPERATION_DENIED,
        "0x67 of a buffer in use",
    );
    report::status(
        LOG.delete(root, 0),
        HvStatus::OPERATION_DENIED,
        "0x63 of a buffer in use",
    );
    report::status(LOG.flush(root, 0), HvStatus::SUCCESS, "0x68");
    report::same(
        LOG.reported(root.messages.wait(100_000)),
        0,
        "the buffer reported",
    );
    state(page, HvEventLogBufferState::READY);
    let front = header(page);
    report::same(
        front.next_buffer_index,
        HvEventLogBufferIndex::NONE,
        "next buffer",
    );
    report::same(
        front.next_buffer_offset,
        used,
        "next entry of a ready buffer",
    );
    report::same(
        front.buffer_size,
        SMALL.bytes - 72,
        "size without the header",
    );
    report::same(
        (front.logical_processor, front.events_lost),
        (0, 0),
        "LP and lost events",
    );
    lives(page, id, fault.header.rip);
    ok!("entries of a partition, a VP and a triple fault");

    report::status(
        LOG.flush(root, 0),
        HvStatus::SUCCESS,
        "0x68 of a ready buffer",
    );
    check!(
        root.messages.poll().is_none(),
        "0x68 of a ready buffer brings a message"
    );
    report::status(LOG.release(root, 0), HvStatus::SUCCESS, "0x67");
    report::status(
        LOG.release(root, 0),
        HvStatus::OPERATION_DENIED,
        "0x67 of a free buffer",
    );
    state(page, HvEventLogBufferState::FREE);
    end(root, LOG, &pages);
    ok!("use, flush, message, release, end");
}

/// What is in the buffer: each once, in order.
fn lives(page: u64, id: HvPartitionId, rip: u64) {
    let wanted: [(HvEventLogEntryType, [u64; 2]); 5] = [
        (HvEventLogEntryType::OB_CREATE_PARTITION, [id.0, 0]),
        (HvEventLogEntryType::VP_CREATE_VP, [id.0, 0]),
        (HvEventLogEntryType::IM_GUEST_SHUTDOWN, [rip, 0]),
        (HvEventLogEntryType::VP_DELETE_VP, [id.0, 0]),
        (HvEventLogEntryType::OB_DELETE_PARTITION, [id.0, 0]),
    ];
    for (kind, parameters) in wanted {
        report::same(count(page, kind, &parameters[..1]), 1, "entries of a life");
        guests::say!("   {kind:?} {:#x}", parameters[0]);
    }
    let mut next = 0;
    entries(page, |entry| {
        if next < wanted.len() && entry.header.entry_type == wanted[next].0 {
            next += 1;
        }
    });
    report::same(next, wanted.len(), "events in their order");
}

/// Hypercalls fill buffer after buffer: messages, the list of ready buffers, lost events.
pub fn full(root: &mut Root) {
    let geometry = crate::log::Geometry {
        threshold: 2,
        ..SMALL
    };
    let pages = ready(root, LOG, &geometry);
    let status = LOG.sources(root, HvTraceGroups::HC.0);
    report::status(status, HvStatus::SUCCESS, "0x66");
    let mut calls = 0u64;
    let first = loop {
        root.balance(HvPartitionId::SELF);
        calls += 1;
        if let Some(message) = root.messages.poll() {
            break LOG.reported(Some(message));
        }
        check!(calls < 10_000, "{calls} hypercalls do not fill two buffers");
    };
    report::same(first, 0, "the first buffer reported");
    report::same(header(pages[0]).next_buffer_index.0, 1, "the next buffer");
    let last = header(pages[1]).next_buffer_index;
    report::same(last, HvEventLogBufferIndex::NONE, "the end of the list");
    state(pages[1], HvEventLogBufferState::READY);
    let code = u64::from(HvCallCode::GET_MEMORY_BALANCE.0);
    let mut seen = 0;
    for page in &pages[..2] {
        entries(*page, |entry| {
            let ours = entry.header.entry_type == HvEventLogEntryType::HC_HYPERCALL
                && entry.parameters[1] & 0xFFFF == code;
            seen += u64::from(ours);
        });
    }
    check!(
        seen <= calls && seen + 8 >= calls,
        "{seen} of {calls} hypercalls are entries"
    );
    ok!("full buffers are reported by their threshold");

    // Nobody releases: the others fill, and then events are lost.
    for _ in 0..2 * calls {
        root.balance(HvPartitionId::SELF);
    }
    let index = LOG.reported(root.messages.wait(100_000));
    report::same(index, 2, "the third buffer");
    report::same(header(pages[2]).next_buffer_index.0, 3, "the fourth buffer");
    for index in 0..4 {
        report::status(LOG.release(root, index), HvStatus::SUCCESS, "0x67");
    }
    root.balance(HvPartitionId::SELF);
    let lost = header(pages[0]).events_lost;
    check!(lost > 0, "no event was lost");
    state(pages[0], HvEventLogBufferState::IN_USE);
    ok!("{lost} events were lost, and are counted");
    end(root, LOG, &pages);
}
