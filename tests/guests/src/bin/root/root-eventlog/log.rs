//! The calls of the event log, and what is in its buffers.

use guests::root::memory::{self, PAGE};
use guests::root::{Root, report};
use guests::{check, fail};
use tlfs::{
    HV_PAGE_SIZE, HvCallCode, HvEventLogBufferHeader, HvEventLogBufferIndex, HvEventLogBufferState,
    HvEventLogEntryHeader, HvEventLogEntryTimeBasis, HvEventLogEntryType, HvEventLogInitType,
    HvEventLogMessagePayload, HvEventLogMode, HvEventLogType, HvInputCreateEventLogBuffer,
    HvInputEventLogBuffer, HvInputFinalizeEventLogBufferGroup,
    HvInputInitializeEventLogBufferGroup, HvInputMapEventLogBuffer, HvInputSetEventLogGroupSources,
    HvMessage, HvMessageType, HvPartitionId, HvProximityDomainInfo, HvStatus,
};
use zerocopy::{FromZeros, IntoBytes};

/// Bytes of a buffer's header.
const HEADER: u64 = size_of::<HvEventLogBufferHeader>() as u64;
/// Most parameters of an entry.
pub const PARAMETERS: usize = 4;

/// The log of one type.
#[derive(Clone, Copy)]
pub struct Log(pub HvEventLogType);

/// Buffers of a group.
#[derive(Clone, Copy)]
pub struct Geometry {
    /// Most buffers.
    pub count: u32,
    /// Bytes of each.
    pub bytes: u32,
    /// Completed buffers that bring a message.
    pub threshold: u32,
    /// Clock.
    pub basis: HvEventLogEntryTimeBasis,
}

/// One page each, four of them, a message for each.
pub const SMALL: Geometry = Geometry {
    count: 4,
    bytes: HV_PAGE_SIZE as u32,
    threshold: 1,
    basis: HvEventLogEntryTimeBasis::REFERENCE,
};

/// An entry of a buffer.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Header.
    pub header: HvEventLogEntryHeader,
    /// What follows it.
    pub parameters: [u64; PARAMETERS],
}

impl Log {
    /// 0x60.
    pub fn initialize(self, root: &Root, geometry: &Geometry) -> HvStatus {
        let input = HvInputInitializeEventLogBufferGroup {
            init: HvEventLogInitType::new()
                .with_event_log_type(self.0.0 as u16)
                .with_mode(HvEventLogMode::REGULAR),
            maximum_buffer_count: geometry.count,
            buffer_size_in_bytes: geometry.bytes,
            threshold: geometry.threshold,
            time_basis: geometry.basis,
            padding: 0xBAD0_BAD0,
            system_time: 0x01DB_0000_0000_0000,
        };
        root.calls
            .order(HvCallCode::INITIALIZE_EVENT_LOG_BUFFER_GROUP, &input)
    }

    /// 0x61, in registers.
    pub fn finalize(self, root: &Root) -> HvStatus {
        let input = HvInputFinalizeEventLogBufferGroup {
            event_log_type: self.0,
            padding: 0,
        };
        let code = HvCallCode::FINALIZE_EVENT_LOG_BUFFER_GROUP;
        root.calls.fast(code, zerocopy::transmute!(input), 0)
    }

    /// 0x62, in memory.
    pub fn create(
        self,
        root: &Root,
        index: u32,
        proximity_info: HvProximityDomainInfo,
    ) -> HvStatus {
        let input = HvInputCreateEventLogBuffer {
            event_log_type: self.0,
            buffer_index: HvEventLogBufferIndex(index),
            proximity_info,
        };
        root.calls
            .order(HvCallCode::CREATE_EVENT_LOG_BUFFER, &input)
    }

    fn buffer(self, root: &Root, code: HvCallCode, index: u32) -> HvStatus {
        let input = HvInputEventLogBuffer {
            event_log_type: self.0,
            buffer_index: HvEventLogBufferIndex(index),
        };
        root.calls.fast(code, zerocopy::transmute!(input), 0)
    }

    /// 0x63, in registers.
    pub fn delete(self, root: &Root, index: u32) -> HvStatus {
        self.buffer(root, HvCallCode::DELETE_EVENT_LOG_BUFFER, index)
    }

    /// 0x67, in registers.
    pub fn release(self, root: &Root, index: u32) -> HvStatus {
        self.buffer(root, HvCallCode::RELEASE_EVENT_LOG_BUFFER, index)
    }

    /// 0x68, in registers.
    pub fn flush(self, root: &Root, index: u32) -> HvStatus {
        self.buffer(root, HvCallCode::FLUSH_EVENT_LOG_BUFFER, index)
    }

    fn mapping(self, index: u32) -> HvInputMapEventLogBuffer {
        HvInputMapEventLogBuffer {
            event_log_type: self.0,
            buffer_index: HvEventLogBufferIndex(index),
            partition_id: HvPartitionId::SELF,
        }
    }

    /// 0x64; the physical addresses of the first pages.
    ///
    /// # Errors
    /// Its status.
    pub fn map<const N: usize>(self, root: &Root, index: u32) -> Result<[u64; N], HvStatus> {
        let call = HvCallCode::MAP_EVENT_LOG_BUFFER;
        let pages: [u64; N] = root.calls.ask(call, &self.mapping(index))?;
        Ok(pages.map(|page| page * PAGE))
    }

    /// 0x65, in registers.
    pub fn unmap(self, root: &Root, index: u32) -> HvStatus {
        let [first, second]: [u64; 2] = zerocopy::transmute!(self.mapping(index));
        let code = HvCallCode::UNMAP_EVENT_LOG_BUFFER;
        root.calls.fast(code, first, second)
    }

    /// 0x66, in memory.
    pub fn sources(self, root: &Root, enable_flags: u64) -> HvStatus {
        let input = HvInputSetEventLogGroupSources {
            event_log_type: self.0,
            group_count: 0,
            enable_flags,
        };
        root.calls
            .order(HvCallCode::SET_EVENT_LOG_GROUP_SOURCES, &input)
    }

    /// The index in a message of SINT0, which must be of this log.
    #[track_caller]
    pub fn reported(self, message: Option<HvMessage>) -> u32 {
        let Some(message) = message else {
            let at = core::panic::Location::caller();
            fail!("no message of the event log comes (line {})", at.line());
        };
        let kind = message.header.message_type;
        let wanted = HvMessageType::EVENT_LOG_BUFFER_COMPLETE;
        report::same(kind, wanted, "message of SINT0");
        report::same(message.header.payload_size, 8, "payload");
        let payload: HvEventLogMessagePayload = message.payload_as().unwrap_or_default();
        report::same(payload.event_log_type, self.0, "event log type");
        payload.buffer_index.0
    }
}

/// The header of a buffer at its first page.
pub fn header(page: u64) -> HvEventLogBufferHeader {
    let mut header = HvEventLogBufferHeader::new_zeroed();
    memory::copy_from(page, header.as_mut_bytes());
    header
}

/// Calls `f` with every entry of a buffer of one page, and checks that they are whole and in the order of time.
pub fn entries(page: u64, mut f: impl FnMut(&Entry)) -> u64 {
    let header = header(page);
    let end = u64::from(header.next_buffer_offset);
    check!((HEADER..=PAGE).contains(&end), "next entry at {end:#x}");
    let (mut at, mut count, mut time) = (HEADER, 0, 0);
    while at < end {
        let mut entry = Entry {
            header: HvEventLogEntryHeader::new_zeroed(),
            parameters: [0; PARAMETERS],
        };
        memory::copy_from(page + at, entry.header.as_mut_bytes());
        let size = u64::from(entry.header.size);
        check!(
            size >= 16 && size.is_multiple_of(8) && at + size <= end,
            "an entry of {size} bytes at {at:#x}"
        );
        let bytes = (size as usize - 16).min(8 * PARAMETERS);
        memory::copy_from(
            page + at + 16,
            &mut entry.parameters.as_mut_bytes()[..bytes],
        );
        check!(entry.header.time_stamp >= time, "time goes backwards");
        time = entry.header.time_stamp;
        f(&entry);
        at += size;
        count += 1;
    }
    count
}

/// How many entries of a buffer are of this type and begin with these parameters.
pub fn count(page: u64, kind: HvEventLogEntryType, parameters: &[u64]) -> u64 {
    let mut found = 0;
    entries(page, |entry| {
        let same = entry.parameters.iter().zip(parameters).all(|(a, b)| a == b);
        found += u64::from(entry.header.entry_type == kind && same);
    });
    found
}

/// Fails unless a buffer is in this state.
#[track_caller]
pub fn state(page: u64, wanted: HvEventLogBufferState) {
    report::same(header(page).buffer_state, wanted, "state of a buffer");
}
