//! What wakes processes: intercepts, input, wishes of the manager.

use root_abi::MemoryOrder;
use root_kernel::frames::Slot;
use root_kernel::hv::MAX_VPS;
use tlfs::{HvMessageType, HvPartitionId};

use super::{End, State, TABLE};
use crate::metal::{apic, block};

/// A VP of a partition waits for its process. On the path of every intercept. The VP runs on this processor.
pub fn intercept(partition: HvPartitionId, vp: u32) {
    let me = block::processor();
    TABLE.with(|table| {
        let slot = table
            .partitions
            .iter()
            .position(|id| *id == partition.0)
            .and_then(Slot::new);
        match slot.filter(|_| partition.0 != 0 && vp < MAX_VPS as u32) {
            Some(slot) => table.signal(slot, |process| {
                process.inbox.intercept(vp);
                process.home = me;
            }),
            // The last messages of a partition that is gone.
            None => table.unknown_messages = table.unknown_messages.saturating_add(1),
        }
    });
}

/// A message that nobody expects.
pub fn note_unknown_message(kind: HvMessageType) {
    TABLE.with(|table| {
        table.unknown_messages = table.unknown_messages.saturating_add(1);
        table.last_unknown = kind;
        table.want_root_task();
    });
}

/// A kind of message that nobody expected since the last question.
pub fn take_unknown_message() -> Option<HvMessageType> {
    let kind = TABLE.with(|table| core::mem::take(&mut table.last_unknown));
    (kind != HvMessageType::NONE).then_some(kind)
}

/// Asks the process of a VM to stop.
pub fn ask_to_stop(vm: u16) {
    TABLE.with(|table| {
        if let Some(slot) = table.of_vm(vm) {
            table.signal(slot, |process| process.inbox.stop());
        }
    });
}

/// Asks the process of a VM to have its guest end.
pub fn ask_to_shut_down(vm: u16, how: u32) {
    TABLE.with(|table| {
        if let Some(slot) = table.of_vm(vm) {
            table.signal(slot, |process| process.inbox.shut_down(how));
        }
    });
}

/// Gives the process of a VM an order about its guest's memory, in the place of one that it has not taken yet.
pub fn order_memory(vm: u16, order: MemoryOrder) {
    TABLE.with(|table| {
        if let Some(slot) = table.of_vm(vm) {
            table.signal(slot, |process| {
                process.memory_order = Some(order);
                process.inbox.memory();
            });
        }
    });
}

/// Makes the process of a VM misbehave.
pub fn ask_to_misbehave(vm: u16, what: u32) {
    TABLE.with(|table| {
        if let Some(slot) = table.of_vm(vm) {
            table.signal(slot, |process| process.inbox.misbehave(what));
        }
    });
}

/// Gives typed bytes to the process of a VM; what does not fit is lost.
pub fn type_in(vm: u16, bytes: &[u8]) {
    TABLE.with(|table| {
        if let Some(slot) = table.of_vm(vm) {
            table.signal(slot, |process| {
                let taken = bytes
                    .iter()
                    .take_while(|byte| process.input.push(**byte))
                    .count();
                if taken > 0 {
                    process.inbox.input();
                }
            });
        }
    });
}

/// Ends the process of a VM. Only the root task calls this, so the process is not in this processor's hands; if it is in
/// another one's, that ends it.
pub fn kill(vm: u16) {
    TABLE.with(|table| {
        let Some(slot) = table.of_vm(vm) else {
            return;
        };
        table.queue.remove(slot);
        let Some(process) = table
            .get(slot)
            .filter(|process| process.state != State::Ended)
        else {
            return;
        };
        if let Some(on) = process.on {
            let hands = table.hands(on);
            (hands.asked, hands.end) = (true, true);
            table.idle.wake(on);
            apic::wake(on);
        } else {
            process.state = State::Ended;
            process.end = Some(End::Killed);
            table.want_root_task();
        }
    });
}
