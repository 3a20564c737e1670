//! A guest that answers as Linux' `hv_utils` does. It reads packets by offsets of its own, so that a wrong layout
//! shows.

use alloc::string::String;
use alloc::vec::Vec;

use crate::{Packet, Version};

pub const fn v(major: u16, minor: u16) -> Version {
    Version::new(major, minor)
}

pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn put(bytes: &mut [u8], at: usize, what: &[u8]) {
    bytes[at..at + what.len()].copy_from_slice(what);
}

/// What the guest did because of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// Set its clock; `reference` is `None` in the old layout.
    SetClock { wall: u64, reference: Option<u64> },
    /// Noted a sample.
    Sample { wall: u64, reference: Option<u64> },
    /// Began to power off, restart or hibernate.
    Shutdown(u32),
    /// Set a key of a pool.
    Set { pool: u8 },
    /// Deleted a key of a pool.
    Delete { pool: u8 },
}

/// Linux.
pub struct Linux {
    /// Framework versions, newest first.
    pub frameworks: Vec<Version>,
    /// Message versions, newest first.
    pub versions: Vec<Version>,
    pub agreed: Version,
    pub hibernation: bool,
    /// Pairs of the pool "auto"; `None`: no daemon.
    pub daemon: Option<Vec<(String, String)>>,
    /// Pairs of the pool "external".
    pub external: Vec<(String, String)>,
    pub did: Vec<Did>,
    /// Types of the packets that came.
    pub types: Vec<u16>,
}

impl Linux {
    pub fn new(versions: &[Version]) -> Self {
        Self {
            frameworks: [v(3, 0), v(1, 0)].to_vec(),
            versions: versions.to_vec(),
            agreed: v(0, 0),
            hibernation: false,
            daemon: None,
            external: Vec::new(),
            did: Vec::new(),
            types: Vec::new(),
        }
    }

    /// The payload of the answer, `None` if the packet is dropped without one.
    pub fn answer(&mut self, packet: &Packet) -> Option<Vec<u8>> {
        let mut bytes = packet.payload.clone();
        assert_eq!(u32_at(&bytes, 4) as usize, bytes.len() - 8, "pipe size");
        assert_eq!(
            usize::from(u16_at(&bytes, 18)),
            bytes.len() - 28,
            "body size"
        );
        assert_eq!(bytes[25], 3, "flags of a request");
        // The ring rounds up.
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let message_type = u16_at(&bytes, 12);
        self.types.push(message_type);
        match message_type {
            0 => self.negotiate(&mut bytes)?,
            1 => {
                let sequence = u64_at(&bytes, 28) + 1;
                put(&mut bytes, 28, &sequence.to_le_bytes());
            }
            2 => self.kvp(&mut bytes),
            3 => self.shutdown(&mut bytes)?,
            4 => self.time(&bytes)?,
            _ => panic!("type {message_type}"),
        }
        bytes[25] = 5;
        Some(bytes)
    }

    fn negotiate(&mut self, bytes: &mut [u8]) -> Option<()> {
        let (frameworks, messages) = (
            usize::from(u16_at(bytes, 28)),
            usize::from(u16_at(bytes, 30)),
        );
        if frameworks > 100 || messages > 100 || bytes.len() < 36 + 4 * (frameworks + messages) {
            return None;
        }
        let offered = |first: usize, count: usize| {
            let at = |n: usize| 36 + 4 * (first + n);
            let read = |n: usize| v(u16_at(bytes, at(n)), u16_at(bytes, at(n) + 2));
            (0..count).map(read).collect::<Vec<_>>()
        };
        let find =
            |own: &[Version], theirs: &[Version]| own.iter().find(|v| theirs.contains(v)).copied();
        let framework = find(&self.frameworks, &offered(0, frameworks));
        let message = find(&self.versions, &offered(frameworks, messages));
        // Only the frame's body size changes, not the pipe's.
        put(bytes, 18, &16u16.to_le_bytes());
        let both = framework.zip(message);
        put(bytes, 28, &u16::from(both.is_some()).to_le_bytes());
        put(bytes, 30, &u16::from(both.is_some()).to_le_bytes());
        let (framework, message) = both.unwrap_or_default();
        self.agreed = message;
        for (at, number) in [
            (36, framework.major),
            (38, framework.minor),
            (40, message.major),
            (42, message.minor),
        ] {
            put(bytes, at, &number.to_le_bytes());
        }
        Some(())
    }

    fn check_versions(&self, bytes: &[u8]) {
        assert_eq!(
            v(u16_at(bytes, 14), u16_at(bytes, 16)),
            self.agreed,
            "message version"
        );
    }

    fn shutdown(&mut self, bytes: &mut [u8]) -> Option<()> {
        if bytes.len() < 2088 {
            return None;
        }
        self.check_versions(bytes);
        let flags = u32_at(bytes, 36);
        let good = match flags {
            0..=3 => true,
            4 | 5 => self.hibernation,
            _ => false,
        };
        if good {
            self.did.push(Did::Shutdown(flags));
        } else {
            put(bytes, 20, &0x8000_4005u32.to_le_bytes());
        }
        Some(())
    }

    fn time(&mut self, bytes: &[u8]) -> Option<()> {
        self.check_versions(bytes);
        let new = self.agreed > v(3, 0);
        if bytes.len() < 28 + if new { 22 } else { 25 } {
            return None;
        }
        let (wall, reference) = (u64_at(bytes, 28), new.then(|| u64_at(bytes, 36)));
        let flags = bytes[if new { 44 } else { 52 }];
        self.did.push(match flags {
            1 => Did::SetClock { wall, reference },
            2 => Did::Sample { wall, reference },
            _ => panic!("flags {flags}"),
        });
        Some(())
    }

    fn kvp(&mut self, bytes: &mut [u8]) {
        self.check_versions(bytes);
        let Some(daemon) = &self.daemon else {
            put(bytes, 20, &0x8000_4005u32.to_le_bytes());
            return;
        };
        let (operation, pool) = (bytes[28], bytes[29]);
        let status = match operation {
            1 => {
                assert_eq!(u32_at(bytes, 32), 1, "REG_SZ");
                let pair = (
                    wide(bytes, 44, u32_at(bytes, 36)),
                    wide(bytes, 556, u32_at(bytes, 40)),
                );
                self.external.push(pair);
                self.did.push(Did::Set { pool });
                0
            }
            2 => {
                let key = wide(bytes, 36, u32_at(bytes, 32));
                let before = self.external.len();
                self.external.retain(|(name, _)| *name != key);
                self.did.push(Did::Delete { pool });
                if self.external.len() < before {
                    0
                } else {
                    0x8007_0103u32
                }
            }
            3 => {
                assert_eq!(pool, 2, "pool auto");
                match daemon.get(u32_at(bytes, 32) as usize) {
                    Some((key, value)) => {
                        let (key_size, value_size) =
                            (put_wide(bytes, 48, key), put_wide(bytes, 560, value));
                        put(bytes, 36, &1u32.to_le_bytes());
                        put(bytes, 40, &key_size.to_le_bytes());
                        put(bytes, 44, &value_size.to_le_bytes());
                        0
                    }
                    None => 0x8007_0103,
                }
            }
            _ => panic!("operation {operation}"),
        };
        put(bytes, 20, &status.to_le_bytes());
    }
}

/// The text of `size` bytes with its zero.
fn wide(bytes: &[u8], at: usize, size: u32) -> String {
    let size = size as usize;
    let units: Vec<u16> = (0..size / 2).map(|n| u16_at(bytes, at + 2 * n)).collect();
    assert_eq!(
        units.last(),
        Some(&0),
        "the text ends with a zero, which the size counts"
    );
    String::from_utf16(&units[..units.len() - 1]).unwrap()
}

fn put_wide(bytes: &mut [u8], at: usize, text: &str) -> u32 {
    let units: Vec<u16> = text.encode_utf16().chain([0]).collect();
    for (n, unit) in units.iter().enumerate() {
        put(bytes, at + 2 * n, &unit.to_le_bytes());
    }
    2 * units.len() as u32
}
