//! The log as the root sees it: calls, messages, and the contents of the pages that it has mapped.

mod calls;
mod entries;
mod filling;
mod memory;
mod property;

use std::collections::BTreeMap;

use tlfs::{
    HvEventLogBufferHeader, HvEventLogBufferIndex, HvEventLogBufferState, HvEventLogEntryHeader,
    HvEventLogEntryTimeBasis, HvEventLogInitType, HvEventLogMode, HvEventLogType,
    HvInputCreateEventLogBuffer, HvInputEventLogBuffer, HvInputFinalizeEventLogBufferGroup,
    HvInputInitializeEventLogBufferGroup, HvInputSetEventLogGroupSources, HvStatus, HvTraceGroups,
};
use zerocopy::FromBytes;

use super::*;
use crate::hv::testing::Machine;
use crate::mem::addr::Spa;
use crate::mem::frames::{PartitionSlot, SlotCounts};

const LOCAL: HvEventLogType = HvEventLogType::LOCAL_DIAGNOSTICS;
const SYSTEM: HvEventLogType = HvEventLogType::GLOBAL_SYSTEM_EVENTS;

/// An entry with two parameters: 32 bytes.
const fn hypercall(number: u64) -> Event {
    Event::Hypercall {
        rip: 0x1000,
        control: number,
    }
}

/// A root that uses the log.
struct Root {
    machine: Machine,
    /// Page numbers of the mapped buffers.
    mapped: BTreeMap<(u32, u32), Vec<u64>>,
}

impl Root {
    /// With so many pages in its pool.
    fn new(pool: u64) -> Self {
        let mut machine = Machine::new();
        machine.deposit(PartitionSlot::ROOT, pool);
        Self {
            machine,
            mapped: BTreeMap::new(),
        }
    }

    /// With a group of traces that has buffers 0 to `buffers`, all mapped, and hypercalls traced.
    fn tracing(geometry: HvInputInitializeEventLogBufferGroup) -> Self {
        let mut root = Self::new(1200);
        root.initialize(geometry).unwrap();
        for index in 0..geometry.maximum_buffer_count {
            root.create(LOCAL, index).unwrap();
            root.map(LOCAL, index).unwrap();
        }
        root.sources(LOCAL, HvTraceGroups::HC.0).unwrap();
        root
    }

    fn counts(&self) -> SlotCounts {
        let mut frames = self.machine.frames.lock();
        frames.audit().unwrap();
        frames.slot_counts(PartitionSlot::ROOT).unwrap()
    }

    fn initialize(&self, input: HvInputInitializeEventLogBufferGroup) -> Result<(), HvStatus> {
        initialize_group(&self.machine, &input)
    }

    fn finalize(&self, log: HvEventLogType) -> Result<(), HvStatus> {
        let input = HvInputFinalizeEventLogBufferGroup {
            event_log_type: log,
            ..Default::default()
        };
        finalize_group(&self.machine, &input)
    }

    fn sources(&self, log: HvEventLogType, sources: u64) -> Result<(), HvStatus> {
        let input = HvInputSetEventLogGroupSources {
            event_log_type: log,
            enable_flags: sources,
            ..Default::default()
        };
        set_sources(&self.machine, &input)
    }

    fn create_once(&self, log: HvEventLogType, index: u32) -> Result<Progress, HvStatus> {
        let input = HvInputCreateEventLogBuffer {
            event_log_type: log,
            buffer_index: index.into(),
            ..Default::default()
        };
        create_buffer(&self.machine, &input)
    }

    fn create(&self, log: HvEventLogType, index: u32) -> Result<(), HvStatus> {
        until_done(|| self.create_once(log, index))
    }

    fn delete(&self, log: HvEventLogType, index: u32) -> Result<(), HvStatus> {
        until_done(|| delete_buffer(&self.machine, &named(log, index)))
    }

    fn map_once(&mut self, log: HvEventLogType, index: u32) -> Result<Progress, HvStatus> {
        let mut pages = Vec::new();
        let progress = map_buffer(&self.machine, &named(log, index), |number, page| {
            assert_eq!(number, pages.len());
            pages.push(page);
        })?;
        if progress == Progress::Done {
            self.mapped.insert((log.0, index), pages);
        }
        Ok(progress)
    }

    fn map(&mut self, log: HvEventLogType, index: u32) -> Result<(), HvStatus> {
        until_done(|| self.map_once(log, index))
    }

    fn unmap_once(&mut self, log: HvEventLogType, index: u32) -> Result<Progress, HvStatus> {
        unmap_buffer(&self.machine, &named(log, index))
    }

    fn unmap(&mut self, log: HvEventLogType, index: u32) -> Result<(), HvStatus> {
        until_done(|| self.unmap_once(log, index))?;
        self.mapped.remove(&(log.0, index));
        Ok(())
    }

    fn release(&self, log: HvEventLogType, index: u32) -> Result<(), HvStatus> {
        release_buffer(&self.machine, &named(log, index))
    }

    fn flush(&self, log: HvEventLogType, index: u32) -> Result<(), HvStatus> {
        flush_buffer(&self.machine, &named(log, index))
    }

    /// The next message: type and first buffer.
    fn message(&self) -> Option<(HvEventLogType, u32)> {
        let message = self.machine.event_log.take_message(&self.machine);
        message.map(|message| (message.event_log_type, message.buffer_index.0))
    }

    /// The buffers of a list, as the headers link them.
    fn list(&self, log: HvEventLogType, first: u32) -> Vec<u32> {
        let mut list = vec![first];
        loop {
            let next = self.header(log, *list.last().unwrap()).next_buffer_index;
            if next == HvEventLogBufferIndex::NONE {
                return list;
            }
            list.push(next.0);
            assert!(list.len() <= 512, "the list has an end");
        }
    }

    fn record(&self, event: Event) {
        self.machine.event_log.record(&self.machine, None, event);
    }

    /// A mapped buffer's bytes.
    fn bytes(&self, log: HvEventLogType, index: u32) -> Vec<u8> {
        let pages = &self.mapped[&(log.0, index)];
        let mut bytes = vec![0; pages.len() * 4096];
        for (page, bytes) in pages.iter().zip(bytes.chunks_mut(4096)) {
            self.machine.phys.copy_from(Spa(page << 12), bytes).unwrap();
        }
        bytes
    }

    fn header(&self, log: HvEventLogType, index: u32) -> HvEventLogBufferHeader {
        let bytes = self.bytes(log, index);
        HvEventLogBufferHeader::read_from_prefix(&bytes).unwrap().0
    }

    /// The entries that a buffer's header vouches for.
    fn entries(&self, log: HvEventLogType, index: u32) -> Vec<(HvEventLogEntryHeader, Vec<u64>)> {
        let end = self.header(log, index).next_buffer_offset as usize;
        let bytes = self.bytes(log, index);
        let mut rest = &bytes[size_of::<HvEventLogBufferHeader>()..end];
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let (header, _) = HvEventLogEntryHeader::read_from_prefix(rest).unwrap();
            assert_eq!(header.size % 8, 0);
            let (entry, behind) = rest.split_at(header.size.into());
            let parameters = entry[16..].chunks(8);
            let parameters = parameters.map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
            entries.push((header, parameters.collect()));
            rest = behind;
        }
        entries
    }

    /// Ends a group as a root does: nothing enabled, everything flushed, read, unmapped and deleted.
    fn close(&mut self, log: HvEventLogType) {
        self.sources(log, 0).unwrap();
        for index in 0..512 {
            let _ = self.flush(log, index);
        }
        while self.message().is_some() {}
        for index in 0..512 {
            let _ = self.unmap(log, index);
            let _ = self.delete(log, index);
        }
        self.finalize(log).unwrap();
    }
}

/// 4 buffers of one page, of which 2 bring a message; reference time.
fn geometry(log: HvEventLogType) -> HvInputInitializeEventLogBufferGroup {
    HvInputInitializeEventLogBufferGroup {
        init: HvEventLogInitType::new()
            .with_event_log_type(log.0 as u16)
            .with_mode(HvEventLogMode::REGULAR),
        maximum_buffer_count: 4,
        buffer_size_in_bytes: 4096,
        threshold: 2,
        time_basis: HvEventLogEntryTimeBasis::REFERENCE,
        ..Default::default()
    }
}

fn named(log: HvEventLogType, index: u32) -> HvInputEventLogBuffer {
    HvInputEventLogBuffer {
        event_log_type: log,
        buffer_index: index.into(),
    }
}

/// Executes a call as the root does: as long as it does not get past it.
fn until_done(mut call: impl FnMut() -> Result<Progress, HvStatus>) -> Result<(), HvStatus> {
    for _ in 0..30 {
        if call()? == Progress::Done {
            return Ok(());
        }
    }
    panic!("the call does not end");
}

/// Records so many hypercalls, numbered from `first`.
fn hypercalls(root: &Root, first: u64, count: u64) {
    for number in first..first + count {
        root.record(hypercall(number));
    }
}

fn numbers(root: &Root, index: u32) -> Vec<u64> {
    let entries = root.entries(LOCAL, index).into_iter();
    entries.map(|(_, parameters)| parameters[1]).collect()
}
