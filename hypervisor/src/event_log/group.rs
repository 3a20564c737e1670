//! The buffers of one event log type, and how they fill.

use arrayvec::ArrayVec;
use tlfs::{
    HV_EVENTLOG_MAX_BUFFERS, HvEventLogBufferHeader, HvEventLogBufferIndex, HvEventLogBufferState,
    HvEventLogEntryTimeBasis, HvEventLogType, HvStatus,
};

use super::buffer::{Buffer, HEADER_SIZE, State};
use super::index_set::IndexSet;
use super::lane::Lane;
use crate::mem::addr::PAGE_SIZE;
use crate::mem::page_box::{Frame, PageBox};
use crate::mem::phys::PhysMap;

/// Processors that fill buffers of their own: as many as the core starts.
pub(super) const LANES: usize = 1;

/// Buffers whose description one frame holds.
const PER_PAGE: usize = PAGE_SIZE as usize / size_of::<Buffer>();
/// Frames that describe the most buffers.
pub(super) const MAX_DESCRIPTIONS: usize = (HV_EVENTLOG_MAX_BUFFERS as usize).div_ceil(PER_PAGE);

/// A frame of descriptions.
pub(super) type Descriptions = [Buffer; PER_PAGE];

/// What InitializeEventLogBufferGroup lays down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Event log type.
    pub log: HvEventLogType,
    /// Indexes are below this; 1 to 512.
    pub maximum: u16,
    /// Pages of a buffer; 1 to 512.
    pub pages: u16,
    /// Completed buffers that bring a message; 1 to `maximum`.
    pub threshold: u16,
    /// Clock of the entries.
    pub basis: HvEventLogEntryTimeBasis,
    /// When no buffer is free the oldest completed one is overwritten. Only a flush reports then: a buffer that waits
    /// for the root cannot be overwritten.
    pub circular: bool,
}

impl Geometry {
    /// How many frames describe the buffers.
    pub fn descriptions(&self) -> usize {
        usize::from(self.maximum).div_ceil(PER_PAGE)
    }

    /// Each processor fills buffers of its own.
    const fn is_local(&self) -> bool {
        self.log.0 == HvEventLogType::LOCAL_DIAGNOSTICS.0
    }
}

/// A point in time, in both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// 100 ns since the hypervisor's start.
    pub reference: u64,
    /// TSC.
    pub tsc: u64,
}

/// The buffers of one type.
#[derive(Debug)]
pub(super) struct Group {
    /// Geometry.
    pub geometry: Geometry,
    /// Number of buffers that exist, or are being created or deleted.
    pub buffers: u16,
    descriptions: ArrayVec<PageBox<Descriptions>, MAX_DESCRIPTIONS>,
    free: IndexSet,
    lanes: [Lane; LANES],
}

impl Group {
    /// A group without buffers.
    pub fn new(
        geometry: Geometry,
        descriptions: ArrayVec<PageBox<Descriptions>, MAX_DESCRIPTIONS>,
    ) -> Self {
        Self {
            geometry,
            buffers: 0,
            descriptions,
            free: IndexSet::default(),
            lanes: [const { Lane::new() }; LANES],
        }
    }

    /// The frames that described the buffers, of which there are none any more.
    pub fn into_frames(self) -> impl Iterator<Item = Frame> {
        self.descriptions.into_iter().map(PageBox::into_frame)
    }

    /// A buffer's description, also of one that does not exist. None for an index that is too large.
    pub fn buffer(&mut self, index: u32) -> Option<&mut Buffer> {
        if index >= u32::from(self.geometry.maximum) {
            return None;
        }
        let index = index as usize;
        let page = self.descriptions.get_mut(index / PER_PAGE)?;
        page.get_mut(index % PER_PAGE)
    }

    /// Lists of buffers that wait to be reported.
    pub fn messages(&self) -> usize {
        self.lanes.iter().filter(|lane| lane.report).count()
    }

    /// Whether there is one.
    pub fn has_message(&self) -> bool {
        self.lanes.iter().any(|lane| lane.report)
    }

    fn lane_of(&self, processor: usize) -> usize {
        if self.geometry.is_local() {
            processor
        } else {
            0
        }
    }

    /// The time in the group's clock.
    pub const fn time(&self, at: Stamp) -> u64 {
        if self.geometry.basis.0 == HvEventLogEntryTimeBasis::TSC.0 {
            at.tsc
        } else {
            at.reference
        }
    }

    /// A mapped or released buffer may be filled.
    pub fn make_free(&mut self, phys: &PhysMap, index: u16) {
        let log = self.geometry.log;
        if let Some(buffer) = self.buffer(index.into()) {
            buffer.state = State::Free;
            buffer.write_header(phys, &header(log, index, HvEventLogBufferState::FREE));
            self.free.insert(index);
        }
    }

    /// A buffer that is free or the root's, or that is not quite mapped, is taken out of service. Returns how many pages
    /// are still mapped.
    ///
    /// # Errors
    /// ACCESS_DENIED in another state, INVALID_PARAMETER if there is no such buffer.
    pub fn take_out(&mut self, index: u32) -> Result<u16, HvStatus> {
        let buffer = self.buffer(index).ok_or(HvStatus::INVALID_PARAMETER)?;
        let mapped = match buffer.state {
            State::Absent => return Err(HvStatus::INVALID_PARAMETER),
            State::Free | State::Ready => buffer.pages(),
            State::Mapping { mapped } | State::Unmapping { mapped } => mapped,
            _ => return Err(HvStatus::ACCESS_DENIED),
        };
        buffer.state = State::Unmapping { mapped };
        self.free.remove(index as u16);
        Ok(mapped)
    }

    /// Appends an entry to the buffer that `processor` fills; counts it as lost if there is none.
    pub fn append(&mut self, phys: &PhysMap, processor: usize, at: Stamp, entry: &[u8]) {
        let log = self.geometry.log;
        if let Some(index) = self.lanes[self.lane_of(processor)].current {
            match self.buffer(index.into()) {
                Some(buffer) if buffer.has_room(entry.len()) => {
                    return buffer.append(phys, log, entry);
                }
                _ => self.complete_current(phys, processor),
            }
        }
        match self.take_into_use(phys, processor, at) {
            Some(buffer) => buffer.append(phys, log, entry),
            None => {
                let lane = self.lane_of(processor);
                self.lanes[lane].lost = self.lanes[lane].lost.saturating_add(1);
            }
        }
    }

    /// The buffer in use is full or flushed: it goes to the list of completed ones.
    fn complete_current(&mut self, phys: &PhysMap, processor: usize) {
        let lane = self.lane_of(processor);
        let Some(index) = self.lanes[lane].current.take() else {
            return;
        };
        let owner = self.owner(processor);
        let last = self.lanes[lane].push(index);
        let sequence = self.lanes[lane].sequence;
        if let Some(last) = last.and_then(|last| self.buffer(last.into())) {
            last.next = Some(index);
        }
        if let Some(buffer) = self.buffer(index.into()) {
            buffer.state = State::Complete;
            buffer.next = None;
            buffer.write_link(phys, HvEventLogBufferIndex::NONE, sequence);
            buffer.write_state(phys, owner, HvEventLogBufferState::COMPLETE);
        }
        let threshold = self.geometry.threshold;
        if !self.geometry.circular && self.lanes[lane].completed >= threshold {
            self.lanes[lane].report = true;
        }
    }

    /// Gives `processor` a buffer to fill: a free one, or the oldest completed one where that may be overwritten.
    ///
    /// If there is none, nothing more will be completed, so that the threshold is out of reach: the root is told of what
    /// there is.
    fn take_into_use(
        &mut self,
        phys: &PhysMap,
        processor: usize,
        at: Stamp,
    ) -> Option<&mut Buffer> {
        let lane = self.lane_of(processor);
        let mut index = self.free.take_first();
        if index.is_none() && self.geometry.circular && !self.lanes[lane].report {
            index = self.pop_completed(lane);
        }
        let Some(index) = index else {
            self.lanes[lane].report |= self.lanes[lane].completed != 0;
            return None;
        };
        let header = HvEventLogBufferHeader {
            events_lost: core::mem::take(&mut self.lanes[lane].lost),
            time_stamp: at.reference,
            logical_processor: self.owner(processor),
            ..header(self.geometry.log, index, HvEventLogBufferState::IN_USE)
        };
        self.lanes[lane].current = Some(index);
        let buffer = self.buffer(index.into())?;
        buffer.state = State::InUse;
        buffer.write_header(phys, &header);
        Some(buffer)
    }

    /// Takes the oldest buffer off a lane's list.
    fn pop_completed(&mut self, lane: usize) -> Option<u16> {
        let index = self.lanes[lane].first()?;
        let next = self.buffer(index.into())?.next.take();
        self.lanes[lane].pop(next);
        Some(index)
    }

    /// What headers say about who fills a buffer: only those of local types tell.
    fn owner(&self, processor: usize) -> u16 {
        if self.geometry.is_local() {
            processor as u16
        } else {
            0
        }
    }

    /// Completes a buffer in use, and has the completed ones of its list reported. On other buffers it does nothing.
    ///
    /// # Errors
    /// INVALID_PARAMETER if there is no such buffer.
    pub fn flush(&mut self, phys: &PhysMap, index: u32) -> Result<(), HvStatus> {
        let buffer = self.buffer(index).ok_or(HvStatus::INVALID_PARAMETER)?;
        match buffer.state {
            State::Absent => return Err(HvStatus::INVALID_PARAMETER),
            State::InUse => {
                let in_use = |lane: &Lane| lane.current.map(u32::from) == Some(index);
                if let Some(lane) = self.lanes.iter().position(in_use) {
                    self.complete_current(phys, lane);
                    self.lanes[lane].report = true;
                }
            }
            // Whose list it is on does not matter: there are as many lists as processors, and each is reported.
            State::Complete => {
                for lane in &mut self.lanes {
                    lane.report |= lane.completed != 0;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The root has read a buffer.
    ///
    /// # Errors
    /// OPERATION_DENIED if the buffer is not the root's.
    pub fn release(&mut self, phys: &PhysMap, index: u32) -> Result<(), HvStatus> {
        match self.buffer(index) {
            Some(buffer) if buffer.state == State::Ready => {
                self.make_free(phys, index as u16);
                Ok(())
            }
            _ => Err(HvStatus::OPERATION_DENIED),
        }
    }

    /// Has `post` tell the root the first of the buffers that wait to be reported. If it could (it says so), they
    /// are the root's. At most 512 buffers, about 60 instructions each.
    pub fn report(
        &mut self,
        phys: &PhysMap,
        post: impl FnOnce(HvEventLogBufferIndex) -> bool,
    ) -> bool {
        let Some(lane) = self.lanes.iter().position(|lane| lane.report) else {
            return false;
        };
        let Some(first) = self.lanes[lane].first() else {
            self.lanes[lane].report = false;
            return false;
        };
        // The root on another processor may follow the list as soon as it has the message.
        let mut index = Some(first);
        let mut sequence = self.lanes[lane].first_sequence();
        while let Some(buffer) = index.and_then(|index| self.buffer(index.into())) {
            index = buffer.next;
            let next = index.map_or(HvEventLogBufferIndex::NONE.0, u32::from);
            buffer.write_link(phys, next.into(), sequence);
            sequence = sequence.wrapping_add(1);
        }
        if !post(u32::from(first).into()) {
            return false;
        }
        let owner = self.owner(lane);
        while let Some(index) = self.pop_completed(lane) {
            if let Some(buffer) = self.buffer(index.into()) {
                buffer.state = State::Ready;
                buffer.write_state(phys, owner, HvEventLogBufferState::READY);
            }
        }
        self.lanes[lane].report = false;
        true
    }
}

fn header(log: HvEventLogType, index: u16, state: HvEventLogBufferState) -> HvEventLogBufferHeader {
    HvEventLogBufferHeader {
        buffer_index: u32::from(index).into(),
        buffer_state: state,
        next_buffer_offset: HEADER_SIZE,
        event_log_type: log,
        next_buffer_index: HvEventLogBufferIndex::NONE,
        ..HvEventLogBufferHeader::default()
    }
}
