//! System properties (root sheet A.3.8).

use tlfs::{
    HvInputGetSystemProperty, HvOutputGetSystemProperty, HvSchedulerType, HvStatus,
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
