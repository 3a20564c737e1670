//! Interrupts from the parent (root sheet A.3.6).

use tlfs::{HvInputAssertVirtualInterrupt, HvInputPartition, HvStatus};

use super::Call;
use crate::apic::{Cleared, InterruptMessage};
use crate::partition::{PartitionState, VpRef};

/// HvCallAssertVirtualInterrupt. Interrupts are taken whether the VP runs or not.
pub fn assert(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputAssertVirtualInterrupt = call.input();
    let child = call.child(input.partition_id)?;
    if child.state != PartitionState::Active {
        return Err(HvStatus::INVALID_PARTITION_STATE);
    }
    if !input.target_vtl.is_vtl0() || !child.has_lapic() {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let to = VpRef {
        slot: child.slot,
        index: 0,
    };
    drop(child);
    let control = input.control;
    let message = InterruptMessage::from_request(
        control.interrupt_type().0,
        control.level_triggered(),
        control.logical_dest_mode(),
        input.dest_addr,
        input.vector,
    )
    .map_err(|_| HvStatus::INVALID_PARAMETER)?;
    call.cpu.route(call.vp, None, to, message);
    Ok(())
}

/// HvCallClearVirtualInterrupt: drops the line of the PIC, which leads to the first VP.
pub fn clear(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputPartition = call.input();
    let child = call.child(input.partition_id)?;
    if child.state != PartitionState::Active {
        return Err(HvStatus::INVALID_PARTITION_STATE);
    }
    let who = VpRef {
        slot: child.slot,
        index: 0,
    };
    drop(child);
    let cleared = call
        .with_vp(who, |vp| vp.apic.clear_ext_int())
        .map_err(|_| HvStatus::INVALID_VP_STATE)?;
    match cleared {
        Cleared::Idle => Ok(()),
        Cleared::Acknowledged => Err(HvStatus::ACKNOWLEDGED),
        Cleared::NotAcknowledged => Err(HvStatus::NOT_ACKNOWLEDGED),
    }
}
