//! The frame of every packet of these services: pipe header, then ICMSG header, then the body (sheet 10.1).

use alloc::vec::Vec;

use tlfs::{wire_enum, wire_struct};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes, Unaligned};

/// Bytes in front of a body.
pub const HEADER_LEN: usize = 28;

/// The longest payload that is looked at: KVP has the largest packets, and Linux clamps those of its channel at 16384
/// bytes with the 16-byte packet descriptor (sheet 7.7). An answer is as long as its request.
pub const MAX_PAYLOAD: usize = 16384 - 16;

/// The longest payload of a channel other than KVP's: Linux clamps at 4096 with the descriptor (sheet 7.7), and one
/// clamped packet makes the whole ring unreadable.
pub const MAX_PAYLOAD_DEFAULT: usize = 4096 - 16;

wire_struct! {
    /// A version on the wire.
    #[derive(Unaligned)]
    pub struct WireVersion [4] {
        /// Major number.
        major @ 0: U16,
        /// Minor number.
        minor @ 2: U16,
    }
}

/// A version of the framework or of a service's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Version {
    /// Major number.
    pub major: u16,
    /// Minor number.
    pub minor: u16,
}

impl Version {
    /// The version `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }
}

impl core::fmt::Display for Version {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl From<WireVersion> for Version {
    fn from(wire: WireVersion) -> Self {
        Self::new(wire.major.get(), wire.minor.get())
    }
}

impl From<Version> for WireVersion {
    fn from(version: Version) -> Self {
        Self {
            major: version.major.into(),
            minor: version.minor.into(),
        }
    }
}

wire_enum! {
    /// What a packet is about (sheet 10.1).
    pub struct MessageType(u16);
    /// Versions; the first packet of each channel.
    NEGOTIATE = 0, "NEGOTIATE";
    /// Heartbeat.
    HEARTBEAT = 1, "HEARTBEAT";
    /// Key/value pairs.
    KVP = 2, "KVP";
    /// Shutdown, restart, hibernation.
    SHUTDOWN = 3, "SHUTDOWN";
    /// Time synchronisation.
    TIMESYNC = 4, "TIMESYNC";
}

wire_enum! {
    /// How the guest answered: an HRESULT (sheet 10.1; `HV_*` of Linux' `include/uapi/linux/hyperv.h`).
    pub struct Status(u32);
    /// Done.
    OK = 0, "OK";
    /// Failed. Linux also answers so for a user-space daemon that is not there or does not answer within 30 s.
    FAIL = 0x8000_4005, "FAIL";
    /// No more items (Linux: `HV_S_CONT`): the end of an enumeration, or no such key.
    NO_MORE_ITEMS = 0x8007_0103, "NO_MORE_ITEMS";
    /// The guest does not know this request.
    NOT_SUPPORTED = 0x8007_0032, "NOT_SUPPORTED";
    /// A parameter is wrong.
    INVALID_ARGUMENT = 0x8007_0057, "INVALID_ARGUMENT";
    /// No room.
    DISK_FULL = 0x8007_0070, "DISK_FULL";
}

/// Bits of [`Header::flags`] (sheet 10.1).
pub mod flags {
    /// The sender wants an answer, or this is one.
    pub const TRANSACTION: u8 = 1;
    /// A request.
    pub const REQUEST: u8 = 2;
    /// An answer.
    pub const RESPONSE: u8 = 4;
}

/// The pipe header's first field in what the host sends: data.
const PIPE_DATA: u32 = 1;

/// Bytes of the ICMSG header, which the pipe header's size counts along with the body.
const IC_HEADER_LEN: usize = 20;

/// Bytes of the pipe header.
const PIPE_HEADER_LEN: usize = 8;

wire_struct! {
    /// Pipe header and ICMSG header.
    #[derive(Unaligned)]
    pub struct Header [28] {
        /// 1 for data; the guest echoes it.
        pipe_type @ 0: U32,
        /// Bytes after the pipe header.
        pipe_size @ 4: U32,
        /// Framework version.
        framework @ 8: WireVersion,
        /// [`MessageType`].
        message_type @ 12: U16,
        /// Version of the service's messages.
        message @ 14: WireVersion,
        /// Bytes of the body.
        body_size @ 18: U16,
        /// [`Status`], filled in by the guest.
        status @ 20: U32,
        /// Echoed by the guest.
        transaction @ 24: u8,
        /// [`flags`].
        flags @ 25: u8,
        /// Zero.
        reserved @ 26: [u8; 2],
    }
}

/// What is wrong with a packet's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than the headers.
    #[error("a packet of {0} bytes is shorter than its headers")]
    Truncated(usize),
    /// Longer than [`MAX_PAYLOAD`].
    #[error("a packet of {0} bytes is longer than any of this protocol")]
    TooLong(usize),
    /// The pipe header promises more bytes than there are.
    #[error("the pipe header speaks of {size} bytes, {present} follow it")]
    PipeSize {
        /// What the header says.
        size: u32,
        /// Bytes after the pipe header.
        present: usize,
    },
    /// The body is longer than what the pipe header leaves for it.
    #[error("a body of {size} bytes in a pipe message with room for {room}")]
    BodySize {
        /// What the header says.
        size: u16,
        /// What fits.
        room: usize,
    },
    /// The flags do not say that this is an answer.
    #[error("flags {0:#x} are not those of an answer")]
    NotAnAnswer(u8),
}

/// A decoded answer. It owns its header and borrows its body, whose length is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// What it is about.
    pub message_type: MessageType,
    /// How it went.
    pub status: Status,
    /// Transaction id of the frame: the low byte of the request's.
    pub transaction: u8,
    /// The body, exactly as long as its header says.
    pub body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Decodes an answer. `payload` must be private memory, copied out of the ring.
    ///
    /// Longer than the pipe header says is fine: the ring rounds up to 8 bytes, and Linux answers with what it
    /// received. The pipe size may exceed headers and body: Linux shortens the body of a negotiation's answer only in
    /// one of the two fields (sheet 10.2).
    ///
    /// # Errors
    ///
    /// The first inconsistency found.
    pub fn decode(payload: &'a [u8]) -> Result<Self, FrameError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(FrameError::TooLong(payload.len()));
        }
        let (header, rest) =
            Header::read_from_prefix(payload).map_err(|_| FrameError::Truncated(payload.len()))?;
        let present = payload.len().saturating_sub(PIPE_HEADER_LEN);
        let pipe_size = header.pipe_size.get();
        let sized = usize::try_from(pipe_size)
            .ok()
            .filter(|&size| size <= present);
        let sized = sized.ok_or(FrameError::PipeSize {
            size: pipe_size,
            present,
        })?;
        let size = header.body_size.get();
        let room = sized.saturating_sub(IC_HEADER_LEN);
        let body = rest
            .get(..usize::from(size))
            .filter(|body| body.len() <= room);
        let body = body.ok_or(FrameError::BodySize { size, room })?;
        if header.flags & flags::RESPONSE == 0 {
            return Err(FrameError::NotAnAnswer(header.flags));
        }
        Ok(Self {
            message_type: MessageType(header.message_type.get()),
            status: Status(header.status.get()),
            transaction: header.transaction,
            body,
        })
    }
}

/// Makes a request: headers and body.
///
/// Bodies are this crate's own and at most some thousand bytes; a longer one than a `u16` counts would be cut there.
pub(crate) fn request(
    message_type: MessageType,
    framework: Version,
    message: Version,
    transaction: u64,
    body: &[u8],
) -> Vec<u8> {
    let body_size = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let body = body.get(..usize::from(body_size)).unwrap_or(body);
    let header = Header {
        pipe_type: PIPE_DATA.into(),
        pipe_size: u32::from(body_size)
            .saturating_add(IC_HEADER_LEN as u32)
            .into(),
        framework: framework.into(),
        message_type: message_type.0.into(),
        message: message.into(),
        body_size: body_size.into(),
        status: Status::OK.0.into(),
        transaction: frame_transaction(transaction),
        flags: flags::TRANSACTION | flags::REQUEST,
        reserved: [0; 2],
    };
    let mut payload = Vec::with_capacity(HEADER_LEN.saturating_add(body.len()));
    payload.extend_from_slice(header.as_bytes());
    payload.extend_from_slice(body);
    payload
}

/// The frame's transaction id that belongs to the ring's.
pub(crate) const fn frame_transaction(transaction: u64) -> u8 {
    (transaction & 0xFF) as u8
}
