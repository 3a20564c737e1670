//! One buffer: its pages, its state, and what is written into it.

use core::mem::offset_of;

use arrayvec::ArrayVec;
use tlfs::{
    HV_EVENTLOG_MAX_BUFFER_PAGES, HvEventLogBufferHeader, HvEventLogBufferIndex,
    HvEventLogBufferState, HvEventLogType,
};
use zerocopy::IntoBytes;

use crate::mem::addr::{PAGE_SIZE, Spa, Spfn};
use crate::mem::page_box::{Frame, PageBox};
use crate::mem::phys::PhysMap;

/// Bytes of a buffer's header; the first entry follows.
pub(super) const HEADER_SIZE: u32 = size_of::<HvEventLogBufferHeader>() as u32;

/// Where a buffer is in its life. The states that the root's headers know, none for an index without a buffer, and the
/// steps between them that one call is too short for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// There is no buffer with this index.
    #[default]
    Absent,
    /// Gets its pages.
    Creating,
    /// Not mapped, not used.
    Standby,
    /// Becomes mapped.
    Mapping {
        /// How many pages are, from the first one on.
        mapped: u16,
    },
    /// In the set of free buffers.
    Free,
    /// The one that a lane fills.
    InUse,
    /// In a lane's list of completed buffers.
    Complete,
    /// Reported: the root's.
    Ready,
    /// Is no longer to be mapped.
    Unmapping {
        /// How many pages still are, from the first one on.
        mapped: u16,
    },
    /// Loses its pages.
    Deleting,
}

/// Pages after the first. One frame holds the list.
pub(super) type MorePages = ArrayVec<Frame, { HV_EVENTLOG_MAX_BUFFER_PAGES - 1 }>;

/// A buffer. The root sees its pages but cannot write them; what counts is nevertheless kept here.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    /// State.
    pub state: State,
    /// Next of the completed buffers of a lane.
    pub next: Option<u16>,
    /// Where the next entry goes.
    pub offset: u32,
    first: Option<Frame>,
    /// There from the start of the creation of a buffer of more than one page.
    pub more: Option<PageBox<MorePages>>,
}

impl Buffer {
    /// How many pages it has.
    pub fn pages(&self) -> u16 {
        let more = self.more.as_ref().map_or(0, |more| more.len());
        u16::from(self.first.is_some()) + more as u16
    }

    /// The page with a number.
    pub fn page(&self, number: usize) -> Option<Spfn> {
        match number.checked_sub(1) {
            None => self.first.as_ref(),
            Some(number) => self.more.as_ref()?.get(number),
        }
        .map(Frame::spfn)
    }

    /// Gives it one more page. The page comes back if there is no room.
    pub fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        if self.first.is_none() {
            self.first = Some(frame);
            return Ok(());
        }
        match &mut self.more {
            Some(more) => more.try_push(frame).map_err(|full| full.element()),
            None => Err(frame),
        }
    }

    /// Takes a page from it: the last one first, at the very end the one that held the list.
    pub fn pop(&mut self) -> Option<Frame> {
        if let Some(more) = &mut self.more
            && let Some(frame) = more.pop()
        {
            return Some(frame);
        }
        let list = self.more.take().map(PageBox::into_frame);
        list.or_else(|| self.first.take())
    }

    /// Bytes, header included.
    pub fn size(&self) -> u32 {
        u32::from(self.pages()) * PAGE_SIZE as u32
    }

    /// Whether an entry of so many bytes fits behind the ones that are there.
    pub fn has_room(&self, bytes: usize) -> bool {
        (self.size() - self.offset.min(self.size())) as usize >= bytes
    }

    /// Writes the header of a buffer that comes into use or is mapped.
    ///
    /// The state comes last, so that a reader who sees IN_USE sees the offset that belongs to it.
    pub fn write_header(&mut self, phys: &PhysMap, header: &HvEventLogBufferHeader) {
        self.offset = HEADER_SIZE;
        let header = HvEventLogBufferHeader {
            buffer_size: self.size() - HEADER_SIZE,
            next_buffer_offset: HEADER_SIZE,
            ..*header
        };
        let before = HvEventLogBufferHeader {
            buffer_state: HvEventLogBufferState::FREE,
            ..header
        };
        self.put(phys, 0, before.as_bytes());
        self.write_state(phys, header.logical_processor, header.buffer_state);
    }

    /// Changes the state in the header.
    pub fn write_state(
        &self,
        phys: &PhysMap,
        logical_processor: u16,
        state: HvEventLogBufferState,
    ) {
        let at = offset_of!(HvEventLogBufferHeader, logical_processor);
        self.put_pair(phys, at, u32::from(logical_processor), state.0);
    }

    /// Writes which completed buffer follows, and as which of its processor's this one was completed.
    pub fn write_link(&self, phys: &PhysMap, next: HvEventLogBufferIndex, sequence: u32) {
        let at = offset_of!(HvEventLogBufferHeader, next_buffer_index);
        self.put_pair(phys, at, next.0, sequence);
    }

    /// Appends an entry, for which there is room, and then tells the reader of it.
    pub fn append(&mut self, phys: &PhysMap, log: HvEventLogType, entry: &[u8]) {
        self.put(phys, self.offset, entry);
        self.offset += entry.len() as u32;
        let at = offset_of!(HvEventLogBufferHeader, next_buffer_offset);
        self.put_pair(phys, at, self.offset, log.0);
    }

    /// Copies bytes to an offset; they touch at most two pages.
    fn put(&self, phys: &PhysMap, offset: u32, bytes: &[u8]) {
        let page = offset as usize / PAGE_SIZE as usize;
        let within = u64::from(offset) % PAGE_SIZE;
        let here = bytes.len().min((PAGE_SIZE - within) as usize);
        let (here, rest) = bytes.split_at(here);
        for (page, within, bytes) in [(page, within, here), (page + 1, 0, rest)] {
            if let (false, Some(frame)) = (bytes.is_empty(), self.page(page)) {
                // Every frame that has an owner lies in the direct map.
                let _ = phys.copy_to(Spa(frame.address().0 + within), bytes);
            }
        }
    }

    /// Writes two neighbouring fields of the header in one access.
    fn put_pair(&self, phys: &PhysMap, offset: usize, low: u32, high: u32) {
        if let Some(frame) = self.page(0) {
            let value = u64::from(high) << 32 | u64::from(low);
            // As above; the offsets are multiples of 8.
            let _ = phys.write_u64(Spa(frame.address().0 + offset as u64), value);
        }
    }
}

// What `put_pair` relies on.
const _: () = assert!(
    offset_of!(HvEventLogBufferHeader, logical_processor) % 8 == 0
        && offset_of!(HvEventLogBufferHeader, buffer_state)
            == offset_of!(HvEventLogBufferHeader, logical_processor) + 4
        && offset_of!(HvEventLogBufferHeader, next_buffer_index) % 8 == 0
        && offset_of!(HvEventLogBufferHeader, lp_sequence_number)
            == offset_of!(HvEventLogBufferHeader, next_buffer_index) + 4
        && offset_of!(HvEventLogBufferHeader, next_buffer_offset) % 8 == 0
        && offset_of!(HvEventLogBufferHeader, event_log_type)
            == offset_of!(HvEventLogBufferHeader, next_buffer_offset) + 4
);
