//! Putting messages into slots.

use tlfs::{HvMessage, HvMessageType};

use super::{Signal, Sint, Synic};

/// A message to be put into a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Type, not 0.
    pub message_type: HvMessageType,
    /// Id of the sending partition, or of the port.
    pub sender: u64,
    /// At most 240 bytes; what is longer is cut off.
    pub payload: &'a [u8],
}

impl<'a> From<&'a HvMessage> for Message<'a> {
    fn from(message: &'a HvMessage) -> Self {
        Self {
            message_type: message.header.message_type,
            sender: message.header.sender,
            payload: message.payload_bytes(),
        }
    }
}

/// The slots of a message page, which the guest reads and writes at the same time on another processor.
pub trait MessageSlots {
    /// The type of the message in the slot, 0 if it is empty. Ordered after what the guest did before it emptied the
    /// slot.
    fn message_type(&self, sint: Sint) -> HvMessageType;

    /// Sets MessagePending in the slot's flags, atomically, and before any later [`message_type`](Self::message_type)
    /// (the fence is the implementation's).
    fn set_message_pending(&self, sint: Sint);

    /// Writes the message with its MessagePending flag, its type last.
    fn write(&self, sint: Sint, message: &Message, message_pending: bool);
}

/// Why a message is not in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPosted {
    /// The SynIC or its message page is off, or the SINT is masked: HV_STATUS_INVALID_SYNIC_STATE.
    Inactive,
    /// The slot holds a message. MessagePending is set in it, so that the guest writes EOM when it has taken it.
    SlotBusy,
}

/// Puts a message into the slot of a SINT; `more` says that others are queued behind it.
///
/// A full slot is marked as having followers *before* it is looked at again: the guest clears the type before it reads
/// the mark. So either the second look finds the slot empty, or the guest finds the mark and writes EOM; no message can
/// be left behind (guest sheet 7.2, trap 14). A message is never written over another one.
pub fn post(
    synic: &Synic,
    slots: &impl MessageSlots,
    sint: Sint,
    message: &Message,
    more: bool,
) -> Result<Signal, NotPosted> {
    if !synic.takes_messages(sint) {
        return Err(NotPosted::Inactive);
    }
    if slots.message_type(sint) != HvMessageType::NONE {
        slots.set_message_pending(sint);
        if slots.message_type(sint) != HvMessageType::NONE {
            return Err(NotPosted::SlotBusy);
        }
    }
    slots.write(sint, message, more);
    Ok(synic.signal(sint))
}

/// Which of the SINTs in `mask` (bit n: SINTn) have an empty slot: what DeliverabilityNotifications waits for.
///
/// The others' slots are marked, so that their guest writes EOM when it empties them.
pub fn free_slots(slots: &impl MessageSlots, mask: u16) -> u16 {
    let is_free = |sint: &Sint| {
        if slots.message_type(*sint) == HvMessageType::NONE {
            return true;
        }
        slots.set_message_pending(*sint);
        slots.message_type(*sint) == HvMessageType::NONE
    };
    Sint::all()
        .filter(|sint| mask & sint.bit() != 0)
        .filter(is_free)
        .fold(0, |free, sint| free | sint.bit())
}
