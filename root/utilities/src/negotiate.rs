//! Versions: the first packet of each channel, which the host sends (sheet 10.2, trap 36).

use alloc::vec::Vec;

use tlfs::wire_struct;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes, Unaligned};

use crate::frame::{Answer, Status, Version, WireVersion};
use crate::service::DeadReason;

/// The framework versions that are offered. The layouts of both are the same here.
pub const FRAMEWORKS: &[Version] = &[Version::new(1, 0), Version::new(3, 0)];

wire_struct! {
    /// Counts in front of the versions.
    #[derive(Unaligned)]
    pub struct Negotiate [8] {
        /// How many framework versions follow.
        frameworks @ 0: U16,
        /// How many message versions follow those.
        messages @ 2: U16,
        /// Zero.
        reserved @ 4: U32,
    }
}

wire_struct! {
    /// An answer that chose.
    #[derive(Unaligned)]
    pub struct Choice [16] {
        /// Both counts are 1.
        counts @ 0: Negotiate,
        /// The framework version.
        framework @ 8: WireVersion,
        /// The message version.
        message @ 12: WireVersion,
    }
}

/// What host and guest agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Version of the frame.
    pub framework: Version,
    /// Version of the service's messages.
    pub message: Version,
}

impl core::fmt::Display for Versions {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} (framework {})", self.message, self.framework)
    }
}

/// Length of the body that offers `messages`.
pub(crate) fn offer_len(messages: &[Version]) -> usize {
    let versions = FRAMEWORKS.len().saturating_add(messages.len());
    size_of::<Negotiate>().saturating_add(versions.saturating_mul(size_of::<WireVersion>()))
}

/// The body that offers [`FRAMEWORKS`] and `messages`.
pub(crate) fn offer(messages: &[Version]) -> Vec<u8> {
    let count = |versions: &[Version]| u16::try_from(versions.len()).unwrap_or(u16::MAX).into();
    let counts = Negotiate {
        frameworks: count(FRAMEWORKS),
        messages: count(messages),
        reserved: 0.into(),
    };
    let mut body = Vec::with_capacity(offer_len(messages));
    body.extend_from_slice(counts.as_bytes());
    for &version in FRAMEWORKS.iter().chain(messages) {
        body.extend_from_slice(WireVersion::from(version).as_bytes());
    }
    body
}

/// What the guest chose.
///
/// # Errors
///
/// It found nothing it knows (counts of 0), or its answer is not one to this offer.
pub(crate) fn choice(answer: &Answer<'_>, messages: &[Version]) -> Result<Versions, DeadReason> {
    if answer.status != Status::OK {
        return Err(DeadReason::NegotiationFailed(answer.status));
    }
    let short = DeadReason::ShortBody {
        expected: size_of::<Choice>(),
        got: answer.body.len(),
    };
    let (counts, _) = Negotiate::read_from_prefix(answer.body).map_err(|_| short)?;
    match (counts.frameworks.get(), counts.messages.get()) {
        (1, 1) => {}
        (0, 0) => return Err(DeadReason::NoCommonVersion),
        (frameworks, messages) => {
            return Err(DeadReason::VersionCounts {
                frameworks,
                messages,
            });
        }
    }
    let (choice, _) = Choice::read_from_prefix(answer.body).map_err(|_| short)?;
    let versions = Versions {
        framework: choice.framework.into(),
        message: choice.message.into(),
    };
    if FRAMEWORKS.contains(&versions.framework) && messages.contains(&versions.message) {
        Ok(versions)
    } else {
        Err(DeadReason::VersionNotOffered(versions))
    }
}
