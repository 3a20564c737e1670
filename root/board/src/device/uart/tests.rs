use proptest::prelude::*;

use super::*;

const THR: u8 = 0;
const IER: u8 = 1;
const IIR: u8 = 2;
const FCR: u8 = 2;
const LCR: u8 = 3;
const MCR: u8 = 4;
const LSR: u8 = 5;
const MSR: u8 = 6;

/// A UART with its time and output.
#[derive(Default)]
struct Line {
    uart: Uart,
    output: ConsoleOutput,
    now: u64,
}

impl Line {
    /// As a driver leaves it after opening: FIFOs on with trigger level 8, OUT2 on, 115200 baud.
    fn open() -> Self {
        let mut line = Self::default();
        line.write(FCR, 0x87);
        line.write(MCR, MCR_OUT2 | MCR_RTS | MCR_DTR);
        line
    }

    fn read(&mut self, offset: u8) -> u8 {
        self.uart.read(offset, self.now)
    }

    fn write(&mut self, offset: u8, value: u8) {
        self.uart.write(offset, value, self.now, &mut self.output);
    }

    fn interrupt(&mut self) -> bool {
        self.uart.interrupt(self.now)
    }
}

#[test]
fn the_probe_of_the_8250_driver_finds_a_16550a() {
    let mut line = Line::default();
    // Four bits of IER exist.
    line.write(IER, 0);
    assert_eq!(line.read(IER), 0);
    line.write(IER, 0xFF);
    assert_eq!(line.read(IER), 0x0F);
    line.write(IER, 0);
    // Loopback: RTS shows as CTS, OUT2 as DCD.
    line.write(MCR, MCR_LOOP | MCR_OUT2 | MCR_RTS);
    assert_eq!(line.read(MSR) & 0xF0, MSR_DCD | MSR_CTS);
    line.write(MCR, 0);
    // FIFOs announce themselves; there is neither an EFR (0 in IIR with DLAB) nor a 64-byte FIFO.
    line.write(FCR, 1);
    assert_eq!(line.read(IIR), 0xC1);
    line.write(LCR, LCR_DLAB);
    line.write(FCR, 0x21);
    assert_eq!(line.read(IIR), 0xC1);
    line.write(LCR, 0);
    line.write(FCR, 0);
    assert_eq!(line.read(IIR), 0x01);
    assert_eq!(line.read(LSR), 0x60);
}

#[test]
fn enabling_the_transmitter_interrupt_raises_it_every_time() {
    let mut line = Line::open();
    // The driver's startup test: twice enabled, twice seen.
    for _ in 0..2 {
        line.write(IER, IER_THRE);
        assert!(line.interrupt());
        assert_eq!(line.read(IIR), 0xC0 | IIR_THRE);
        assert_eq!(line.read(IIR), 0xC1, "reading IIR takes it back");
        assert!(!line.interrupt());
        line.write(IER, 0);
    }
    assert_eq!(line.read(IIR), 0xC1);
}

#[test]
fn a_transmitted_byte_is_output_and_raises_the_interrupt_again() {
    let mut line = Line::open();
    line.write(IER, IER_THRE);
    line.read(IIR);
    line.write(THR, b'x');
    assert_eq!(line.output.bytes(), b"x");
    assert!(line.interrupt());
    line.write(IER, 0);
    assert!(!line.interrupt(), "disabled causes do not interrupt");
    assert_eq!(line.read(LSR), 0x60);
}

#[test]
fn out2_gates_the_interrupt_line() {
    let mut line = Line::open();
    line.write(IER, IER_THRE);
    line.write(MCR, MCR_RTS);
    assert!(!line.interrupt());
    assert_eq!(line.read(IIR), 0xC0 | IIR_THRE, "polling still sees it");
    line.write(MCR, MCR_OUT2 | MCR_LOOP);
    line.write(THR, 1);
    assert!(!line.interrupt());
}

#[test]
fn received_bytes_interrupt_at_the_trigger_level() {
    let mut line = Line::open();
    line.write(IER, IER_RDA);
    assert_eq!(line.uart.input(b"1234567", 0), 7);
    assert!(!line.interrupt());
    line.uart.input(b"8", 0);
    assert!(line.interrupt());
    assert_eq!(line.read(IIR), 0xC0 | IIR_RDA);
    assert_eq!(line.read(IIR), 0xC0 | IIR_RDA, "looking does not end it");
    assert_eq!(line.read(THR), b'1');
    assert!(!line.interrupt());
}

#[test]
fn fewer_bytes_are_reported_after_four_character_times() {
    let mut line = Line::open();
    line.write(IER, IER_RDA);
    line.now = 1000;
    line.uart.input(b"ok", 1000);
    let deadline = line.uart.deadline().unwrap();
    // 40 bits at 115200 baud are 347.2 µs.
    assert_eq!(deadline, 1000 + 3472);
    line.now = deadline - 1;
    assert!(!line.interrupt());
    line.now = deadline;
    assert!(line.interrupt());
    assert_eq!(line.read(IIR), 0xC0 | IIR_TIMEOUT);
    assert_eq!(line.read(THR), b'o');
    assert!(!line.interrupt(), "reading restarts the time");
    line.now += 3472;
    assert!(line.interrupt());
    assert_eq!((line.read(LSR), line.read(THR)), (0x61, b'k'));
    assert_eq!((line.interrupt(), line.uart.deadline()), (false, None));
    assert_eq!(line.read(LSR), 0x60);
}

#[test]
fn input_beyond_the_fifo_waits_and_is_not_lost() {
    let mut line = Line::open();
    let typed: Vec<u8> = (0..5000u32).map(|index| index as u8).collect();
    let taken = line.uart.input(&typed, 0);
    assert!(taken >= BACKLOG && taken < typed.len());
    let mut got = Vec::new();
    while line.read(LSR) & LSR_DATA != 0 {
        got.push(line.read(THR));
    }
    assert_eq!(got, typed[..taken]);
    assert_eq!(line.uart.input_room(), BACKLOG);
}

#[test]
fn the_causes_come_in_the_order_of_their_priority() {
    let mut line = Line::open();
    // Modem status and an overrun by way of the loopback.
    line.write(MCR, MCR_LOOP);
    (0..17).for_each(|byte| line.write(THR, byte));
    line.write(MCR, MCR_OUT2);
    line.write(IER, 0x0F);
    assert_eq!(line.read(IIR) & 0x0F, IIR_RLS);
    assert_eq!(line.read(LSR) & LSR_OVERRUN, LSR_OVERRUN);
    assert_eq!(line.read(IIR) & 0x0F, IIR_RDA);
    (0..16).for_each(|byte| assert_eq!(line.read(THR), byte));
    assert_eq!(line.read(IIR) & 0x0F, IIR_THRE);
    assert_eq!(line.read(IIR) & 0x0F, IIR_MODEM);
    line.read(MSR);
    assert_eq!(line.read(IIR) & 0x0F, IIR_NONE);
}

#[test]
fn the_divisor_is_behind_dlab() {
    let mut line = Line::open();
    line.write(LCR, LCR_DLAB | 3);
    line.write(0, 0x0C);
    line.write(1, 0x01);
    assert_eq!((line.read(0), line.read(1)), (0x0C, 0x01));
    line.write(LCR, 3);
    assert_eq!(line.read(IER), 0);
    assert!(line.output.bytes().is_empty());
}

proptest! {
    #[test]
    fn the_line_is_active_exactly_when_iir_names_a_cause(
        steps in proptest::collection::vec((0..18u8, any::<u8>(), 0..5000u64), 1..200),
    ) {
        let mut line = Line::default();
        for (step, value, passed) in steps {
            line.now += passed;
            match step {
                0..8 => line.write(step, value),
                8..16 => { line.read(step - 8); }
                16 => { line.uart.input(&[value; 5], line.now); }
                _ => line.output.clear(),
            }
            let active = line.interrupt();
            let gated = line.uart.modem_control & (MCR_OUT2 | MCR_LOOP) == MCR_OUT2;
            prop_assert_eq!(active, gated && line.uart.cause() != IIR_NONE);
            prop_assert!(line.uart.received.len() <= FIFO);
            // Bytes that nobody has seen are always going to be reported.
            if line.uart.fifos && !line.uart.received.is_empty() {
                let reported = line.uart.received.len() >= line.uart.trigger || line.uart.timeout;
                prop_assert!(reported || line.uart.timeout_at.is_some());
            }
        }
    }
}
