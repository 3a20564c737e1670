//! Versions of the protocol (section 4).

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A version: major in the high half, minor in the low half. Any value is a version; few are supported.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(transparent)]
pub struct Version(pub u32);

impl Version {
    /// 3.0: UNLOAD.
    pub const V3_0: Self = Self::new(3, 0);
    /// 4.0: hv_sock.
    pub const V4_0: Self = Self::new(4, 0);
    /// 4.1: MODIFYCHANNEL.
    pub const V4_1: Self = Self::new(4, 1);
    /// 5.0: message connection id, SINT and trust level in INITIATE_CONTACT.
    pub const V5_0: Self = Self::new(5, 0);
    /// 5.1.
    pub const V5_1: Self = Self::new(5, 1);
    /// 5.2.
    pub const V5_2: Self = Self::new(5, 2);
    /// 5.3: MODIFYCHANNEL_RESPONSE.
    pub const V5_3: Self = Self::new(5, 3);

    /// What the server accepts. 2.4 has no UNLOAD; 6.0 has confidential channels and a longer response.
    pub const SUPPORTED: [Self; 7] = [
        Self::V3_0,
        Self::V4_0,
        Self::V4_1,
        Self::V5_0,
        Self::V5_1,
        Self::V5_2,
        Self::V5_3,
    ];

    /// A version of its two numbers.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self((major as u32) << 16 | minor as u32)
    }

    /// Whether the server accepts it.
    pub fn is_supported(self) -> bool {
        Self::SUPPORTED.contains(&self)
    }

    /// 5.0 and newer: the guest names SINT and trust level, and posts to connection 4.
    pub fn names_sint(self) -> bool {
        self >= Self::V5_0
    }

    /// 4.1 and newer have MODIFYCHANNEL.
    pub fn has_modify_channel(self) -> bool {
        self >= Self::V4_1
    }

    /// 5.3 and newer wait for the answer to MODIFYCHANNEL.
    pub fn has_modify_channel_response(self) -> bool {
        self >= Self::V5_3
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 16, self.0 & 0xFFFF)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
