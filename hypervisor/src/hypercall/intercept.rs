//! Registering intercepts and their results (root sheet A.3.4, B.1).

use tlfs::{
    HvInputInstallIntercept, HvInputRegisterInterceptResult, HvInterceptType, HvStatus, HvVpIndex,
};

use super::Call;
use crate::partition::{Partition, PartitionState, VpRef};

/// HvCallInstallIntercept.
pub fn install(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputInstallIntercept = call.input();
    let mut child = call.child(input.partition_id)?;
    if child.state != PartitionState::Active {
        return Err(HvStatus::INVALID_PARTITION_STATE);
    }
    let phys = call.hv().phys;
    child.intercepts.install(
        phys,
        input.intercept_type,
        input.access_type,
        input.intercept_parameter,
    )?;
    let (slot, vectors) = (child.slot, child.intercepts.exceptions);
    drop(child);
    if input.intercept_type == HvInterceptType::EXCEPTION {
        for who in VpRef::all(slot) {
            // Places without a VP are passed over.
            let _ = call.with_vp(who, |vp| {
                vp.hw.set_exception_intercepts(vectors);
            });
        }
    }
    Ok(())
}

/// HvCallRegisterInterceptResult.
pub fn register_result(call: &mut Call<'_>) -> Result<(), HvStatus> {
    change(call, |partition, input| match input.intercept_type {
        HvInterceptType::X64_CPUID => partition.results.register_cpuid(&input.cpuid()),
        HvInterceptType::X64_MSR => partition.results.register_msr(&input.msr()),
        _ => Err(HvStatus::INVALID_PARAMETER),
    })
}

/// HvCallUnregisterInterceptResult.
pub fn unregister_result(call: &mut Call<'_>) -> Result<(), HvStatus> {
    change(call, |partition, input| match input.intercept_type {
        HvInterceptType::X64_CPUID => partition.results.unregister_cpuid(&input.cpuid()),
        HvInterceptType::X64_MSR => partition.results.unregister_msr(&input.msr()),
        _ => Err(HvStatus::INVALID_PARAMETER),
    })
}

fn change(
    call: &mut Call<'_>,
    f: impl FnOnce(&mut Partition, &HvInputRegisterInterceptResult) -> Result<(), HvStatus>,
) -> Result<(), HvStatus> {
    let input: HvInputRegisterInterceptResult = call.input();
    let mut child = call.child(input.partition_id())?;
    if child.state > PartitionState::Active {
        return Err(HvStatus::INVALID_PARTITION_STATE);
    }
    if input.vp_index != HvVpIndex::ANY {
        // One set of results serves all VPs; a VP that is named has to exist.
        call.vp_of(&child, input.vp_index)?;
    }
    f(&mut child, &input)
}
