//! What is known of the guest, for `vm list`.

use alloc::format;
use alloc::string::String;

use manager::{WorkerNews, ascii};
use root_abi::news::{self, GuestState, MAX_SYSTEM};
use tlfs::HvPartitionPropertyCode as Property;
use utilities::Event;
use utilities::heartbeat::HeartbeatState;
use utilities::kvp::{KvpEvent, Value, keys};
use vmbus::protocol::Version;

use crate::setup::get_property;
use crate::system::System;

/// What the guest says and shows of itself. The manager hears of it when it changes.
#[derive(Default)]
pub struct GuestView {
    vmbus: Option<Version>,
    /// By the guest's identity register: always there.
    kernel: String,
    /// By the guest's daemon, if it has one.
    name: String,
    version: String,
    told: Option<GuestState>,
}

impl GuestView {
    /// The guest has connected. Before that it has said who it is: hypercalls need it (guest sheet 4.1).
    pub fn connected<S: System>(&mut self, system: &mut S, version: Version) {
        let identity = get_property(system, Property::GUEST_OS_ID);
        *self = Self {
            vmbus: Some(version),
            kernel: identity.map(kernel).unwrap_or_default(),
            told: self.told,
            ..Self::default()
        };
    }

    /// The guest has disconnected.
    pub fn disconnected(&mut self) {
        self.vmbus = None;
    }

    /// Looks at what a service has to say.
    pub fn note(&mut self, event: &Event) {
        let Event::Kvp(KvpEvent::Pair {
            key,
            value: Value::Text(text),
        }) = event
        else {
            return;
        };
        let place = match key.as_str() {
            keys::OS_NAME => &mut self.name,
            keys::OS_VERSION => &mut self.version,
            _ => return,
        };
        // A name that is too long is cut later; until then it need not take more room than it can use.
        *place = text.chars().take(MAX_SYSTEM).collect();
    }

    /// Tells the manager, if there is something new.
    pub fn tell<S: System>(&mut self, system: &mut S, heartbeat: HeartbeatState, channels: usize) {
        let text = self.system();
        let mut state = GuestState {
            heartbeat: match heartbeat {
                HeartbeatState::NoContact => news::HEARTBEAT_NONE,
                HeartbeatState::Ok => news::HEARTBEAT_OK,
                HeartbeatState::Lost { .. } => news::HEARTBEAT_LOST,
            },
            vmbus: self.vmbus.map_or(0, |version| version.0),
            channels: channels as u32,
            ..GuestState::default()
        };
        for (place, byte) in state.system.iter_mut().zip(text.bytes()) {
            *place = byte;
            state.system_len += 1;
        }
        if self.told != Some(state) {
            self.told = Some(state);
            system.tell(&WorkerNews::Guest(state));
        }
    }

    /// Name and version, ASCII: the daemon's words go before the kernel's number.
    fn system(&self) -> String {
        let text = match (self.name.as_str(), self.version.as_str()) {
            ("", _) => &self.kernel,
            (name, "") => name,
            (name, version) => &format!("{name} {version}"),
        };
        // A character that is not ASCII is several bytes, but one `?`.
        let letter = |letter: char| if letter.is_ascii() { letter as u8 } else { 0 };
        ascii(&text.chars().map(letter).collect::<alloc::vec::Vec<_>>())
    }
}

/// What a guest's identity says (TLFS, HV_X64_MSR_GUEST_OS_ID; guest sheet 4.1). It is the guest's own choice: a number that fits no
/// known layout is shown as it is, and 0 as nothing.
fn kernel(identity: u64) -> String {
    const OPEN_SOURCE: u64 = 1;
    const LINUX: u64 = 1;
    const FREE_BSD: u64 = 2;
    const MICROSOFT: u64 = 1;
    const WINDOWS_NT: u64 = 4;
    let field = |first: u32, bits: u32| identity >> first & ((1 << bits) - 1);
    let (open_source, kind, version) = (field(63, 1), field(56, 7), field(16, 32));
    match (open_source, kind) {
        _ if identity == 0 => String::new(),
        (OPEN_SOURCE, LINUX) => {
            let (major, minor, patch) = (version >> 16, version >> 8 & 0xFF, version & 0xFF);
            format!("Linux {major}.{minor}.{patch}")
        }
        (OPEN_SOURCE, FREE_BSD) => format!("FreeBSD {version}"),
        (0, _) if field(48, 15) == MICROSOFT && field(40, 8) == WINDOWS_NT => {
            format!("Windows {}.{}.{}", field(32, 8), field(24, 8), field(0, 16))
        }
        _ => format!("{identity:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_told_by_their_layout() {
        for (identity, text) in [
            (0x8100 << 48 | 0x0006_01C0 << 16, "Linux 6.1.192"),
            (0x8200 << 48 | 1_400_097 << 16, "FreeBSD 1400097"),
            (1 << 48 | 4 << 40 | 10 << 32 | 20348, "Windows 10.0.20348"),
            (0x8F00 << 48 | 5, "0x8f00000000000005"),
            (u64::MAX, "0xffffffffffffffff"),
            (0, ""),
        ] {
            assert_eq!(kernel(identity), text);
        }
    }
}
