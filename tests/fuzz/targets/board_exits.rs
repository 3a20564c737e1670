//! Intercepts of a guest that does what it likes: any registers, any code, any sequence of accesses to the devices.
//!
//! Input: the first part of a register page, guest code, then messages of a type byte, a time byte and a payload each.
#![no_main]

use board::device::testdev::SintTarget;
use board::exit::{
    Access, Guest, GuestCrash, Outcome, PostedMessage, Registers, Touched, TranslateError,
};
use board::layout::RamLayout;
use board::ram::{GuestRam, OutOfRam, VecRam};
use board::{Board, BoardKind, Options};
use tlfs::{HvConnectionId, HvMessage, HvMessageType, HvStatus, HvX64RegisterPage};
use zerocopy::{FromZeros, IntoBytes};

/// The part of the register page with anything in it, bytes.
const REGISTERS: usize = 424;
/// Bytes of code, at guest physical address 0.
const CODE: usize = 64;
/// Payload bytes of a message.
const PAYLOAD: usize = 128;

const TYPES: [HvMessageType; 10] = [
    HvMessageType::X64_IO_PORT_INTERCEPT,
    HvMessageType::UNMAPPED_GPA,
    HvMessageType::GPA_INTERCEPT,
    HvMessageType::X64_APIC_EOI,
    HvMessageType::X64_CPUID_INTERCEPT,
    HvMessageType::X64_MSR_INTERCEPT,
    HvMessageType::UNRECOVERABLE_EXCEPTION,
    HvMessageType::NONE,
    HvMessageType::HYPERCALL_INTERCEPT,
    HvMessageType::SYNIC_SINT_DELIVERABLE,
];

/// RAM whose first 64 KiB appear at every virtual address, but for odd megabytes.
struct Ram(VecRam);

impl GuestRam for Ram {
    fn layout(&self) -> RamLayout {
        self.0.layout()
    }

    fn is_ram(&self, gpa: u64, len: u64) -> bool {
        self.0.is_ram(gpa, len)
    }

    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), OutOfRam> {
        self.0.read(gpa, buf)
    }

    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), OutOfRam> {
        self.0.write(gpa, data)
    }
}

impl Guest for Ram {
    fn touched(&mut self, gpa: u64) -> Touched {
        match gpa >> 12 & 0xFF {
            0xFE => Touched::Backed,
            0xFF => Touched::Waits,
            _ => Touched::NotRam,
        }
    }

    fn translate(&mut self, gva: u64, _: Access) -> Result<u64, TranslateError> {
        match gva >> 20 & 1 {
            0 => Ok(gva & 0xFFFF),
            _ => Err(TranslateError::NotPresent),
        }
    }

    fn post_message(&mut self, _: &PostedMessage<'_>) -> Result<(), HvStatus> {
        Err(HvStatus::INVALID_CONNECTION_ID)
    }

    fn signal_event(&mut self, _: HvConnectionId, _: u16) -> Result<(), HvStatus> {
        Err(HvStatus::INVALID_CONNECTION_ID)
    }

    fn echo_message(&mut self, to: SintTarget, _: &PostedMessage<'_>) -> Result<(), HvStatus> {
        exists(to);
        Ok(())
    }

    fn echo_event(&mut self, to: SintTarget, flag: u16) -> Result<(), HvStatus> {
        exists(to);
        assert!(flag < 256);
        Ok(())
    }

    fn slots_free(&mut self, _: u16) {}

    fn crashed(&mut self, _: &GuestCrash) {}
}

fn exists(target: SintTarget) {
    assert!(target.vp < 2 && target.sint < 16);
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (Some(registers), Some(code)) =
        (data.get(..REGISTERS), data.get(REGISTERS..REGISTERS + CODE))
    else {
        return;
    };
    let mut page = HvX64RegisterPage::new_zeroed();
    page.as_mut_bytes()[..REGISTERS].copy_from_slice(registers);
    page.is_valid = 1;
    let mut ram = Ram(VecRam::new(1 << 17));
    let _ = ram.write(0, code);
    let mut board = Board::new(
        BoardKind::Direct,
        &Options {
            debug_exit: true,
            hyperv_testdev: Some(2),
            ..Options::default()
        },
    );
    let mut now = 0;
    for record in data[REGISTERS + CODE..].chunks_exact(2 + PAYLOAD) {
        let Some(message) = HvMessage::new(TYPES[usize::from(record[0] % 10)], 1, &record[2..])
        else {
            return;
        };
        now += u64::from(record[1]) * 1000;
        let Some(mut registers) = Registers::new(&mut page) else {
            return;
        };
        if !matches!(
            board.handle(&message, &mut registers, &mut ram, now),
            Outcome::Resume | Outcome::Wait | Outcome::Inject(_)
        ) {
            return;
        }
        let _ = board.console_input(&record[..1], now);
        board.tick(now);
        board.due_output(now, |_| ());
        if let Some(device) = board.testdev() {
            while let Some(target) = device.take_raised() {
                exists(target);
            }
        }
        // Each access raises a handful of interrupts at most.
        assert!(
            (0..100).any(|_| board.take_interrupt().is_none()),
            "interrupts without end"
        );
    }
});
