mod notices;
mod registers;
mod slots;
mod timers;

use super::*;
use core::cell::{Cell, RefCell};
use tlfs::*;

const VMBUS: Sint = Sint(HV_SYNIC_VMBUS_SINT_INDEX);

/// A SynIC that is on, with vector 0xF3 at SINT0 and SINT2.
fn enabled() -> Synic {
    let mut synic = Synic::new();
    for msr in [HV_X64_MSR_SCONTROL, HV_X64_MSR_SIMP, HV_X64_MSR_SIEFP] {
        set(&mut synic, msr, 1);
    }
    for sint in [0, 2] {
        set(&mut synic, HV_X64_MSR_SINT0 + sint, 0xF3);
    }
    synic
}

fn set(synic: &mut Synic, msr: u32, value: u64) {
    let _ = synic.write(msr, value).unwrap();
}

/// What a guest finds in a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    message_type: u32,
    pending: bool,
    sender: u64,
    payload: Vec<u8>,
}

/// What the guest does before the access with this number.
type Guest = Box<dyn Fn(&RefCell<[Held; 16]>, u32)>;

/// A message page whose guest can act between any two accesses of the hypervisor.
#[derive(Default)]
struct FakePage {
    slots: RefCell<[Held; 16]>,
    /// Called before each access, with the number of accesses so far.
    guest: Option<Guest>,
    accesses: Cell<u32>,
}

impl FakePage {
    fn with_guest(guest: impl Fn(&RefCell<[Held; 16]>, u32) + 'static) -> Self {
        Self {
            guest: Some(Box::new(guest)),
            ..Self::default()
        }
    }

    fn access(&self) {
        if let Some(guest) = &self.guest {
            guest(&self.slots, self.accesses.get());
        }
        self.accesses.set(self.accesses.get() + 1);
    }

    fn held(&self, sint: Sint) -> Held {
        self.slots.borrow()[sint.index()].clone()
    }

    /// The guest's protocol: take, clear the type, then look at the mark. Returns what it took and whether it writes
    /// EOM.
    fn take(&self, sint: Sint) -> Option<(Held, bool)> {
        let held = self.held(sint);
        if held.message_type == 0 {
            return None;
        }
        self.slots.borrow_mut()[sint.index()].message_type = 0;
        let eom = self.held(sint).pending;
        Some((held, eom))
    }
}

impl MessageSlots for FakePage {
    fn message_type(&self, sint: Sint) -> HvMessageType {
        self.access();
        HvMessageType(self.held(sint).message_type)
    }

    fn set_message_pending(&self, sint: Sint) {
        self.access();
        self.slots.borrow_mut()[sint.index()].pending = true;
    }

    fn write(&self, sint: Sint, message: &Message, pending: bool) {
        self.access();
        let slot = &mut self.slots.borrow_mut()[sint.index()];
        assert_eq!(slot.message_type, 0, "a message was written over another");
        *slot = Held {
            message_type: message.message_type.0,
            pending,
            sender: message.sender,
            payload: message.payload.to_vec(),
        };
    }
}

fn message(payload: &[u8]) -> Message<'_> {
    Message {
        message_type: HvMessageType::VMBUS_CHANNEL,
        sender: 7,
        payload,
    }
}
