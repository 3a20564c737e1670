//! The calls, and what each says at the wrong time.

use guests::metal::memory::virtual_address;
use guests::metal::trap::vector;
use guests::root::memory::PAGE;
use guests::root::{Root, report};
use guests::{check, fail, ok, probe};
use tlfs::{
    HvEventLogBufferState, HvEventLogEntryTimeBasis, HvEventLogType, HvPartitionId,
    HvProximityDomainInfo, HvStatus,
};

use crate::log::{Geometry, Log, SMALL, header, state};

const ANYWHERE: HvProximityDomainInfo = HvProximityDomainInfo {
    domain_id: 0,
    flags: 0,
};
/// A domain that is said to be valid, and is not.
const NOWHERE: HvProximityDomainInfo = HvProximityDomainInfo {
    domain_id: 0xFFFF,
    flags: 1 << 31,
};

#[track_caller]
fn is(status: HvStatus, wanted: HvStatus, what: &str) {
    report::status(status, wanted, what);
}

/// Every call without a group, and with a type that is none.
pub fn without_a_group(root: &Root) {
    let denied = HvStatus::OPERATION_DENIED;
    for kind in HvEventLogType::NAMED {
        let log = Log(*kind);
        is(log.finalize(root), denied, "0x61 without a group");
        is(
            log.create(root, 0, ANYWHERE),
            denied,
            "0x62 without a group",
        );
        is(log.delete(root, 0), denied, "0x63 without a group");
        report::same(log.map::<1>(root, 0), Err(denied), "0x64 without a group");
        check!(!log.unmap(root, 0).is_success(), "0x65 without a group");
        is(log.sources(root, 0), denied, "0x66 without a group");
        is(log.release(root, 0), denied, "0x67 without a group");
        is(log.flush(root, 0), denied, "0x68 without a group");
    }
    let (log, invalid) = (Log(HvEventLogType(3)), HvStatus::INVALID_PARAMETER);
    is(log.initialize(root, &SMALL), invalid, "0x60 of type 3");
    is(log.finalize(root), invalid, "0x61 of type 3");
    is(log.create(root, 0, ANYWHERE), invalid, "0x62 of type 3");
    is(log.delete(root, 0), invalid, "0x63 of type 3");
    report::same(log.map::<1>(root, 0), Err(invalid), "0x64 of type 3");
    is(log.unmap(root, 0), invalid, "0x65 of type 3");
    is(log.sources(root, 0), invalid, "0x66 of type 3");
    is(log.release(root, 0), invalid, "0x67 of type 3");
    is(log.flush(root, 0), invalid, "0x68 of type 3");
    ok!("calls without a group, and of a type that is none");
}

/// 0x60: what a group may be; and its memory.
pub fn geometry(root: &mut Root) {
    let log = Log(HvEventLogType::LOCAL_DIAGNOSTICS);
    let page = PAGE as u32;
    for bad in [
        Geometry { count: 0, ..SMALL },
        Geometry {
            count: 513,
            ..SMALL
        },
        Geometry { bytes: 0, ..SMALL },
        Geometry {
            bytes: page + 8,
            ..SMALL
        },
        Geometry {
            bytes: 513 * page,
            ..SMALL
        },
        Geometry {
            threshold: 0,
            ..SMALL
        },
        Geometry {
            threshold: 5,
            ..SMALL
        },
        Geometry {
            basis: HvEventLogEntryTimeBasis(7),
            ..SMALL
        },
    ] {
        is(
            log.initialize(root, &bad),
            HvStatus::INVALID_PARAMETER,
            "a bad group",
        );
    }
    root.withdraw_all(HvPartitionId::SELF);
    let short = HvStatus::INSUFFICIENT_MEMORY;
    is(
        log.initialize(root, &SMALL),
        short,
        "a group without memory",
    );
    pay(root, |root| log.initialize(root, &SMALL));
    is(
        log.initialize(root, &SMALL),
        HvStatus::OBJECT_IN_USE,
        "a second group",
    );
    is(log.finalize(root), HvStatus::SUCCESS, "0x61");
    is(log.finalize(root), HvStatus::OPERATION_DENIED, "0x61 again");
    ok!("a group: sizes, memory, once");
}

/// Repeats a call with one page for each shortage of the root's pool.
pub fn pay(root: &mut Root, call: impl Fn(&Root) -> HvStatus) {
    for _ in 0..1024 {
        match call(root) {
            HvStatus::SUCCESS => return,
            HvStatus::INSUFFICIENT_MEMORY => root.deposit(HvPartitionId::SELF, 1),
            other => fail!("a call that needs memory: {other}"),
        }
    }
    fail!("memory does not help")
}

/// A group with all its buffers created and mapped; their pages.
pub fn ready(root: &mut Root, log: Log, geometry: &Geometry) -> [u64; 4] {
    pay(root, |root| log.initialize(root, geometry));
    core::array::from_fn(|index| {
        let index = index as u32;
        pay(root, |root| log.create(root, index, ANYWHERE));
        let [page] = report::value(log.map::<1>(root, index), "0x64");
        page
    })
}

/// Ends a group: sources, flush, release, unmap, delete, finalize.
pub fn end(root: &mut Root, log: Log, pages: &[u64]) {
    is(log.sources(root, 0), HvStatus::SUCCESS, "0x66 of no source");
    for index in 0..pages.len() as u32 {
        is(log.flush(root, index), HvStatus::SUCCESS, "0x68");
    }
    while let Some(message) = root.messages.wait(20_000) {
        log.reported(Some(message));
    }
    for (index, page) in (0..).zip(pages) {
        if header(*page).buffer_state == HvEventLogBufferState::READY {
            is(log.release(root, index), HvStatus::SUCCESS, "0x67");
        }
        is(log.unmap(root, index), HvStatus::SUCCESS, "0x65");
        is(log.delete(root, index), HvStatus::SUCCESS, "0x63");
    }
    is(log.finalize(root), HvStatus::SUCCESS, "0x61");
}

/// 0x61 to 0x68 on buffers in each state that needs no event.
pub fn states(root: &mut Root) {
    let log = Log(HvEventLogType::LOCAL_DIAGNOSTICS);
    let (invalid, denied) = (HvStatus::INVALID_PARAMETER, HvStatus::OPERATION_DENIED);
    pay(root, |root| log.initialize(root, &SMALL));
    // Nothing there.
    is(
        log.create(root, 4, ANYWHERE),
        invalid,
        "0x62 beyond the count",
    );
    is(
        log.create(root, 0, NOWHERE),
        invalid,
        "0x62 in a domain that is none",
    );
    is(log.delete(root, 0), invalid, "0x63 of no buffer");
    report::same(log.map::<1>(root, 0), Err(invalid), "0x64 of no buffer");
    is(log.unmap(root, 0), invalid, "0x65 of no buffer");
    is(log.release(root, 0), denied, "0x67 of no buffer");
    is(log.flush(root, 4), invalid, "0x68 beyond the count");
    root.withdraw_all(HvPartitionId::SELF);
    let short = HvStatus::INSUFFICIENT_MEMORY;
    is(log.create(root, 0, ANYWHERE), short, "0x62 without memory");
    pay(root, |root| log.create(root, 0, ANYWHERE));
    // Standby.
    is(
        log.create(root, 0, ANYWHERE),
        invalid,
        "0x62 of a used index",
    );
    is(log.finalize(root), denied, "0x61 with a buffer");
    is(log.release(root, 0), denied, "0x67 in standby");
    let status = log.unmap(root, 0);
    is(status, HvStatus::ACCESS_DENIED, "0x65 in standby");
    is(log.delete(root, 0), HvStatus::SUCCESS, "0x63 in standby");
    pay(root, |root| log.create(root, 3, ANYWHERE));
    let [page] = report::value(log.map::<1>(root, 3), "0x64");
    // Free.
    state(page, HvEventLogBufferState::FREE);
    report::same(header(page).buffer_index.0, 3, "index in the header");
    report::same(log.map::<1>(root, 3), Err(denied), "0x64 again");
    is(log.delete(root, 3), denied, "0x63 of a mapped buffer");
    is(log.release(root, 3), denied, "0x67 of a free buffer");
    is(
        log.flush(root, 3),
        HvStatus::SUCCESS,
        "0x68 of a free buffer",
    );
    state(page, HvEventLogBufferState::FREE);
    read_only(page);
    is(
        log.unmap(root, 3),
        HvStatus::SUCCESS,
        "0x65 of a free buffer",
    );
    let gone = probe!("mov {value}, [{address}]", value = out(reg) _, address = in(reg) virtual_address(page));
    check!(gone.is_err(), "an unmapped buffer can be read");
    is(log.delete(root, 3), HvStatus::SUCCESS, "0x63");
    is(log.finalize(root), HvStatus::SUCCESS, "0x61");
    check!(root.messages.poll().is_none(), "a message without an event");
    ok!("buffers: nothing, standby, free");
}

fn read_only(page: u64) {
    let address = virtual_address(page + 48);
    let result = probe!("mov dword ptr [{address}], 0", address = in(reg) address);
    check!(
        matches!(result, Err(fault) if fault.vector == vector::PROTECTION),
        "a write to a buffer: {result:x?}"
    );
}

/// Buffers of many pages: created, mapped, unmapped and deleted in steps.
pub fn several_pages(root: &mut Root) {
    const PAGES: usize = 200;
    let log = Log(HvEventLogType::SYSTEM_DIAGNOSTICS);
    let geometry = Geometry {
        bytes: PAGES as u32 * PAGE as u32,
        ..SMALL
    };
    pay(root, |root| log.initialize(root, &geometry));
    pay(root, |root| log.create(root, 1, ANYWHERE));
    let pages: [u64; PAGES] = report::value(log.map(root, 1), "0x64");
    state(pages[0], HvEventLogBufferState::FREE);
    for (index, page) in pages.iter().enumerate() {
        check!(
            *page != 0 && !pages[..index].contains(page),
            "page {index} of a buffer is {page:#x}"
        );
        read_only(*page);
    }
    is(log.unmap(root, 1), HvStatus::SUCCESS, "0x65");
    is(log.delete(root, 1), HvStatus::SUCCESS, "0x63");
    is(log.finalize(root), HvStatus::SUCCESS, "0x61");
    ok!("a buffer of {PAGES} pages");
}
