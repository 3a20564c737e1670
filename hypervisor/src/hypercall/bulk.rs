//! Whole states of a VP at once: local APIC, floating point, SynIC pages, timers (root sheet A.3.5).

use tlfs::{HvInputVpState, HvStatus};

use super::Call;
use crate::mem::addr::{Gpa, Gpfn, PAGE_SIZE, Spa};
use crate::mem::format::Rights;
use crate::partition::table::PartitionGuard;
use crate::partition::{PartitionState, VpRef, register_page, vp_state};

/// The largest state is smaller: what is switched of the floating point state fits in a page.
const STATE_BYTES: usize = PAGE_SIZE as usize;

fn target(
    call: &mut Call<'_>,
    input: &HvInputVpState,
) -> Result<(PartitionGuard<'static>, VpRef), HvStatus> {
    let child = call.child(input.partition_id)?;
    if child.state != PartitionState::Active {
        return Err(HvStatus::INVALID_PARTITION_STATE);
    }
    if !input.input_vtl.is_vtl0() {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let who = call.vp_of(&child, input.vp_index)?;
    Ok((child, who))
}

/// The page of the caller's memory that the variable header names first; one is enough for any state.
fn first_page(call: &Call<'_>, rights: Rights) -> Result<Option<Spa>, HvStatus> {
    let Some(page) = call.variable().first_chunk() else {
        return Ok(None);
    };
    let page = Gpfn(u64::from_le_bytes(*page));
    let at = Gpa(page
        .0
        .checked_mul(PAGE_SIZE)
        .ok_or(HvStatus::INVALID_PARAMETER)?);
    let found = call
        .cpu
        .partition(call.vp, |_, caller| caller.resolve(at, rights));
    match found {
        Ok(spa) if call.hv().is_ram(spa.page()) => Ok(Some(spa)),
        _ => Err(HvStatus::INVALID_PARAMETER),
    }
}

/// HvCallGetVpState: into the pages that are named, or into the output.
pub fn get(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputVpState = call.input();
    let (child, who) = target(call, &input)?;
    let page = first_page(call, Rights::RW)?;
    let hv = call.hv();
    let mut bytes = [0; STATE_BYTES];
    let size = call.with_vp(who, |vp| {
        register_page::load(hv, vp)?;
        // What is in service is told, and no longer ended behind whoever asked.
        vp.require_eoi();
        vp_state::save(hv, &child, vp, &input.state_data, &mut bytes)
    })??;
    let state = bytes.get(..size).unwrap_or(&[]);
    match page {
        // `first_page` has checked that the direct map covers it.
        Some(page) => drop(hv.phys.copy_to(page, state)),
        None => call.put_bytes(state),
    }
    Ok(())
}

/// HvCallSetVpState: from the pages that are named, or from the header itself for a state that is not passed in pages.
pub fn set(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputVpState = call.input();
    let (child, who) = target(call, &input)?;
    let hv = call.hv();
    let mut bytes = [0; STATE_BYTES];
    if input.state_data.state_type.through_pages() {
        let page = first_page(call, Rights::READ)?.ok_or(HvStatus::INVALID_PARAMETER)?;
        // As in `get`.
        let _ = hv.phys.copy_from(page, &mut bytes);
    } else {
        let given = call.variable();
        if let Some(target) = bytes.get_mut(..given.len()) {
            target.copy_from_slice(given);
        }
    }
    // All effects but that on the timer are seen at the VP's next turn.
    let (turns, deadline) = call.with_vp(who, |vp| {
        register_page::load(hv, vp)?;
        let _ = vp_state::restore(hv, &child, vp, &input.state_data, &bytes)?;
        vp.sint_due |= !vp.is_root();
        register_page::publish_stored(hv, vp);
        Ok::<_, HvStatus>((vp.turns(), vp.next_deadline()))
    })??;
    call.cpu.set_timer_of(turns, deadline);
    Ok(())
}
