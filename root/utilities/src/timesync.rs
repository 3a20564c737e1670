//! Time synchronisation: the guest is told the wall clock (sheet 10.5).
//!
//! # What corrects a clock that was set wrongly inside the VM
//!
//! The host cannot see the guest's clock: an answer is the request's bytes again. So it can only say the time
//! often enough, and what a message does is up to the guest (Linux, `drivers/hv/hv_util.c`):
//!
//! * SYNC sets the clock at once, forward or back, whatever it shows.
//! * SAMPLE is noted for `/dev/ptp_hyperv`, from which chrony, if it runs and is told to, disciplines the clock.
//!   Without chrony it does nothing, unless the module's parameter `timesync_implicit` is set, and then only if the
//!   guest is 5 s or more behind.
//!
//! Hyper-V itself sends SYNC once when the channel opens or the VM resumes, and SAMPLE every 5 s; OpenVMM does the
//! same. A plain Linux guest there keeps whatever somebody sets (MicrosoftDocs/azure-docs issue 60391: since Linux
//! 4.11 the host's time is applied after an interruption only). We want a wrong clock corrected, so a SYNC replaces a
//! SAMPLE once in [`Settings::sync_period`], by default 60 s. A SYNC feeds `/dev/ptp_hyperv` as a SAMPLE does.
//!
//! The price: in a guest with a time source of its own that disagrees with the host's clock, both pull. Such a
//! guest's definition sets the period to `None`, which is Hyper-V's behaviour. To a guest that is right a SYNC does
//! little: since version 4.0 a message says at which reference time it was true, and Linux adds what has passed
//! since.
//!
//! A SYNC is also sent after negotiation, when the caller says so ([`TimeSync::sync_now`]), and when the host's own
//! wall clock has jumped by more than [`JUMP`] against the VM's reference time since the last message.

use alloc::vec::Vec;

use tlfs::{wire_enum, wire_struct};
use zerocopy::little_endian::U64;
use zerocopy::{IntoBytes, Unaligned};

use crate::frame::{MAX_PAYLOAD_DEFAULT, MessageType, Status, Version};
use crate::integration::{Integration, Protocol, Sink, Spec};
use crate::service::{Clocks, DeadReason, ServiceId, guid};
use crate::{SECOND, Time};

/// From message to message (sheet 10.5). Linux takes a sample for stale after 600 s.
pub const SAMPLE_PERIOD: Time = 5 * SECOND;

/// [`Settings::sync_period`], unless said otherwise: a wrong clock is right again within about a minute.
pub const DEFAULT_SYNC_PERIOD: Time = 60 * SECOND;

/// The host's wall clock has been set if it jumps by more than this.
pub const JUMP: Time = SECOND;

/// After this long an unanswered message is given up and another one sent. Nobody needs the answers; waiting for them
/// keeps a guest that does not read from finding its ring full of old times.
pub const PATIENCE: Time = 30 * SECOND;

static SPEC: Spec = Spec {
    id: ServiceId {
        name: "timesync",
        interface: guid(
            0x9527_e630,
            0xd0ae,
            0x497b,
            [0xad, 0xce, 0xe8, 0x0a, 0xb0, 0x17, 0x5c, 0xaf],
        ),
        instance: Some(guid(
            0x2dd1_ce17,
            0x079e,
            0x403c,
            [0xb3, 0x52, 0xa1, 0x92, 0x1e, 0xe2, 0x07, 0xee],
        )),
    },
    message_type: MessageType::TIMESYNC,
    versions: &[Version::new(1, 0), Version::new(3, 0), Version::new(4, 0)],
    patience: Some(PATIENCE),
};

wire_enum! {
    /// What a time message is for (sheet 10.5).
    pub struct TimeFlags(u8);
    /// Set the clock.
    SYNC = 1, "SYNC";
    /// A hint.
    SAMPLE = 2, "SAMPLE";
}

wire_struct! {
    /// A message of version 4.0 and later.
    #[derive(Unaligned)]
    pub struct TimeMessage [24] {
        /// 100 ns since 1601.
        parent @ 0: U64,
        /// The VM's reference counter at that moment.
        reference @ 8: U64,
        /// [`TimeFlags`].
        flags @ 16: u8,
        /// Leap second indicator; 0: none.
        leap @ 17: u8,
        /// Stratum of the host's clock; 0: not said.
        stratum @ 18: u8,
        /// Zero.
        reserved @ 19: [u8; 5],
    }
}

wire_struct! {
    /// A message before version 4.0. Linux looks at the first and the last field.
    #[derive(Unaligned)]
    pub struct OldTimeMessage [25] {
        /// 100 ns since 1601.
        parent @ 0: U64,
        /// The guest's time; not known.
        child @ 8: U64,
        /// How long a packet takes both ways; not known.
        round_trip @ 16: U64,
        /// [`TimeFlags`].
        flags @ 24: u8,
    }
}

const _: () =
    assert!(crate::frame::HEADER_LEN + size_of::<OldTimeMessage>() <= MAX_PAYLOAD_DEFAULT);

/// What can be chosen for a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often the guest is made to set its clock. It happens with the first message that is due after this time,
    /// so never more often than every [`SAMPLE_PERIOD`]. `None`: only after negotiation and when asked for.
    pub sync_period: Option<Time>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sync_period: Some(DEFAULT_SYNC_PERIOD),
        }
    }
}

/// The time synchronisation service.
pub type TimeSync = Integration<Samples>;

impl TimeSync {
    /// A service with these settings.
    pub fn new(settings: Settings) -> Self {
        Self::with(Samples {
            settings,
            ..Samples::default()
        })
    }

    /// Makes the guest set its clock with the next message, which is due at once: the VM was paused or restored, or
    /// the host's clock was set. Before negotiation nothing is to be done, because a SYNC comes after it anyway.
    pub fn sync_now(&mut self) {
        self.protocol.sync = true;
        self.protocol.next = None;
    }
}

/// Time synchronisation's side of [`Integration`].
#[derive(Debug, Default)]
pub struct Samples {
    settings: Settings,
    version: Version,
    /// The next message is a SYNC.
    sync: bool,
    /// When the next message is due; `None` if it is.
    next: Option<Time>,
    /// When the next message is to be a SYNC.
    next_sync: Option<Time>,
    /// Wall clock less reference time in the last message.
    offset: Option<u64>,
}

impl Samples {
    /// Chooses between SYNC and SAMPLE, and remembers what that needs.
    fn choose(&mut self, now: Time, clocks: Clocks) -> TimeFlags {
        let offset = clocks.wall.wrapping_sub(clocks.reference);
        let last = self.offset.replace(offset).unwrap_or(offset);
        let jumped = offset.wrapping_sub(last).cast_signed().unsigned_abs() > JUMP;
        let periodic = self.next_sync.is_some_and(|next| next <= now);
        if core::mem::take(&mut self.sync) || jumped || periodic {
            self.next_sync = self
                .settings
                .sync_period
                .and_then(|period| now.checked_add(period));
            TimeFlags::SYNC
        } else {
            TimeFlags::SAMPLE
        }
    }

    /// Is the layout the one of version 4.0?
    fn has_reference(&self) -> bool {
        self.version >= Version::new(4, 0)
    }
}

impl Protocol for Samples {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn negotiated(&mut self, message: Version, _now: Time) {
        let settings = self.settings;
        *self = Self {
            settings,
            version: message,
            sync: true,
            ..Self::default()
        };
    }

    fn ended(&mut self, _events: &mut Sink<'_>) {}

    fn tick(&mut self, now: Time, _events: &mut Sink<'_>) {
        if self.next.is_some_and(|next| next <= now) {
            self.next = None;
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.next
    }

    fn request_len(&self) -> Option<usize> {
        let len = if self.has_reference() {
            size_of::<TimeMessage>()
        } else {
            size_of::<OldTimeMessage>()
        };
        self.next.is_none().then_some(len)
    }

    fn request(&mut self, now: Time, clocks: &mut dyn FnMut() -> Clocks) -> Vec<u8> {
        let clocks = clocks();
        let flags = self.choose(now, clocks).0;
        self.next = now.checked_add(SAMPLE_PERIOD);
        let parent = clocks.wall.into();
        if self.has_reference() {
            let reference = clocks.reference.into();
            TimeMessage {
                parent,
                reference,
                flags,
                ..TimeMessage::default()
            }
            .as_bytes()
            .to_vec()
        } else {
            OldTimeMessage {
                parent,
                flags,
                ..OldTimeMessage::default()
            }
            .as_bytes()
            .to_vec()
        }
    }

    /// Whatever the guest says, it has the time now.
    fn answered(
        &mut self,
        _status: Status,
        _body: &[u8],
        _now: Time,
        _events: &mut Sink<'_>,
    ) -> Result<(), DeadReason> {
        Ok(())
    }

    /// The guest may not have read it: what it hears next has to be a SYNC.
    fn unanswered(&mut self, _now: Time, _events: &mut Sink<'_>) {
        self.sync = true;
        self.next = None;
    }
}
