//! The message page as memory that is shared with the guest.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use tlfs::{HV_MESSAGE_PAYLOAD_BYTE_COUNT, HV_MESSAGE_SIZE, HV_SYNIC_SINT_COUNT, HvMessageType};

use super::{Message, MessageSlots, Sint};

/// A slot: type; payload size, flags and zero; sender; payload.
#[derive(Debug)]
#[repr(C)]
struct Slot {
    message_type: AtomicU32,
    size_and_flags: AtomicU32,
    sender: AtomicU64,
    payload: [AtomicU64; HV_MESSAGE_PAYLOAD_BYTE_COUNT / 8],
}

/// MessagePending, in the byte after the payload size.
const MESSAGE_PENDING: u32 = 1 << 8;

/// The SIM page of a VP. All fields are atomics, since the guest uses it at the same time.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct MessagePage {
    slots: [Slot; HV_SYNIC_SINT_COUNT],
}

const _: () = assert!(size_of::<Slot>() == HV_MESSAGE_SIZE);
const _: () = assert!(core::mem::offset_of!(Slot, payload) == 16);
const _: () = assert!(size_of::<MessagePage>() == 4096);

impl MessagePage {
    /// All slots empty, as a page is when it is created.
    pub const fn new() -> Self {
        Self {
            slots: [const {
                Slot {
                    message_type: AtomicU32::new(0),
                    size_and_flags: AtomicU32::new(0),
                    sender: AtomicU64::new(0),
                    payload: [const { AtomicU64::new(0) }; HV_MESSAGE_PAYLOAD_BYTE_COUNT / 8],
                }
            }; HV_SYNIC_SINT_COUNT],
        }
    }

    /// Empties all slots.
    pub fn clear(&self) {
        for slot in &self.slots {
            slot.message_type.store(0, Ordering::Relaxed);
            slot.size_and_flags.store(0, Ordering::Relaxed);
            slot.sender.store(0, Ordering::Relaxed);
            let words = slot.payload.iter();
            words.for_each(|word| word.store(0, Ordering::Relaxed));
        }
    }

    const fn slot(&self, sint: Sint) -> &Slot {
        &self.slots[sint.index()]
    }

    /// What a guest reads in a slot: sender and payload of the message, if there is one.
    #[cfg(test)]
    pub fn look(&self, sint: Sint) -> Option<(u64, Vec<u8>)> {
        let slot = self.slot(sint);
        let size = slot.size_and_flags.load(Ordering::Relaxed) & 0xFF;
        let words = slot.payload.iter();
        let mut bytes: Vec<u8> = words
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
            .collect();
        bytes.truncate(size as usize);
        let full = slot.message_type.load(Ordering::Acquire) != 0;
        full.then(|| (slot.sender.load(Ordering::Relaxed), bytes))
    }

    /// The guest empties a slot; whether it has to write EOM.
    #[cfg(test)]
    pub fn empty(&self, sint: Sint) -> bool {
        let slot = self.slot(sint);
        slot.message_type.store(0, Ordering::SeqCst);
        slot.size_and_flags.load(Ordering::SeqCst) & MESSAGE_PENDING != 0
    }
}

impl Default for MessagePage {
    fn default() -> Self {
        Self::new()
    }
}

impl MessageSlots for MessagePage {
    fn message_type(&self, sint: Sint) -> HvMessageType {
        HvMessageType(self.slot(sint).message_type.load(Ordering::Acquire))
    }

    fn set_message_pending(&self, sint: Sint) {
        self.slot(sint)
            .size_and_flags
            .fetch_or(MESSAGE_PENDING, Ordering::SeqCst);
        // The guest's side is a store of the type and a load of the mark; ours the reverse. Both need a full barrier.
        fence(Ordering::SeqCst);
    }

    fn write(&self, sint: Sint, message: &Message, message_pending: bool) {
        let slot = self.slot(sint);
        let mut size = 0;
        // Only the bytes that count: what lies behind them was in a message to this VP before.
        for (word, bytes) in slot.payload.iter().zip(message.payload.chunks(8)) {
            let mut value = [0; 8];
            for (to, from) in value.iter_mut().zip(bytes) {
                *to = *from;
            }
            word.store(u64::from_le_bytes(value), Ordering::Relaxed);
            size += bytes.len() as u32;
        }
        let flags = if message_pending { MESSAGE_PENDING } else { 0 };
        slot.size_and_flags.store(size | flags, Ordering::Relaxed);
        slot.sender.store(message.sender, Ordering::Relaxed);
        slot.message_type
            .store(message.message_type.0, Ordering::Release);
    }
}
