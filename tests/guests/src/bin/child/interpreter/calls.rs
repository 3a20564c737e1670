//! Hypercalls.

use guests::metal::hypercall::raw;
use guests::metal::memory;
use guests::program::Program;
use guests::read_cr;
use tlfs::{
    HvCallCode, HvConnectionId, HvHypercallInput, HvInputGetPartitionProperty, HvInputPostMessage,
    HvMessageType, HvPartitionId, HvPartitionPropertyCode, HvStatus,
};
use zerocopy::IntoBytes;

use crate::counts::Counts;
use crate::pages::{INPUT, PLAYGROUND, address};

/// Most bytes of a message.
pub const MESSAGE: usize = 240;

/// Makes a call; its result must be none that no call can have.
fn make(counts: &mut Counts, control: HvHypercallInput, rdx: u64, r8: u64) -> HvStatus {
    let result = raw(control.into_bits(), rdx, r8)
        .unwrap_or_else(|fault| panic!("{control:?} {rdx:#x} {r8:#x}: {fault:x?}"));
    assert_eq!((result.reserved_16(), result.reserved_44()), (0, 0));
    assert!(
        result.reps_completed() <= control.rep_count().max(control.rep_start()),
        "{control:?}: {result:?}"
    );
    let status = result.call_status();
    counts.call(control.call_code(), status);
    status
}

/// A call with its parameters in a page.
fn with_input(counts: &mut Counts, code: HvCallCode, input: &[u8]) -> HvStatus {
    INPUT.write(input);
    make(
        counts,
        HvHypercallInput::simple(code),
        INPUT.gpa(),
        PLAYGROUND.gpa(),
    )
}

/// Posts a message.
pub fn post(counts: &mut Counts, connection: u32, kind: u32, payload: &[u8]) -> HvStatus {
    let mut input = HvInputPostMessage {
        connection_id: HvConnectionId(connection),
        reserved: 0,
        message_type: HvMessageType(kind),
        payload_size: payload.len() as u32,
        payload: [0; MESSAGE],
    };
    let length = payload.len().min(MESSAGE);
    input.payload[..length].copy_from_slice(&payload[..length]);
    with_input(counts, HvCallCode::POST_MESSAGE, input.as_bytes())
}

/// Signals an event.
pub fn signal(counts: &mut Counts, connection: u32, flag: u16) -> HvStatus {
    let control = HvHypercallInput::simple(HvCallCode::SIGNAL_EVENT).with_fast(true);
    make(
        counts,
        control,
        u64::from(connection) | u64::from(flag) << 32,
        0,
    )
}

/// Any call, or one that is right.
pub fn operation(counts: &mut Counts, program: &mut Program<'_>, which: u8) -> bool {
    let status = match which {
        0 => property(counts, program),
        1 => flush(counts, program, false),
        2 => flush(counts, program, true),
        3 => {
            let spins = [program.number(4), 0];
            with_input(counts, HvCallCode::NOTIFY_LONG_SPIN_WAIT, spins.as_bytes())
        }
        // To this VP: the other one is off, or busy.
        4 => {
            let ipi = [0x20 | u64::from(program.byte()) & 0xDF, 1];
            with_input(
                counts,
                HvCallCode::SEND_SYNTHETIC_CLUSTER_IPI,
                ipi.as_bytes(),
            )
        }
        5 => {
            let payload = [program.odd_value(), program.odd_value()];
            let connection = program.pick(&[0, 1, 2, 4, 5, 0x2001, 0x80_0074]);
            let kind = program.pick(&[0, 1, 1, 2, 0x8000_0001]);
            post(counts, connection, kind, payload.as_bytes())
        }
        6 => {
            let flag = program.pick(&[0, 0, 1, 0x7FF, 0xFFFF]);
            signal(counts, program.odd_value() as u32, flag)
        }
        _ => any(counts, program),
    };
    status == HvStatus::SUCCESS
}

fn property(counts: &mut Counts, program: &mut Program<'_>) -> HvStatus {
    let input = HvInputGetPartitionProperty {
        partition_id: HvPartitionId::SELF,
        property_code: program.pick(HvPartitionPropertyCode::NAMED),
        ..Default::default()
    };
    with_input(counts, HvCallCode::GET_PARTITION_PROPERTY, input.as_bytes())
}

/// All of an address space, or a list of a few ranges of it.
fn flush(counts: &mut Counts, program: &mut Program<'_>, has_list: bool) -> HvStatus {
    let mut words = [0; 3 + 8];
    // Flags: all processors, all address spaces, what is not global.
    words[..3].copy_from_slice(&[read_cr!(3) & !0xFFF, program.below(8), program.below(4)]);
    for range in &mut words[3..] {
        *range = program.odd_value();
    }
    INPUT.write(words.as_bytes());
    let control = if has_list {
        let control = HvHypercallInput::simple(HvCallCode::FLUSH_VIRTUAL_ADDRESS_LIST);
        control.with_rep_count(1 + program.below(8) as usize)
    } else {
        HvHypercallInput::simple(HvCallCode::FLUSH_VIRTUAL_ADDRESS_SPACE)
    };
    make(counts, control, INPUT.gpa(), 0)
}

fn any(counts: &mut Counts, program: &mut Program<'_>) -> HvStatus {
    let code = match program.below(16) {
        0 => HvCallCode(program.number(2) as u16),
        _ => program.pick(HvCallCode::NAMED),
    };
    let control = HvHypercallInput::simple(code).with_fast(program.one_in(3));
    let control = match program.below(8) {
        0..=2 => control,
        3 | 4 => control.with_rep_count(1 + program.below(8) as usize),
        5 => control.with_variable_header_size(program.below(8) as usize),
        6 => control
            .with_rep_count(program.below(4096) as usize)
            .with_rep_start(program.below(4096) as usize),
        _ => HvHypercallInput::from_bits(program.number(8) & !0xFFFF | u64::from(code.0)),
    };
    if control.fast() {
        let (rdx, r8) = (program.odd_value(), program.odd_value());
        return make(counts, control, rdx, r8);
    }
    let (rdx, r8) = (address(program), address(program));
    fill(program, rdx);
    make(counts, control, rdx, r8)
}

/// What identifiers and flags look like, in words from there on, if that is the playground.
fn fill(program: &mut Program<'_>, gpa: u64) {
    let inside = PLAYGROUND.gpa()..PLAYGROUND.gpa() + 31 * 4096;
    if !inside.contains(&gpa) {
        return;
    }
    for word in 0..8 {
        let value = match program.below(4) {
            0 => u64::MAX,
            1 => program.below(0x200) | program.below(4) << 32,
            2 => 0,
            _ => program.odd_value(),
        };
        memory::write((gpa & !7) + word * 8, value);
    }
}
