//! What workers tell: the way of a worker's news through the root kernel to the console.
//!
//! [`WorkerNews`] is what is told. The worker encodes it, the kernel carries the bytes (`root_abi::Call::Tell`), and it is
//! decoded here again. A worker may be in its guest's hands, so nothing in it is believed: lengths are limited, and texts
//! become printable ASCII.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use root_abi::news::{self, Crash, GuestState, MAX_CRASH_TEXT, MemoryState};
use tlfs::HvCrashCtl;
use zerocopy::{FromBytes, IntoBytes};

/// Most lines of a crash's text that are kept. A Linux log has about 60 in a page.
const MAX_CRASH_LINES: usize = 80;

/// News of a VM, from its worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerNews<'a> {
    /// A line for the event list.
    Line(Cow<'a, str>),
    /// What is known of the guest; replaces what was told before.
    Guest(GuestState),
    /// The guest says that it has crashed, in its own words.
    Crash(Crash, Cow<'a, [u8]>),
    /// How the guest's memory is; replaces what was told before.
    Memory(MemoryState),
}

impl<'a> WorkerNews<'a> {
    /// Most bytes of news of a kind, `None` for a kind that there is not.
    pub fn longest(kind: u64) -> Option<usize> {
        Some(match kind {
            news::LINE => news::MAX_LINE,
            news::GUEST => size_of::<GuestState>(),
            news::CRASH => size_of::<Crash>() + MAX_CRASH_TEXT,
            news::MEMORY => size_of::<MemoryState>(),
            _ => return None,
        })
    }

    /// News as they come from a worker. `None` for a kind that there is not, and a length that the kind does not have.
    pub fn decode(kind: u64, bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() > Self::longest(kind)? {
            return None;
        }
        Some(match kind {
            news::LINE => Self::Line(String::from_utf8_lossy(bytes)),
            news::GUEST => Self::Guest(GuestState::read_from_bytes(bytes).ok()?),
            news::CRASH => {
                let (crash, text) = Crash::read_from_prefix(bytes).ok()?;
                Self::Crash(crash, text.into())
            }
            news::MEMORY => Self::Memory(MemoryState::read_from_bytes(bytes).ok()?),
            _ => return None,
        })
    }

    /// Kind and bytes, for [`Self::decode`]. A text that is too long is cut.
    pub fn encode(&self) -> (u64, Cow<'_, [u8]>) {
        match self {
            Self::Line(text) => {
                let end = text.floor_char_boundary(news::MAX_LINE);
                let text = text.get(..end).unwrap_or_default();
                (news::LINE, text.as_bytes().into())
            }
            Self::Guest(state) => (news::GUEST, state.as_bytes().into()),
            Self::Crash(crash, text) => {
                let mut bytes = crash.as_bytes().to_vec();
                bytes.extend(text.iter().take(MAX_CRASH_TEXT));
                (news::CRASH, bytes.into())
            }
            Self::Memory(state) => (news::MEMORY, state.as_bytes().into()),
        }
    }
}

/// A guest's bytes as text: printable ASCII, with a `?` for each byte that is not.
pub fn ascii(bytes: &[u8]) -> String {
    let letter = |byte: &u8| match byte {
        b' '..=b'~' => char::from(*byte),
        b'\t' => ' ',
        _ => '?',
    };
    bytes.iter().map(letter).collect()
}

/// Cells of `vm list` for a guest: heartbeat, version of VMBus, open channels, system.
pub fn cells(state: &GuestState) -> [String; 4] {
    let heartbeat = match state.heartbeat {
        news::HEARTBEAT_NONE => "none",
        news::HEARTBEAT_OK => "ok",
        news::HEARTBEAT_LOST => "lost",
        _ => "?",
    };
    let version = match state.vmbus {
        0 => "-".into(),
        version => format!("{}.{}", version >> 16, version & 0xFFFF),
    };
    let system = state.system.get(..state.system_len as usize);
    let system = match system.unwrap_or(&state.system) {
        [] => "-".into(),
        text => ascii(text),
    };
    [
        heartbeat.into(),
        version,
        state.channels.to_string(),
        system,
    ]
}

/// A crash as lines for the event list: what the guest put into the registers, where it was, and its text.
pub fn crash(crash: &Crash, text: &[u8]) -> Vec<String> {
    let [p0, p1, p2, p3, p4] = crash.parameters;
    let control = HvCrashCtl::from_bits(crash.control);
    let mut lines = Vec::from([
        format!("its guest has crashed, says VP {}", crash.vp),
        format!("P0 {p0:#x}, P1 {p1:#x}, P2 {p2:#x}, P3 {p3:#x}, P4 {p4:#x}"),
        format!(
            "control {:#x}, RIP {:#x}, RSP {:#x}",
            crash.control, crash.rip, crash.rsp
        ),
    ]);
    if !control.crash_message() {
        return lines;
    }
    // What is behind a NUL is no text.
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let rows = text
        .split(|byte| *byte == b'\n')
        .map(|row| row.strip_suffix(b"\r").unwrap_or(row))
        .filter(|row| !row.is_empty());
    let before = lines.len();
    lines.extend(rows.take(MAX_CRASH_LINES).map(ascii));
    if lines.len() == before {
        lines.push("its text cannot be read".into());
    }
    lines
}
