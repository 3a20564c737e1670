//! Crashes that the guest reports.

use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use board::exit::GuestCrash;
use board::ram::GuestRam;
use manager::WorkerNews;
use root_abi::news::{Crash, MAX_CRASH_TEXT};
use tlfs::HvRegisterName as Name;

use crate::setup::get_registers;
use crate::system::System;

/// Crashes told in a run of the VM. A kernel has one, and the kernel that it may start to save its memory can have another; a guest
/// that goes on and on is not worth more.
pub const MOST_CRASHES: u32 = 3;

/// Crashes of one run.
#[derive(Debug, Default)]
pub struct Crashes {
    told: u32,
}

impl Crashes {
    /// The guest reports a crash from a VP, which is suspended.
    pub fn tell<S: System>(&mut self, system: &mut S, ram: &S::Ram, vp: u32, crash: &GuestCrash) {
        if self.told >= MOST_CRASHES {
            return;
        }
        self.told += 1;
        let names = [
            Name::GUEST_CRASH_P0,
            Name::GUEST_CRASH_P1,
            Name::GUEST_CRASH_P2,
            Name::GUEST_CRASH_P3,
            Name::GUEST_CRASH_P4,
        ];
        let parameters = match get_registers(system, vp, names) {
            Ok(values) => values.map(|value| value.low),
            Err(error) => {
                system.log(&format!("its guest has crashed; nothing is known: {error}"));
                return;
            }
        };
        let [.., gpa, len] = parameters;
        let text = if crash.control.crash_message() {
            text(ram, gpa, len)
        } else {
            Vec::new()
        };
        let crash = Crash {
            parameters,
            control: crash.control.into_bits(),
            rip: crash.rip,
            rsp: crash.rsp,
            vp,
            reserved: 0,
        };
        system.tell(&WorkerNews::Crash(crash, text.into()));
    }
}

/// A copy of the guest's text; nothing if it is not all in RAM. What is longer than a page is cut.
fn text(ram: &impl GuestRam, gpa: u64, len: u64) -> Vec<u8> {
    let len = len.min(MAX_CRASH_TEXT as u64);
    let mut text = vec![0; len as usize];
    match ram.read(gpa, &mut text) {
        Ok(()) => text,
        Err(_) => Vec::new(),
    }
}
