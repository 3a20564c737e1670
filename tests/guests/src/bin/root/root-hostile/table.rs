//! Which call has ended with which status how often, and which pairs the root sheet promises.

use core::sync::atomic::{AtomicU32, Ordering};

use guests::{check, say};
use tlfs::HvCallCode as Code;
use tlfs::HvStatus as Status;

const CALLS: usize = 64;
const STATUSES: usize = 0x90;

static COUNTS: [[AtomicU32; STATUSES]; CALLS] =
    [const { [const { AtomicU32::new(0) }; STATUSES] }; CALLS];

type Row = (Code, &'static [Status]);

/// The calls with the statuses that their rows of the root sheet (A.3, and the event log's table) name, with SUCCESS, and with what
/// is common to all: INVALID_PARTITION_ID for a partition that is not there, INVALID_VP_INDEX for a VP that is not.
/// [`UNREACHABLE`] is what is not here.
pub const ROWS: &[Row] = &[
    (
        Code::CREATE_PARTITION,
        &[
            Status::SUCCESS,
            Status::INSUFFICIENT_MEMORY,
            Status::INVALID_PARAMETER,
            Status::INVALID_HYPERCALL_INPUT,
            Status::INVALID_ALIGNMENT,
        ],
    ),
    (
        Code::INITIALIZE_PARTITION,
        &[
            Status::SUCCESS,
            Status::INSUFFICIENT_MEMORY,
            Status::INVALID_PARTITION_STATE,
            Status::INVALID_PARTITION_ID,
            Status::ACCESS_DENIED,
        ],
    ),
    (
        Code::FINALIZE_PARTITION,
        &[
            Status::SUCCESS,
            Status::INVALID_PARTITION_STATE,
            Status::INVALID_PARTITION_ID,
            Status::ACCESS_DENIED,
        ],
    ),
    (
        Code::DELETE_PARTITION,
        &[
            Status::SUCCESS,
            Status::OPERATION_DENIED,
            Status::INVALID_PARTITION_STATE,
            Status::INVALID_PARTITION_ID,
            Status::ACCESS_DENIED,
        ],
    ),
    (
        Code::GET_PARTITION_PROPERTY,
        &[
            Status::SUCCESS,
            Status::UNKNOWN_PROPERTY,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::SET_PARTITION_PROPERTY,
        &[
            Status::SUCCESS,
            Status::UNKNOWN_PROPERTY,
            Status::PROPERTY_VALUE_OUT_OF_RANGE,
            Status::INVALID_PARTITION_STATE,
            Status::INVALID_PARTITION_ID,
            Status::ACCESS_DENIED,
        ],
    ),
    (Code::GET_PARTITION_ID, &[Status::SUCCESS]),
    (
        Code::GET_NEXT_CHILD_PARTITION,
        &[Status::SUCCESS, Status::INVALID_PARTITION_ID],
    ),
    (
        Code::DEPOSIT_MEMORY,
        &[
            Status::SUCCESS,
            Status::OPERATION_DENIED,
            Status::OBJECT_IN_USE,
            Status::INVALID_PARTITION_STATE,
            Status::INVALID_PARTITION_ID,
            Status::INVALID_HYPERCALL_INPUT,
            Status::INVALID_ALIGNMENT,
        ],
    ),
    (
        Code::WITHDRAW_MEMORY,
        &[
            Status::SUCCESS,
            Status::NO_RESOURCES,
            Status::INVALID_PARTITION_ID,
            Status::INVALID_HYPERCALL_INPUT,
            Status::INVALID_ALIGNMENT,
        ],
    ),
    (
        Code::GET_MEMORY_BALANCE,
        &[Status::SUCCESS, Status::INVALID_PARTITION_ID],
    ),
    (
        Code::MAP_GPA_PAGES,
        &[
            Status::SUCCESS,
            Status::INSUFFICIENT_MEMORY,
            Status::OPERATION_DENIED,
            Status::OBJECT_IN_USE,
            Status::INVALID_PARAMETER,
            Status::INVALID_PARTITION_STATE,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::UNMAP_GPA_PAGES,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::INSTALL_INTERCEPT,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::INVALID_PARTITION_STATE,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::CREATE_VP,
        &[
            Status::SUCCESS,
            Status::INVALID_VP_INDEX,
            Status::INSUFFICIENT_MEMORY,
            Status::OPERATION_DENIED,
            Status::INVALID_PARTITION_STATE,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::DELETE_VP,
        &[
            Status::SUCCESS,
            Status::INVALID_VP_STATE,
            Status::INVALID_VP_INDEX,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::GET_VP_REGISTERS,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::UNKNOWN_REGISTER_NAME,
            Status::INVALID_VP_INDEX,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::SET_VP_REGISTERS,
        &[
            Status::SUCCESS,
            Status::INVALID_REGISTER_VALUE,
            Status::INVALID_PARAMETER,
            Status::INVALID_VP_STATE,
            Status::INVALID_VP_INDEX,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::TRANSLATE_VIRTUAL_ADDRESS,
        &[
            Status::SUCCESS,
            Status::INVALID_VP_INDEX,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::CLEAR_VIRTUAL_INTERRUPT,
        &[
            Status::SUCCESS,
            Status::ACKNOWLEDGED,
            Status::NOT_ACKNOWLEDGED,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::MAP_STATS_PAGE,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::OPERATION_DENIED,
            Status::INVALID_VP_INDEX,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::UNMAP_STATS_PAGE,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::OPERATION_DENIED,
            Status::INVALID_VP_INDEX,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (Code::GET_SYSTEM_PROPERTY, &[Status::SUCCESS]),
    (
        Code::REGISTER_INTERCEPT_RESULT,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::INVALID_VP_INDEX,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::UNREGISTER_INTERCEPT_RESULT,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::ASSERT_VIRTUAL_INTERRUPT,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::MAP_VP_STATE_PAGE,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::INVALID_VP_INDEX,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::UNMAP_VP_STATE_PAGE,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::INVALID_VP_INDEX,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::GET_VP_STATE,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::INVALID_VP_STATE,
            Status::INVALID_VP_INDEX,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::SET_VP_STATE,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::INVALID_VP_STATE,
            Status::INVALID_VP_INDEX,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::GET_VP_CPUID_VALUES,
        &[
            Status::SUCCESS,
            Status::INVALID_VP_INDEX,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::GET_PARTITION_PROPERTY_EX,
        &[
            Status::SUCCESS,
            Status::UNKNOWN_PROPERTY,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::INITIALIZE_EVENT_LOG_BUFFER_GROUP,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::OBJECT_IN_USE,
            Status::INSUFFICIENT_MEMORY,
        ],
    ),
    (
        Code::FINALIZE_EVENT_LOG_BUFFER_GROUP,
        &[Status::SUCCESS, Status::OPERATION_DENIED],
    ),
    (
        Code::CREATE_EVENT_LOG_BUFFER,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::OPERATION_DENIED,
            Status::INSUFFICIENT_MEMORY,
        ],
    ),
    (
        Code::DELETE_EVENT_LOG_BUFFER,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::OPERATION_DENIED,
        ],
    ),
    (
        Code::MAP_EVENT_LOG_BUFFER,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::OPERATION_DENIED,
        ],
    ),
    (
        Code::UNMAP_EVENT_LOG_BUFFER,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::ACCESS_DENIED,
        ],
    ),
    (
        Code::SET_EVENT_LOG_GROUP_SOURCES,
        &[Status::SUCCESS, Status::OPERATION_DENIED],
    ),
    (
        Code::RELEASE_EVENT_LOG_BUFFER,
        &[Status::SUCCESS, Status::OPERATION_DENIED],
    ),
    (
        Code::FLUSH_EVENT_LOG_BUFFER,
        &[
            Status::SUCCESS,
            Status::INVALID_PARAMETER,
            Status::OPERATION_DENIED,
        ],
    ),
    (
        Code::CREATE_PORT,
        &[
            Status::SUCCESS,
            Status::INVALID_PORT_ID,
            Status::INVALID_PARAMETER,
            Status::INSUFFICIENT_MEMORY,
            Status::INVALID_VP_INDEX,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::CONNECT_PORT,
        &[
            Status::SUCCESS,
            Status::INVALID_CONNECTION_ID,
            Status::INVALID_PORT_ID,
            Status::INVALID_PARAMETER,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::DELETE_PORT,
        &[
            Status::SUCCESS,
            Status::INVALID_PORT_ID,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::DISCONNECT_PORT,
        &[
            Status::SUCCESS,
            Status::INVALID_CONNECTION_ID,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::POST_MESSAGE,
        &[
            Status::SUCCESS,
            Status::INSUFFICIENT_BUFFERS,
            Status::INVALID_PARAMETER,
            Status::INVALID_CONNECTION_ID,
        ],
    ),
    (
        Code::SIGNAL_EVENT,
        &[Status::SUCCESS, Status::INVALID_CONNECTION_ID],
    ),
    (
        Code::SIGNAL_EVENT_DIRECT,
        &[
            Status::SUCCESS,
            Status::INVALID_SYNIC_STATE,
            Status::INVALID_PARAMETER,
            Status::INVALID_VP_INDEX,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (
        Code::POST_MESSAGE_DIRECT,
        &[
            Status::SUCCESS,
            Status::OBJECT_IN_USE,
            Status::INVALID_SYNIC_STATE,
            Status::INVALID_PARAMETER,
            Status::INVALID_VP_INDEX,
            Status::INVALID_PARTITION_ID,
        ],
    ),
    (Code(0x01FF), &[Status::INVALID_HYPERCALL_CODE]),
];

/// Statuses of the sheet's rows that a root cannot bring about here, and why.
pub const UNREACHABLE: &[(Code, Status, &str)] = &[
    (
        Code::CREATE_PARTITION,
        Status::PARTITION_TOO_DEEP,
        "only the root may create partitions",
    ),
    (
        Code::FINALIZE_PARTITION,
        Status::OPERATION_DENIED,
        "a child has no children",
    ),
    (
        Code::SET_PARTITION_PROPERTY,
        Status::CALL_PENDING,
        "no property takes that long",
    ),
    (
        Code::GET_PARTITION_ID,
        Status::ACCESS_DENIED,
        "the root has the privilege",
    ),
    (
        Code::GET_PARTITION_PROPERTY_EX,
        Status::ACCESS_DENIED,
        "the root is everybody's parent",
    ),
    (
        Code::UNMAP_GPA_PAGES,
        Status::OBJECT_IN_USE,
        "no use of a child's page prevents its end",
    ),
    (
        Code::INSTALL_INTERCEPT,
        Status::INSUFFICIENT_MEMORY,
        "intercepts need no memory",
    ),
    (
        Code::MAP_STATS_PAGE,
        Status::INSUFFICIENT_MEMORY,
        "every object has its page from the start",
    ),
    (
        Code::MAP_VP_STATE_PAGE,
        Status::INSUFFICIENT_MEMORY,
        "a VP has its pages from the start",
    ),
    (
        Code::MAP_VP_STATE_PAGE,
        Status::INVALID_VP_STATE,
        "pages are mapped and unmapped while the VP runs",
    ),
    (
        Code::GET_VP_STATE,
        Status::INSUFFICIENT_MEMORY,
        "state is copied, which needs no memory",
    ),
    (
        Code::CONNECT_PORT,
        Status::INVALID_ALIGNMENT,
        "there are no monitor ports",
    ),
    (
        Code::MAP_EVENT_LOG_BUFFER,
        Status::INSUFFICIENT_MEMORY,
        "CreateEventLogBuffer has taken all that is needed",
    ),
];

/// Counts a call. Calls without a row are counted in the last one.
pub fn record(code: Code, status: Status) {
    let row = ROWS
        .iter()
        .position(|row| row.0 == code)
        .unwrap_or(ROWS.len() - 1);
    check!(row < CALLS, "the table has {CALLS} rows");
    let Some(cell) = COUNTS[row].get(usize::from(status.0)) else {
        guests::fail!("{code:?} ends with status {:#x}", status.0)
    };
    check!(status.name().is_some(), "{code:?} ends with {status}");
    cell.fetch_add(1, Ordering::Relaxed);
}

fn count(row: usize, status: usize) -> u32 {
    COUNTS[row][status].load(Ordering::Relaxed)
}

/// Prints the table; returns how many promised pairs were not reached.
pub fn print() -> u32 {
    let mut missing = 0;
    say!("calls by status:");
    for (row, (code, promised)) in ROWS.iter().enumerate() {
        guests::print!("{:#06x} {code:?}:", code.0);
        for status in 0..STATUSES {
            if count(row, status) != 0 {
                let name = Status(status as u16).name().unwrap_or("?");
                let name = name.strip_prefix("HV_STATUS_").unwrap_or(name);
                guests::print!(" {name} {}", count(row, status));
            }
        }
        guests::print!("\n");
        for status in promised.iter() {
            if count(row, usize::from(status.0)) == 0 {
                say!("not reached: {code:?} {status}");
                missing += 1;
            }
        }
    }
    for (code, status, why) in UNREACHABLE {
        say!("cannot be reached: {code:?} {status}: {why}");
    }
    missing
}
