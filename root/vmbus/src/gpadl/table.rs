//! All GPADLs of a guest, and their limits.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{GPADL_UNIT, Gpadl, GpadlError, GuestMemoryMap, PageRange, decode};
use crate::bulk::Span;
use crate::protocol::{GpadlHandle, MAX_MESSAGE_SIZE, Relid};

/// Most GPADLs of a guest, complete or not. A channel of Linux has one to three.
pub const MAX_GPADLS: usize = 1024;
/// Most GPADLs of a channel.
pub const MAX_GPADLS_PER_CHANNEL: usize = 16;
/// Most units of 8 bytes (page numbers, and a header for each range) of a guest's GPADLs: 256 MiB of guest memory, as for
/// 14 network adapters with Linux's usual buffers.
pub const MAX_UNITS: usize = 65_536;
/// Most units of a channel: two buffers of a network adapter of 31 MiB each, which Linux does not exceed, and its rings.
pub const MAX_UNITS_PER_CHANNEL: usize = 16_384;

/// Most bytes that the GPADLs of a guest take of the host's memory: a unit becomes at most a run of
/// pages or a range, 16 bytes each (half as much while messages are missing), each GPADL has an entry, and one at a time is decoded, which
/// needs its page numbers twice more and its runs.
pub const MAX_GPADL_MEMORY: usize =
    MAX_UNITS * LARGEST_PIECE + MAX_GPADLS * ENTRY_COST + DECODE_UNITS * (2 * 8 + LARGEST_PIECE);

/// Bytes that a unit becomes.
const LARGEST_PIECE: usize = if size_of::<Span>() > size_of::<PageRange>() {
    size_of::<Span>()
} else {
    size_of::<PageRange>()
};
/// Bytes of an entry of the table: a node of a B-tree can be half empty, and has pointers; each allocation of the entry's
/// own may be rounded up.
const ENTRY_COST: usize = 3 * (size_of::<Entry>() + size_of::<GpadlHandle>()) + 128;
/// Units of the longest range buffer.
const DECODE_UNITS: usize = (u16::MAX as usize) / GPADL_UNIT;

/// How far a GPADL is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Bodies are missing.
    Assembling,
    /// It is complete.
    Complete,
}

/// A body that was not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// No header with this handle waits for a body.
    #[error("no GPADL waits for this body")]
    Unexpected,
    /// The GPADL was refused, and is forgotten.
    #[error("GPADL of channel {relid:?} refused: {error}")]
    Refused {
        /// Channel of the GPADL.
        relid: Relid,
        /// Why.
        error: GpadlError,
    },
}

#[derive(Debug)]
struct Entry {
    relid: Relid,
    /// Units that were promised, and are charged.
    units: u16,
    state: State,
}

#[derive(Debug)]
enum State {
    Assembling { buffer: Vec<u8>, range_count: u16 },
    Complete(Gpadl),
}

/// The GPADLs of a guest, by handle: bodies and GPADL_TORNDOWN name no channel.
#[derive(Debug, Default)]
pub struct GpadlTable {
    entries: BTreeMap<GpadlHandle, Entry>,
    units: usize,
}

impl GpadlTable {
    /// A GPADL_HEADER; `bytes` is what follows its fixed part.
    ///
    /// # Errors
    /// If it is refused. Nothing is kept then.
    pub fn header(
        &mut self,
        memory: &impl GuestMemoryMap,
        relid: Relid,
        handle: GpadlHandle,
        (range_buflen, range_count): (u16, u16),
        bytes: &[u8],
    ) -> Result<Progress, GpadlError> {
        if handle.0 == 0 {
            return Err(GpadlError::NoHandle);
        }
        if self.entries.contains_key(&handle) {
            return Err(GpadlError::HandleInUse);
        }
        let units = checked_units(range_buflen, range_count)?;
        self.check_limits(relid, usize::from(units))?;
        if bytes.len() > usize::from(range_buflen) || bytes.len() > MAX_MESSAGE_SIZE {
            return Err(GpadlError::Surplus);
        }
        let state = if bytes.len() == usize::from(range_buflen) {
            State::Complete(decode(bytes, range_count, memory)?)
        } else {
            let mut buffer = Vec::with_capacity(usize::from(range_buflen));
            buffer.extend_from_slice(bytes);
            State::Assembling {
                buffer,
                range_count,
            }
        };
        let progress = state.progress();
        self.units += usize::from(units);
        let entry = Entry {
            relid,
            units,
            state,
        };
        self.entries.insert(handle, entry);
        Ok(progress)
    }

    /// A GPADL_BODY; `bytes` is what follows its fixed part. Bodies are taken in the order in which they arrive (trap
    /// 12). Says whose it is.
    ///
    /// # Errors
    /// If it belongs to nothing, or the GPADL is refused, which is forgotten then.
    pub fn body(
        &mut self,
        memory: &impl GuestMemoryMap,
        handle: GpadlHandle,
        bytes: &[u8],
    ) -> Result<(Relid, Progress), BodyError> {
        let entry = self.entries.get_mut(&handle).ok_or(BodyError::Unexpected)?;
        let relid = entry.relid;
        match entry.take_body(memory, bytes) {
            Ok(Some(progress)) => Ok((relid, progress)),
            Ok(None) => Err(BodyError::Unexpected),
            Err(error) => {
                self.remove(handle);
                Err(BodyError::Refused { relid, error })
            }
        }
    }

    /// A complete GPADL.
    pub fn get(&self, handle: GpadlHandle) -> Option<&Gpadl> {
        match &self.entries.get(&handle)?.state {
            State::Complete(gpadl) => Some(gpadl),
            State::Assembling { .. } => None,
        }
    }

    /// The channel for which it was made, complete or not.
    pub fn owner(&self, handle: GpadlHandle) -> Option<Relid> {
        self.entries.get(&handle).map(|entry| entry.relid)
    }

    /// Forgets a GPADL, complete or not. Says whether it was there.
    pub fn remove(&mut self, handle: GpadlHandle) -> bool {
        let Some(entry) = self.entries.remove(&handle) else {
            return false;
        };
        self.units -= usize::from(entry.units);
        true
    }

    /// Forgets the incomplete GPADLs of a channel, or of all.
    pub fn remove_incomplete(&mut self, relid: Option<Relid>) {
        let units = &mut self.units;
        self.entries.retain(|_, entry| {
            let keep = matches!(entry.state, State::Complete(_))
                || relid.is_some_and(|relid| relid != entry.relid);
            if !keep {
                *units -= usize::from(entry.units);
            }
            keep
        });
    }

    /// The complete GPADLs of a channel, or of all.
    pub fn complete(&self, relid: Option<Relid>) -> impl Iterator<Item = GpadlHandle> + '_ {
        self.entries
            .iter()
            .filter(move |(_, entry)| {
                matches!(entry.state, State::Complete(_))
                    && relid.is_none_or(|relid| relid == entry.relid)
            })
            .map(|(handle, _)| *handle)
    }

    /// GPADLs, complete or not.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Units charged.
    pub fn units(&self) -> usize {
        self.units
    }

    fn check_limits(&self, relid: Relid, units: usize) -> Result<(), GpadlError> {
        let of_channel = self.entries.values().filter(|entry| entry.relid == relid);
        let (count, sum) = of_channel.fold((0usize, 0usize), |(count, sum), entry| {
            (count + 1, sum + usize::from(entry.units))
        });
        let fits = self.entries.len() < MAX_GPADLS
            && self.units + units <= MAX_UNITS
            && count < MAX_GPADLS_PER_CHANNEL
            && sum + units <= MAX_UNITS_PER_CHANNEL;
        fits.then_some(()).ok_or(GpadlError::Limit)
    }
}

/// Units of a range buffer that can be one.
fn checked_units(range_buflen: u16, range_count: u16) -> Result<u16, GpadlError> {
    let unit = GPADL_UNIT as u16;
    let units = range_buflen / unit;
    let fits = range_buflen.is_multiple_of(unit)
        && range_count != 0
        && u32::from(range_count) * 2 <= u32::from(units);
    fits.then_some(units).ok_or(GpadlError::BufferLength {
        len: range_buflen,
        ranges: range_count,
    })
}

impl Entry {
    /// Adds a body. `None` if none is missing.
    fn take_body(
        &mut self,
        memory: &impl GuestMemoryMap,
        bytes: &[u8],
    ) -> Result<Option<Progress>, GpadlError> {
        let State::Assembling {
            buffer,
            range_count,
        } = &mut self.state
        else {
            return Ok(None);
        };
        let len = usize::from(self.units) * GPADL_UNIT;
        if buffer.len() + bytes.len() > len {
            return Err(GpadlError::Surplus);
        }
        buffer.extend_from_slice(bytes);
        if buffer.len() == len {
            self.state = State::Complete(decode(buffer, *range_count, memory)?);
        }
        Ok(Some(self.state.progress()))
    }
}

impl State {
    fn progress(&self) -> Progress {
        match self {
            Self::Assembling { .. } => Progress::Assembling,
            Self::Complete(_) => Progress::Complete,
        }
    }
}
