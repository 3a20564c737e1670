//! The messages: layouts, and their decoding (sheet 1.2 to 1.7).
//!
//! All fields are little-endian. A page is always 4 KiB. What the guest sends is decoded from a copy, once, by
//! [`decode`]; what the host sends is made by the functions of `outgoing`.

mod outgoing;

use tlfs::{wire_enum, wire_struct};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::run::PageRun;

pub use outgoing::{accept, balloon, hot_add, info, unballoon};

/// Most bytes of a message to the guest. Linux never consumes a longer one, and the channel is dead (trap 5).
pub const MAX_MESSAGE: usize = 4096;
/// Most ranges of a message to the guest: what fits. Linux does not check the count (trap 6).
pub const MAX_RANGES: usize =
    (MAX_MESSAGE - size_of::<UnballoonRequest>()) / size_of::<WireRange>();
/// Most bytes of a message from the guest: the data of one of Linux' rings (sheet 1.1). No message needs more.
pub const MAX_INCOMING: usize = 16 << 10;
/// Most pages in one [`WireRange`].
pub const MAX_RANGE_PAGES: u64 = (1 << 24) - 1;
/// Page numbers have 40 bits.
pub const MAX_PAGE: u64 = 1 << 40;
/// Pages of a megabyte.
pub const PAGES_PER_MB: u64 = 256;

const _: () = assert!(MAX_RANGES == 510);

wire_enum! {
    /// What a message is (sheet 1.4).
    pub struct MessageType(u16);
    /// No layout is known; never sent.
    ERROR = 0, "ERROR";
    VERSION_REQUEST = 1, "VERSION_REQUEST";
    VERSION_RESPONSE = 2, "VERSION_RESPONSE";
    CAPABILITIES_REPORT = 3, "CAPABILITIES_REPORT";
    CAPABILITIES_RESPONSE = 4, "CAPABILITIES_RESPONSE";
    STATUS_REPORT = 5, "STATUS_REPORT";
    BALLOON_REQUEST = 6, "BALLOON_REQUEST";
    BALLOON_RESPONSE = 7, "BALLOON_RESPONSE";
    UNBALLOON_REQUEST = 8, "UNBALLOON_REQUEST";
    UNBALLOON_RESPONSE = 9, "UNBALLOON_RESPONSE";
    MEM_HOT_ADD_REQUEST = 10, "MEM_HOT_ADD_REQUEST";
    MEM_HOT_ADD_RESPONSE = 11, "MEM_HOT_ADD_RESPONSE";
    INFO_MESSAGE = 12, "INFO_MESSAGE";
    /// Known from QEMU only; never sent.
    HOT_REMOVE_REQUEST = 13, "HOT_REMOVE_REQUEST";
    /// Known from QEMU only.
    HOT_REMOVE_RESPONSE = 14, "HOT_REMOVE_RESPONSE";
}

wire_enum! {
    /// Version of the protocol: minor in the low, major in the high half (sheet 1.3).
    pub struct Version(u32);
    /// Without info message and without alignment of hot-added memory.
    WIN7 = 0x0000_0003, "0.3";
    WIN8 = 0x0001_0000, "1.0";
    WIN10 = 0x0002_0000, "2.0";
}

impl Version {
    /// Whether it is one of the three that are spoken.
    pub fn is_known(self) -> bool {
        Self::NAMED.contains(&self)
    }
}

/// What the guest can do: bits of CAPABILITIES_REPORT (sheet 1.6). Bits without a meaning are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// It can give pages back.
    pub const fn balloon(self) -> bool {
        self.0 & 1 != 0
    }

    /// It says that it can take new memory. Linux says so whether it can or not (trap 10).
    pub const fn hot_add(self) -> bool {
        self.0 & 2 != 0
    }

    /// Alignment of address and size of new memory, in pages: a power of two from 1 MB to 32 GB.
    pub const fn alignment(self) -> u64 {
        PAGES_PER_MB << (self.0 >> 2 & 0xf)
    }
}

/// Pages in a message: first page in bits 39-0, their number in bits 63-40 (sheet 1.6).
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(transparent)]
pub struct WireRange(pub U64);

impl WireRange {
    /// A range, `None` if the numbers do not fit.
    pub const fn new(run: PageRun) -> Option<Self> {
        if run.start >= MAX_PAGE || run.count > MAX_RANGE_PAGES {
            return None;
        }
        Some(Self(U64::new(run.count << 40 | run.start)))
    }

    /// The pages; whether they exist is another question. The sum of start and count does not overflow.
    pub const fn run(self) -> PageRun {
        let bits = self.0.get();
        PageRun::new(bits & (MAX_PAGE - 1), bits >> 40)
    }
}

wire_struct! {
    /// In front of every message.
    #[derive(Unaligned)]
    pub struct Header [8] {
        /// [`MessageType`].
        message_type @ 0: U16,
        /// Bytes of the message with this header.
        size @ 2: U16,
        /// Of the sender's own counter; Linux' answers do not repeat the question's (trap 2).
        trans_id @ 4: U32,
    }
}

wire_struct! {
    /// The guest's first message.
    #[derive(Unaligned)]
    pub struct VersionRequest [16] {
        /// The header.
        header @ 0: Header,
        /// [`Version`].
        version @ 8: U32,
        /// Bit 0: the last attempt.
        flags @ 12: U32,
    }
}

wire_struct! {
    /// Answer to [`VersionRequest`] or [`CapabilitiesReport`].
    #[derive(Unaligned)]
    pub struct AcceptResponse [16] {
        /// The header, with the id of what is answered.
        header @ 0: Header,
        /// Bit 0: accepted.
        flags @ 8: U64,
    }
}

wire_struct! {
    /// What the guest can do.
    #[derive(Unaligned)]
    pub struct CapabilitiesReport [32] {
        /// The header.
        header @ 0: Header,
        /// [`Capabilities`].
        capabilities @ 8: U64,
        /// No use is known.
        min_page_cnt @ 16: U64,
        /// No use is known.
        max_page_number @ 24: U64,
    }
}

wire_struct! {
    /// How the guest's memory is used, in pages, once a second.
    #[derive(Unaligned)]
    pub struct StatusReport [48] {
        /// The header.
        header @ 0: Header,
        /// The kernel's estimate of what it could give out.
        num_avail @ 8: U64,
        /// Committed pages, those in the balloon included.
        num_committed @ 16: U64,
        /// Size of the page file.
        page_file_size @ 24: U64,
        /// Free pages that are zero.
        zero_free @ 32: U64,
        /// Writes to the page file.
        page_file_writes @ 40: U32,
        /// File cache faults less page reads.
        io_diff @ 44: U32,
    }
}

wire_struct! {
    /// The guest is asked for pages.
    #[derive(Unaligned)]
    pub struct BalloonRequest [16] {
        /// The header.
        header @ 0: Header,
        /// How many.
        num_pages @ 8: U32,
        /// Zero.
        reserved @ 12: U32,
    }
}

wire_struct! {
    /// Pages that the guest gives back; ranges follow.
    #[derive(Unaligned)]
    pub struct BalloonResponse [16] {
        /// The header.
        header @ 0: Header,
        /// Zero.
        reserved @ 8: U32,
        /// Bit 0: more parts follow; bits 31-1: how many ranges follow here.
        more_and_count @ 12: U32,
    }
}

wire_struct! {
    /// Pages that the guest gets back; ranges follow.
    #[derive(Unaligned)]
    pub struct UnballoonRequest [16] {
        /// The header.
        header @ 0: Header,
        /// Bit 0: more parts follow.
        more @ 8: U32,
        /// How many ranges follow here: all 32 bits, unlike in [`BalloonResponse`].
        range_count @ 12: U32,
    }
}

wire_struct! {
    /// New memory for a guest of version 0.3, which derives the region.
    #[derive(Unaligned)]
    pub struct HotAddRequest [16] {
        /// The header.
        header @ 0: Header,
        /// The memory.
        range @ 8: WireRange,
    }
}

wire_struct! {
    /// New memory, and the region it lies in.
    #[derive(Unaligned)]
    pub struct HotAddRegionRequest [24] {
        /// The header.
        header @ 0: Header,
        /// The memory.
        range @ 8: WireRange,
        /// The region.
        region @ 16: WireRange,
    }
}

wire_struct! {
    /// What the guest took of new memory.
    #[derive(Unaligned)]
    pub struct HotAddResponse [16] {
        /// The header.
        header @ 0: Header,
        /// Pages taken, from the start of the range.
        page_count @ 8: U32,
        /// 1, or 0 for a failure that may pass (sheet 1.7).
        result @ 12: U32,
    }
}

wire_struct! {
    /// Information of type 0: how many pages the VM may have one day.
    #[derive(Unaligned)]
    pub struct InfoMessage [32] {
        /// The header.
        header @ 0: Header,
        /// Zero.
        reserved @ 8: U32,
        /// Bytes from the next field on: 16.
        info_size @ 12: U32,
        /// 0.
        info_type @ 16: U32,
        /// Bytes of the next field: 8. Linux ignores anything else.
        data_size @ 20: U32,
        /// Pages.
        max_page_count @ 24: U64,
    }
}

/// Why a message is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than a header, or longer than [`MAX_INCOMING`].
    #[error("a message of {0} bytes")]
    Length(usize),
    /// The size in the header is more than there is, or less than a message of that type has.
    #[error("{message_type:?} of size {size} in {len} bytes")]
    Size {
        /// Its type.
        message_type: MessageType,
        /// What the header says.
        size: u16,
        /// Bytes that are there.
        len: usize,
    },
    /// More ranges than there is room for.
    #[error("{0} ranges, which are not all there")]
    Ranges(u32),
    /// Not a message that guests send.
    #[error("a message of type {0:?}")]
    Type(MessageType),
}

/// A message from the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// It wants this version.
    Version {
        /// To be repeated in the answer. 1 is a fresh driver's (sheet 1.2).
        trans_id: u32,
        /// The version.
        version: Version,
    },
    /// It can do this.
    Capabilities {
        /// To be repeated in the answer.
        trans_id: u32,
        /// What it can do.
        capabilities: Capabilities,
    },
    /// It uses this.
    Status {
        /// Committed pages.
        committed: u64,
        /// Available pages.
        available: u64,
    },
    /// It gives pages back.
    Balloon {
        /// Another part follows.
        more: bool,
        /// The pages.
        ranges: &'a [WireRange],
    },
    /// It has taken back what it was given back.
    Unballoon,
    /// It has taken new memory.
    HotAdd {
        /// How many pages.
        page_count: u32,
        /// Not a failure that may pass.
        result: bool,
    },
}

impl Incoming<'_> {
    /// Its type.
    pub const fn message_type(&self) -> MessageType {
        match self {
            Self::Version { .. } => MessageType::VERSION_REQUEST,
            Self::Capabilities { .. } => MessageType::CAPABILITIES_REPORT,
            Self::Status { .. } => MessageType::STATUS_REPORT,
            Self::Balloon { .. } => MessageType::BALLOON_RESPONSE,
            Self::Unballoon => MessageType::UNBALLOON_RESPONSE,
            Self::HotAdd { .. } => MessageType::MEM_HOT_ADD_RESPONSE,
        }
    }
}

/// The fixed part of a message of that type and size.
fn fixed<T: FromBytes + KnownLayout + Immutable + Unaligned>(
    message: &[u8],
    header: Header,
) -> Result<(&T, &[u8]), Malformed> {
    let wrong = Malformed::Size {
        message_type: MessageType::from_bits(header.message_type.get()),
        size: header.size.get(),
        len: message.len(),
    };
    let size = usize::from(header.size.get());
    if size > message.len() || size < size_of::<T>() {
        return Err(wrong);
    }
    T::ref_from_prefix(message).map_err(|_| wrong)
}

/// Decodes a message, which has been copied out of the ring, with its padding or without (sheet 2.6).
///
/// # Errors
///
/// It is to be dropped.
pub fn decode(message: &[u8]) -> Result<Incoming<'_>, Malformed> {
    let wrong = Malformed::Length(message.len());
    if message.len() > MAX_INCOMING {
        return Err(wrong);
    }
    let (&header, _) = Header::ref_from_prefix(message).map_err(|_| wrong)?;
    let trans_id = header.trans_id.get();
    Ok(match MessageType::from_bits(header.message_type.get()) {
        MessageType::VERSION_REQUEST => {
            let (request, _) = fixed::<VersionRequest>(message, header)?;
            let version = Version::from_bits(request.version.get());
            Incoming::Version { trans_id, version }
        }
        MessageType::CAPABILITIES_REPORT => {
            let (report, _) = fixed::<CapabilitiesReport>(message, header)?;
            let capabilities = Capabilities(report.capabilities.get());
            Incoming::Capabilities {
                trans_id,
                capabilities,
            }
        }
        MessageType::STATUS_REPORT => {
            let (report, _) = fixed::<StatusReport>(message, header)?;
            Incoming::Status {
                committed: report.num_committed.get(),
                available: report.num_avail.get(),
            }
        }
        MessageType::BALLOON_RESPONSE => balloon_response(message, header)?,
        MessageType::UNBALLOON_RESPONSE => {
            fixed::<Header>(message, header)?;
            Incoming::Unballoon
        }
        MessageType::MEM_HOT_ADD_RESPONSE => {
            let (response, _) = fixed::<HotAddResponse>(message, header)?;
            Incoming::HotAdd {
                page_count: response.page_count.get(),
                result: response.result.get() != 0,
            }
        }
        other => return Err(Malformed::Type(other)),
    })
}

fn balloon_response(message: &[u8], header: Header) -> Result<Incoming<'_>, Malformed> {
    let (response, rest) = fixed::<BalloonResponse>(message, header)?;
    let bits = response.more_and_count.get();
    let wrong = Malformed::Ranges(bits >> 1);
    let count = usize::try_from(bits >> 1).map_err(|_| wrong)?;
    let (ranges, _) = <[WireRange]>::ref_from_prefix_with_elems(rest, count).map_err(|_| wrong)?;
    Ok(Incoming::Balloon {
        more: bits & 1 != 0,
        ranges,
    })
}
