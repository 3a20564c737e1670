//! State pages of a VP (root sheet A.3.5).

use tlfs::{
    HvInputMapVpStatePage, HvInputUnmapVpStatePage, HvInputVtl, HvOutputMapVpStatePage,
    HvPartitionId, HvStatus, HvVpIndex, HvVpStatePageType,
};

use super::Call;
use super::stats::{share, unshare};
use crate::mem::addr::Spfn;
use crate::mem::frames::SharedAccess;
use crate::partition::table::PartitionGuard;

/// A state page, and its partition, in which nobody changes anything meanwhile.
struct Page {
    child: PartitionGuard<'static>,
    frame: Spfn,
}

/// Marks a state page as mapped or not, and says where it is.
fn change(
    call: &mut Call<'_>,
    partition: HvPartitionId,
    vp: HvVpIndex,
    kind: HvVpStatePageType,
    vtl: HvInputVtl,
    mapped: bool,
) -> Result<Page, HvStatus> {
    let child = call.child(partition)?;
    let who = call.vp_of(&child, vp)?;
    if !vtl.is_vtl0() {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let frame = call.with_vp(who, |vp| {
        let page = match kind {
            HvVpStatePageType::REGISTERS => &mut vp.register_page,
            HvVpStatePageType::INTERCEPT_MESSAGE => &mut vp.intercept_page,
            // No encrypted guests, so no GHCB.
            _ => return Err(HvStatus::INVALID_PARAMETER),
        };
        if page.mapped == mapped {
            return Err(HvStatus::OPERATION_DENIED);
        }
        page.mapped = mapped;
        Ok(page.frame.spfn())
    })??;
    Ok(Page { child, frame })
}

/// HvCallMapVpStatePage. The page is the hypervisor's choice: one of the VP's own, shown to the root.
pub fn map_page(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputMapVpStatePage = call.input();
    if input.flags.map_location_provided() {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let Page { child, frame } = change(
        call,
        input.partition_id,
        input.vp_index,
        input.page_type,
        input.input_vtl,
        true,
    )?;
    share(call.hv(), Some(child.slot), frame, SharedAccess::ReadWrite)?;
    call.put(&HvOutputMapVpStatePage {
        map_location: frame.0,
    });
    Ok(())
}

/// HvCallUnmapVpStatePage.
pub fn unmap_page(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputUnmapVpStatePage = call.input();
    let Page { child, frame } = change(
        call,
        input.partition_id,
        input.vp_index,
        input.page_type,
        input.input_vtl,
        false,
    )?;
    unshare(call.hv(), Some(child.slot), frame);
    Ok(())
}
