use proptest::prelude::*;

use super::*;
use crate::device::TICKS_PER_SECOND;

fn board() -> DirectBoard {
    DirectBoard::new(&Options {
        now: 0,
        wall_clock: 1_700_000_000,
        debug_exit: true,
        hyperv_testdev: None,
    })
}

fn set_ioapic(board: &mut DirectBoard, register: u64, value: u64) {
    board.memory_write(IOAPIC_BASE, 4, register, 0);
    board.memory_write(IOAPIC_BASE + 0x10, 4, value, 0);
}

fn outb(board: &mut DirectBoard, port: u16, value: u8) -> Option<Outcome> {
    board.port_write(port, 1, u32::from(value), 0);
    board.take_end()
}

#[test]
fn absent_ports_read_all_ones_and_take_writes() {
    let mut board = board();
    for port in [
        0x20, 0x40, 0x60, 0x64, 0x87, 0x92, 0xCF9, 0x2F8, 0x3E8, 0x510, 0xFFFF,
    ] {
        assert_eq!(board.port_read(port, 1, 0), 0xFF, "{port:#x}");
        assert_eq!(outb(&mut board, port, 0xFB), None);
    }
    board.port_write(0xCF8, 4, 0x8000_0000, 0);
    assert_eq!(board.port_read(0xCF8, 4, 0), 0xFFFF_FFFF, "no PCI");
    assert_eq!(board.port_read(0xCFC, 4, 0), 0xFFFF_FFFF);
    assert_eq!(
        board.port_read(0xFFFF, 4, 0),
        0xFFFF_FFFF,
        "no wrap to port 0"
    );
    assert_eq!(board.port_read(0x61, 1, 0), 0);
    assert_eq!(board.port_read(0x4D0, 2, 0), 0);
    assert_eq!(board.memory_read(0xFED0_0000, 4, 0), u64::MAX);
}

#[test]
fn power_and_reset_registers_end_the_run_with_the_right_value_only() {
    let mut board = board();
    assert_eq!(
        outb(&mut board, SLEEP_CONTROL_PORT, 5 << 2),
        None,
        "no SLP_EN"
    );
    assert_eq!(
        outb(&mut board, SLEEP_CONTROL_PORT, 3 << 2 | 0x20),
        None,
        "S3"
    );
    assert_eq!(
        outb(&mut board, SLEEP_CONTROL_PORT, 5 << 2 | 0x20),
        Some(Outcome::PowerOff)
    );
    assert_eq!(board.port_read(SLEEP_STATUS_PORT, 1, 0), 0);
    assert_eq!(outb(&mut board, RESET_PORT, 0), None);
    let reset = Some(Outcome::Reset(ResetReason::Register));
    assert_eq!(outb(&mut board, RESET_PORT, RESET_VALUE), reset);
    assert_eq!(outb(&mut board, 0x64, 0xAA), None);
    let reset = Some(Outcome::Reset(ResetReason::KeyboardController));
    assert_eq!(outb(&mut board, 0x64, 0xFE), reset);
    board.port_write(0xF4, 4, 0x1234, 0);
    assert_eq!(board.take_end(), Some(Outcome::DebugExit(0x1234)));
    let mut board = DirectBoard::new(&Options::default());
    board.port_write(0xF4, 4, 0x1234, 0);
    assert_eq!(board.take_end(), None, "only where it is asked for");
}

#[test]
fn the_clock_is_read_through_its_two_ports() {
    let mut board = board();
    // 2023-11-14 22:13:20 UTC, ten seconds on.
    outb(&mut board, 0x70, 0x00);
    assert_eq!(board.port_read(0x71, 1, 10 * TICKS_PER_SECOND), 0x30);
    outb(&mut board, 0x70, 0x32);
    assert_eq!(board.port_read(0x71, 1, 0), 0x20);
}

#[test]
fn typed_input_interrupts_by_way_of_pin_4() {
    let mut board = board();
    set_ioapic(&mut board, 0x18, 0x24);
    outb(&mut board, 0x3FA, 0x87);
    outb(&mut board, 0x3FC, 0x0B);
    outb(&mut board, 0x3F9, 0x01);
    assert_eq!(board.console_input(b"ls\n", 0), 3);
    assert_eq!(board.take_interrupt(), None, "below the trigger level");
    let deadline = board.next_deadline().unwrap();
    board.tick(deadline);
    assert_eq!(
        board.take_interrupt().map(|request| request.vector),
        Some(0x24)
    );
    assert_eq!(board.take_interrupt(), None);
    let line = [0; 3].map(|_| board.port_read(0x3F8, 1, deadline) as u8);
    assert_eq!(&line, b"ls\n");
    assert_eq!(board.port_read(0x3FA, 1, deadline), 0xC1);
    board.console_input(b"12345678", deadline);
    assert_eq!(
        board.take_interrupt().map(|request| request.vector),
        Some(0x24)
    );
}

#[test]
fn the_transmitter_interrupts_again_after_it_was_looked_at_and_used() {
    let mut board = board();
    set_ioapic(&mut board, 0x18, 0x24);
    outb(&mut board, 0x3FC, 0x08);
    outb(&mut board, 0x3F9, 0x02);
    assert!(board.take_interrupt().is_some());
    for byte in b"hello" {
        assert_eq!(board.port_read(0x3FA, 1, 0), 0x02);
        outb(&mut board, 0x3F8, *byte);
        assert!(board.take_interrupt().is_some());
    }
    assert_eq!(board.console().bytes(), b"hello");
    assert_eq!(
        board.next_deadline(),
        Some(20_000),
        "output is printed soon"
    );
}

#[derive(Clone, Debug)]
enum Step {
    PortRead(u16, u8),
    PortWrite(u16, u8, u32),
    MemoryRead(u64, u8),
    MemoryWrite(u64, u8, u64),
    Input(Vec<u8>),
    Eoi(u8),
    Pass(u32),
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        0x3F8u16..0x400,
        0x60u16..0x72,
        0x600u16..0x604,
        any::<u16>()
    ]
}

fn gpa() -> impl Strategy<Value = u64> {
    prop_oneof![
        (0u64..0x50).prop_map(|offset| IOAPIC_BASE + offset),
        any::<u64>()
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let size = || proptest::sample::select(&[1u8, 2, 4][..]);
    prop_oneof![
        (port(), size()).prop_map(|(port, size)| Step::PortRead(port, size)),
        (port(), size(), any::<u32>())
            .prop_map(|(port, size, value)| Step::PortWrite(port, size, value)),
        (gpa(), size()).prop_map(|(gpa, size)| Step::MemoryRead(gpa, size)),
        (gpa(), size(), any::<u64>())
            .prop_map(|(gpa, size, value)| Step::MemoryWrite(gpa, size, value)),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Step::Input),
        any::<u8>().prop_map(Step::Eoi),
        any::<u32>().prop_map(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn no_sequence_of_accesses_panics_or_stalls(
        steps in proptest::collection::vec(step(), 1..300),
        wall in any::<i64>(),
    ) {
        let mut board = DirectBoard::new(&Options { wall_clock: wall, ..Default::default() });
        let mut now = 0u64;
        for step in steps {
            match step {
                Step::PortRead(port, size) => { board.port_read(port, size, now); }
                Step::PortWrite(port, size, value) => board.port_write(port, size, value, now),
                Step::MemoryRead(gpa, size) => { board.memory_read(gpa, size, now); }
                Step::MemoryWrite(gpa, size, value) => board.memory_write(gpa, size, value, now),
                Step::Input(bytes) => { board.console_input(&bytes, now); }
                Step::Eoi(vector) => board.end_of_interrupt(vector),
                Step::Pass(time) => now += u64::from(time),
            }
            let mut interrupts = 0;
            while board.take_interrupt().is_some() {
                interrupts += 1;
            }
            prop_assert!(interrupts <= 32);
            // Once served, a deadline is gone or in the future: the worker does not spin.
            board.tick(now);
            board.console().clear();
            prop_assert!(board.next_deadline().is_none_or(|deadline| deadline > now));
        }
    }
}

#[test]
fn the_test_device_takes_words_of_four_bytes_and_only_if_it_is_there() {
    let raised = |hyperv_testdev, size| {
        let mut board = DirectBoard::new(&Options {
            hyperv_testdev,
            ..Options::default()
        });
        for word in [0x0001_0103, 0x0003_0103] {
            board.port_write(0x3000, size, word, 0);
        }
        let value = board.port_read(0x3000, size, 0);
        (board.testdev().and_then(TestDevice::take_raised), value)
    };
    let target = SintTarget { vp: 1, sint: 3 };
    assert_eq!(raised(Some(2), 4), (Some(target), 0));
    assert_eq!(raised(Some(2), 2), (None, 0xFFFF));
    assert_eq!(raised(Some(2), 1), (None, 0xFF));
    assert_eq!(raised(None, 4), (None, 0xFFFF_FFFF));
}
