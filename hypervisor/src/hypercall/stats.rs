//! Counters pages (root sheet A.3.8, E.1).

use core::sync::atomic::{AtomicBool, Ordering};

use tlfs::{
    HvInputStatsPage, HvOutputMapStatsPage, HvPartitionId, HvStatsAreaType, HvStatsObjectType,
    HvStatus, HvVpIndex,
};

use super::Call;
use crate::hv::Hypervisor;
use crate::mem::addr::Spfn;
use crate::mem::format::Rights;
use crate::mem::frames::{PartitionSlot, SharedAccess};
use crate::partition::table::PartitionGuard;

/// The page of an object: its frame, and from whose pool it is. `None` for a page of the hypervisor's own.
struct Page {
    frame: Spfn,
    pool: Option<PartitionSlot>,
    /// Whose object it is, if that can end.
    _owner: Option<PartitionGuard<'static>>,
}

/// Changes whether an object's page counts as mapped.
///
/// # Errors
/// INVALID_PARAMETER for an object or an area that is none; INVALID_PARTITION_ID and INVALID_VP_INDEX for one that is not
/// there; OPERATION_DENIED if it is so already.
fn change(call: &mut Call<'_>, mapped: bool) -> Result<Page, HvStatus> {
    let input: HvInputStatsPage = call.input();
    let identity = input.identity;
    // All counters are in one area; the parent's being refused so makes Linux use that (root sheet E.1).
    if identity.area != HvStatsAreaType::SELF {
        return Err(HvStatus::INVALID_PARAMETER);
    }
    let hv = call.hv();
    match input.stats_type {
        HvStatsObjectType::HYPERVISOR => {
            own(&hv.stats_mapped, mapped)?;
            Ok(Page {
                frame: hv.stats.spfn(),
                pool: None,
                _owner: None,
            })
        }
        HvStatsObjectType::LOGICAL_PROCESSOR => {
            let lp = hv.lps.get(identity.lp_index() as usize);
            let lp = lp.ok_or(HvStatus::INVALID_PARAMETER)?;
            own(&lp.stats_mapped, mapped)?;
            Ok(Page {
                frame: lp.stats.spfn(),
                pool: None,
                _owner: None,
            })
        }
        HvStatsObjectType::PARTITION => {
            let mut target = call.target(HvPartitionId(identity.id))?;
            let (root, frame) = (target.is_root(), target.stats.spfn());
            set(&mut target.stats_mapped, mapped)?;
            Ok(Page {
                frame,
                pool: (!root).then_some(PartitionSlot::ROOT),
                _owner: Call::hold(target),
            })
        }
        HvStatsObjectType::VP => {
            let target = call.target(HvPartitionId(identity.id))?;
            let who = call.vp_of(&target, HvVpIndex(identity.vp_index))?;
            let pool = (!target.is_root()).then_some(target.slot);
            let owner = Call::hold(target);
            let frame = call.with_vp(who, |vp| {
                set(&mut vp.stats_mapped, mapped).map(|()| vp.stats.spfn())
            })??;
            Ok(Page {
                frame,
                pool,
                _owner: owner,
            })
        }
        _ => Err(HvStatus::INVALID_PARAMETER),
    }
}

fn set(flag: &mut bool, value: bool) -> Result<(), HvStatus> {
    if *flag == value {
        return Err(HvStatus::OPERATION_DENIED);
    }
    *flag = value;
    Ok(())
}

/// The same for an object that is nobody's.
fn own(flag: &AtomicBool, value: bool) -> Result<(), HvStatus> {
    if flag.swap(value, Ordering::Relaxed) == value {
        return Err(HvStatus::OPERATION_DENIED);
    }
    Ok(())
}

/// HvCallMapStatsPage.
pub fn map(call: &mut Call<'_>) -> Result<(), HvStatus> {
    if !call.is_root() {
        return Err(HvStatus::ACCESS_DENIED);
    }
    let page = change(call, true)?;
    let now = call.hv().now();
    call.cpu.show_processor(now);
    call.cpu.show_run_time(call.vp, now);
    share(call.hv(), page.pool, page.frame, SharedAccess::ReadOnly)?;
    call.put(&HvOutputMapStatsPage {
        map_location: page.frame.0,
    });
    Ok(())
}

/// HvCallUnmapStatsPage.
pub fn unmap(call: &mut Call<'_>) -> Result<(), HvStatus> {
    if !call.is_root() {
        return Err(HvStatus::ACCESS_DENIED);
    }
    let page = change(call, false)?;
    unshare(call.hv(), page.pool, page.frame);
    Ok(())
}

/// Shows a page of a pool, or of the hypervisor's own, to the root at its own address.
///
/// # Errors
/// INSUFFICIENT_MEMORY when the reserve for the root's tables is used up, which its size excludes.
pub fn share(
    hv: &Hypervisor,
    pool: Option<PartitionSlot>,
    frame: Spfn,
    access: SharedAccess,
) -> Result<(), HvStatus> {
    let rights = match access {
        SharedAccess::ReadOnly => Rights::READ,
        SharedAccess::ReadWrite => Rights::RW,
    };
    if let Some(slot) = pool {
        let done = hv.frames.lock().share(slot, frame, access);
        assert_eq!(done, Ok(()), "a page in use, not shared yet");
    }
    hv.set_root_rights(frame, 1, Some(rights))
}

/// Takes a page of a pool, or of the hypervisor's own, back from the root.
pub fn unshare(hv: &Hypervisor, pool: Option<PartitionSlot>, frame: Spfn) {
    let done = hv.set_root_rights(frame, 1, None);
    assert_eq!(done, Ok(()), "a page that is mapped alone needs no table");
    hv.shoot_down(PartitionSlot::ROOT);
    if let Some(slot) = pool {
        let done = hv.frames.lock().unshare(slot, frame);
        assert_eq!(done, Ok(()), "shared before");
    }
}
