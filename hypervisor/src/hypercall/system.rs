//! System properties, and what processors did (root sheet A.3.8).

use tlfs::stats::logical_processor as lp;
use tlfs::{
    HvInputGetLogicalProcessorRunTime, HvInputGetSystemProperty,
    HvOutputGetLogicalProcessorRunTime, HvOutputGetSystemProperty, HvSchedulerType, HvStatus,
    HvSystemPropertyCode,
};

use super::Call;

/// HvCallGetSystemProperty.
pub fn get_property(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputGetSystemProperty = call.input();
    if !call.is_root() {
        return Err(HvStatus::ACCESS_DENIED);
    }
    let value = match input.property_id {
        // Logical processors are scheduled one by one, by the hypervisor.
        HvSystemPropertyCode::SCHEDULER_TYPE => HvSchedulerType::LP.0,
        // No feature can be hidden one by one; there is no crash dump area.
        HvSystemPropertyCode::PROCESSOR_FEATURES | HvSystemPropertyCode::CRASHDUMPAREA => 0,
        _ => return Err(HvStatus::UNKNOWN_PROPERTY),
    };
    call.put(&HvOutputGetSystemProperty { value });
    Ok(())
}

/// HvCallGetLogicalProcessorRunTime (ff538973). The processor's run time is of this moment; what the hypervisor did of it for
/// no VP, if it is another processor than the caller's, of the last time that it brought its counters up to date.
///
/// # Errors
/// INVALID_LP_INDEX for a processor that is not there, or does not run.
pub fn run_time(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let input: HvInputGetLogicalProcessorRunTime = call.input();
    let hv = call.hv();
    let found = hv.lps.get(input.lp_index as usize);
    let processor = found.filter(|lp| lp.mailbox.apic_id().is_some());
    let processor = processor.ok_or(HvStatus::INVALID_LP_INDEX)?;
    let now = hv.now();
    call.cpu.show_processor(now);
    call.put(&HvOutputGetLogicalProcessorRunTime {
        global_time: now.units(),
        local_run_time: processor.run_clock.run_time(now).units(),
        reserved: 0,
        hypervisor_time: processor.stats.get(lp::HYPERVISOR_RUN_TIME),
    });
    Ok(())
}
