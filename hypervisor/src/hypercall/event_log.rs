//! The event log (event log sheet, "Calls"). The caller must be the root.

use tlfs::HvStatus;

use super::Call;
use crate::event_log::{self, Progress};
use crate::hv::Hypervisor;

fn root(call: &Call<'_>) -> Result<&'static Hypervisor, HvStatus> {
    if call.is_root() {
        Ok(call.hv())
    } else {
        Err(HvStatus::ACCESS_DENIED)
    }
}

fn proceed(call: &mut Call<'_>, progress: Progress) {
    call.again = progress == Progress::Again;
}

/// HvCallInitializeEventLogBufferGroup.
pub fn initialize_group(call: &mut Call<'_>) -> Result<(), HvStatus> {
    event_log::initialize_group(root(call)?, &call.input())
}

/// HvCallFinalizeEventLogBufferGroup.
pub fn finalize_group(call: &mut Call<'_>) -> Result<(), HvStatus> {
    event_log::finalize_group(root(call)?, &call.input())
}

/// HvCallCreateEventLogBuffer.
pub fn create_buffer(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let progress = event_log::create_buffer(root(call)?, &call.input())?;
    proceed(call, progress);
    Ok(())
}

/// HvCallDeleteEventLogBuffer.
pub fn delete_buffer(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let progress = event_log::delete_buffer(root(call)?, &call.input())?;
    proceed(call, progress);
    Ok(())
}

/// HvCallMapEventLogBuffer. Only as much of the output is written as the buffer has pages.
pub fn map_buffer(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let (hv, input) = (root(call)?, call.input());
    let progress = event_log::map_buffer(hv, &input, |number, page| {
        call.put_element(number, &page);
    })?;
    proceed(call, progress);
    Ok(())
}

/// HvCallUnmapEventLogBuffer.
pub fn unmap_buffer(call: &mut Call<'_>) -> Result<(), HvStatus> {
    let progress = event_log::unmap_buffer(root(call)?, &call.input())?;
    proceed(call, progress);
    Ok(())
}

/// HvCallSetEventLogGroupSources.
pub fn set_sources(call: &mut Call<'_>) -> Result<(), HvStatus> {
    event_log::set_sources(root(call)?, &call.input())
}

/// HvCallReleaseEventLogBuffer.
pub fn release_buffer(call: &mut Call<'_>) -> Result<(), HvStatus> {
    event_log::release_buffer(root(call)?, &call.input())
}

/// HvCallFlushEventLogBuffer.
pub fn flush_buffer(call: &mut Call<'_>) -> Result<(), HvStatus> {
    event_log::flush_buffer(root(call)?, &call.input())
}

#[cfg(test)]
mod tests {
    use tlfs::{HvCallCode as Code, HvHypercallInput};

    use crate::hypercall::decode::decode;
    use crate::hypercall::table::find;

    #[test]
    fn calls_that_callers_make_in_registers_are_accepted_so() {
        for code in [
            Code::FINALIZE_EVENT_LOG_BUFFER_GROUP,
            Code::CREATE_EVENT_LOG_BUFFER,
            Code::DELETE_EVENT_LOG_BUFFER,
            Code::UNMAP_EVENT_LOG_BUFFER,
            Code::SET_EVENT_LOG_GROUP_SOURCES,
            Code::RELEASE_EVENT_LOG_BUFFER,
            Code::FLUSH_EVENT_LOG_BUFFER,
        ] {
            let entry = find(code).unwrap();
            let fast = HvHypercallInput::simple(code).with_fast(true);
            assert!(decode(&entry.shape, fast, 1, 1).is_ok(), "{code:?}");
        }
    }

    #[test]
    fn a_block_of_an_older_caller_may_end_with_its_page() {
        for code in [Code::MAP_EVENT_LOG_BUFFER, Code::UNMAP_EVENT_LOG_BUFFER] {
            let entry = find(code).unwrap();
            let call = HvHypercallInput::simple(code);
            assert!(decode(&entry.shape, call, 0x1FF8, 0x3000).is_ok());
        }
    }
}
