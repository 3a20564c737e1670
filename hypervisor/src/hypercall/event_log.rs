//! The event log (event log sheet): its calls, whose caller must be the root, and what it says of other calls.

use tlfs::{
    HvCallCode, HvInputCreateVp, HvInputPartition, HvOutputPartitionId, HvPartitionId, HvStatus,
};
use zerocopy::FromBytes;

use super::Call;
use crate::event_log::{self, Event, Progress};
use crate::hv::Hypervisor;

/// Records the end of a call on a partition or a VP. How a VP ends is recorded where it does.
pub(super) fn trace(call: &Call<'_>, code: HvCallCode, result: Result<(), HvStatus>) {
    let status = result.err().unwrap_or(HvStatus::SUCCESS);
    let event = match code {
        HvCallCode::CREATE_PARTITION => {
            let (_, output) = call.output();
            let output = HvOutputPartitionId::read_from_bytes(output);
            let id = output.map_or(HvPartitionId::INVALID, |output| output.partition_id);
            Event::CreatePartition { id, status }
        }
        HvCallCode::DELETE_PARTITION => {
            let input: HvInputPartition = call.input();
            let id = input.partition_id;
            Event::DeletePartition { id, status }
        }
        // As long as memory is short the root pays and asks again: that is not the end.
        HvCallCode::CREATE_VP if status != HvStatus::INSUFFICIENT_MEMORY => {
            let input: HvInputCreateVp = call.input();
            let (id, index) = (input.partition_id, input.vp_index.0);
            Event::CreateVp { id, index, status }
        }
        _ => return,
    };
    call.cpu.trace(call.vp, event);
}

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
