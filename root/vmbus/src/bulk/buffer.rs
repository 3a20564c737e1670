//! Which bytes of the guest's.

use alloc::vec::Vec;

use crate::gpa::GpaRun;

/// Contiguous memory in a list. Where it ends in the list is kept instead of its length: so an offset is found without
/// adding lengths up, however many pieces a guest's memory is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// First address.
    gpa: u64,
    /// Bytes of the list up to the end of this.
    end: u64,
}

/// Appends memory to a list, to its last span if it follows that. `len` is not 0. Addresses have 52 bits and lists fewer
/// bytes than 2^36, so sums of them do not overflow.
#[inline]
pub(crate) fn append(spans: &mut Vec<Span>, gpa: u64, len: u64) {
    let (start, follows) = match spans.as_slice() {
        [] => (0, None),
        [last] => (last.end, Some(last.gpa + last.end)),
        [.., before, last] => (last.end, Some(last.gpa + (last.end - before.end))),
    };
    let end = start + len;
    match spans.last_mut() {
        Some(last) if follows == Some(gpa) => last.end = end,
        _ => spans.push(Span { gpa, end }),
    }
}

/// Bytes of the guest's memory that are one buffer for it, in its order: a list of addresses. That they were RAM once, as
/// those of a GPADL, or never, as a packet can claim, does not matter here: an access checks that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestBuffer<'a> {
    /// The first one has the first byte, if there is one.
    spans: &'a [Span],
    /// Where the first span starts in the list.
    base: u64,
    /// Where the buffer starts in the list.
    start: u64,
    /// Where it ends.
    end: u64,
}

/// A contiguous run of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it starts in the buffer.
    pub offset: u64,
    /// Where it lies.
    pub run: GpaRun,
}

/// More than a buffer has: a protocol that names offsets in a buffer lies, or the service is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes at {offset} of a buffer of {size}")]
pub struct OutsideBuffer {
    /// First byte asked for.
    pub offset: u64,
    /// Bytes asked for.
    pub len: u64,
    /// Bytes of the buffer.
    pub size: u64,
}

impl<'a> GuestBuffer<'a> {
    /// All of a list.
    pub(crate) fn of(spans: &'a [Span]) -> Self {
        Self {
            spans,
            base: 0,
            start: 0,
            end: spans.last().map_or(0, |last| last.end),
        }
    }

    /// Bytes.
    #[inline]
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// No bytes: a packet may name none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// `len` bytes from `offset` on. Both may come from the guest.
    ///
    /// # Errors
    /// If not all of them are in the buffer.
    pub fn part(&self, offset: u64, len: u64) -> Result<Self, OutsideBuffer> {
        let size = self.len();
        if offset
            .checked_add(len)
            .is_none_or(|part_end| part_end > size)
        {
            return Err(OutsideBuffer { offset, len, size });
        }
        let start = self.start + offset;
        let before = self.spans.partition_point(|span| span.end <= start);
        let (before, spans) = self.spans.split_at(before);
        Ok(Self {
            spans,
            base: before.last().map_or(self.base, |span| span.end),
            start,
            end: start + len,
        })
    }

    /// The contiguous runs, in order. Neighbours are merged.
    #[inline]
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + use<'a> {
        let Self {
            spans,
            mut base,
            start,
            end,
        } = *self;
        let mut at = start;
        spans.iter().map_while(move |span| {
            if at == end {
                return None;
            }
            let to = span.end.min(end);
            let piece = Piece {
                offset: at - start,
                run: GpaRun {
                    gpa: span.gpa + (at - base),
                    len: to - at,
                },
            };
            (base, at) = (span.end, to);
            Some(piece)
        })
    }
}
