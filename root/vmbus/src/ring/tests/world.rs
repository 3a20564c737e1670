//! A ring between two processors that run at the same time.
//!
//! The host is ordinary code; before each of its accesses the guest, a state machine that does one access a step, runs for
//! a random number of steps. Stores of either side wait in a buffer of its own and become visible in order and at some
//! later time, as on x86: only a fence empties the buffer at once. A side sleeps until it is signalled.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use super::fake::word;
use crate::ring::*;

/// Data bytes: one page, so that the ring is often full and often empty.
pub const SIZE: u32 = 4096;
/// Packets of a run.
pub const COUNT: u64 = 60;

/// A reproducible source of choices.
#[derive(Clone, Debug)]
pub struct Choices(u64);

impl Choices {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

/// The payload of a packet, of 8 to 1400 bytes in units.
pub fn payload(id: u64) -> Vec<u8> {
    let units = 1 + Choices::new(id + 1).below(if id.is_multiple_of(3) { 175 } else { 20 });
    vec![id as u8; units as usize * 8]
}

/// Bytes from one index forward to another.
pub fn distance(from: u32, to: u32) -> u32 {
    (to + SIZE - from) % SIZE
}

/// Stores that are not visible yet.
#[derive(Debug, Default)]
pub struct StoreBuffer(VecDeque<(u32, Vec<u8>)>);

impl StoreBuffer {
    fn flush(&mut self, bytes: &mut [u8], count: usize) {
        for _ in 0..count {
            let Some((at, stored)) = self.0.pop_front() else {
                return;
            };
            bytes[at as usize..][..stored.len()].copy_from_slice(&stored);
        }
    }

    /// What the processor that owns the buffer sees.
    fn load(&self, bytes: &[u8], at: u32, into: &mut [u8]) {
        into.copy_from_slice(&bytes[at as usize..][..into.len()]);
        let own = self.0.iter();
        for (index, byte) in own.flat_map(|(start, stored)| (*start..).zip(stored)) {
            if let Some(target) = index.checked_sub(at).and_then(|n| into.get_mut(n as usize)) {
                *target = *byte;
            }
        }
    }
}

/// Signals that were sent and not seen.
#[derive(Debug, Default)]
pub struct Signals {
    pub to_guest: bool,
    pub to_host: bool,
    pub sent_to_guest: usize,
    pub sent_to_host: usize,
}

/// The guest's processor.
pub struct Cpu<'a> {
    bytes: &'a mut Vec<u8>,
    stores: &'a mut StoreBuffer,
    pub signals: &'a mut Signals,
    pub choices: &'a mut Choices,
}

impl Cpu<'_> {
    pub fn load(&self, at: u32) -> u32 {
        word(&self.read(at, 4), 0)
    }

    pub fn read(&self, at: u32, len: u32) -> Vec<u8> {
        let mut into = vec![0; len as usize];
        self.stores.load(self.bytes, at, &mut into);
        into
    }

    /// Reads from the data area, around its end.
    pub fn read_data(&self, at: u32, len: u32) -> Vec<u8> {
        let head = len.min(SIZE - at);
        let mut bytes = self.read(DATA + at, head);
        bytes.extend(self.read(DATA, len - head));
        bytes
    }

    pub fn store(&mut self, at: u32, value: u32) {
        self.write(at, &value.to_le_bytes());
    }

    pub fn write(&mut self, at: u32, bytes: &[u8]) {
        self.stores.0.push_back((at, bytes.to_vec()));
    }

    pub fn fence(&mut self) {
        self.stores.flush(self.bytes, usize::MAX);
    }

    pub fn signal_host(&mut self) {
        self.signals.to_host = true;
        self.signals.sent_to_host += 1;
    }
}

/// The guest.
pub trait Guest {
    /// Does at most one access.
    fn step(&mut self, cpu: &mut Cpu<'_>);

    /// Waits for a signal.
    fn sleeps(&self) -> bool;
}

pub struct World<G> {
    bytes: Vec<u8>,
    host_stores: StoreBuffer,
    guest_stores: StoreBuffer,
    pub guest: G,
    pub signals: Signals,
    pub choices: Choices,
    /// The host's fences do something.
    fences: bool,
}

/// Both sides sleep and there is something to do.
#[derive(Debug, PartialEq, Eq)]
pub struct LostWakeUp;

impl<G: Guest> World<G> {
    fn guest_steps(&mut self, count: u64) {
        for _ in 0..count {
            let mut cpu = Cpu {
                bytes: &mut self.bytes,
                stores: &mut self.guest_stores,
                signals: &mut self.signals,
                choices: &mut self.choices,
            };
            self.guest.step(&mut cpu);
            let visible = self.choices.below(3) as usize;
            self.guest_stores.flush(&mut self.bytes, visible);
        }
    }

    /// What happens between two accesses of the host.
    fn elapse(&mut self) {
        let steps = match self.choices.below(8) {
            0 => self.choices.below(60),
            1..=4 => self.choices.below(4),
            _ => 0,
        };
        self.guest_steps(steps);
        let visible = self.choices.below(3) as usize;
        self.host_stores.flush(&mut self.bytes, visible);
    }

    /// The host sleeps.
    fn host_sleeps(&mut self) -> Result<(), LostWakeUp> {
        while !self.signals.to_host {
            self.host_stores.flush(&mut self.bytes, 1);
            self.guest_steps(1);
            let settled = self.host_stores.0.is_empty() && self.guest_stores.0.is_empty();
            if settled && self.guest.sleeps() && !self.signals.to_guest && !self.signals.to_host {
                return Err(LostWakeUp);
            }
        }
        self.signals.to_host = false;
        Ok(())
    }
}

/// The host's view of the ring.
pub struct Host<G>(pub Rc<RefCell<World<G>>>);

impl<G: Guest> Host<G> {
    pub fn new(guest: G, seed: u64, fences: bool) -> Self {
        let mut choices = Choices::new(seed);
        let start = choices.below(u64::from(SIZE / 8)) as u32 * 8;
        let mut bytes = vec![0; (DATA + SIZE) as usize];
        for (at, value) in [
            (WRITE_INDEX, start),
            (READ_INDEX, start),
            (FEATURE_BITS, FEATURE_PENDING_SEND_SIZE),
        ] {
            super::fake::set_word(&mut bytes, at, value);
        }
        Self(Rc::new(RefCell::new(World {
            bytes,
            host_stores: StoreBuffer::default(),
            guest_stores: StoreBuffer::default(),
            guest,
            signals: Signals::default(),
            choices,
            fences,
        })))
    }

    pub fn again(&self) -> Self {
        Self(self.0.clone())
    }

    pub fn choose(&self, limit: u64) -> u64 {
        self.0.borrow_mut().choices.below(limit)
    }

    pub fn signal_if(&self, signal: Signal) {
        if signal == Signal::Needed {
            let signals = &mut self.0.borrow_mut().signals;
            signals.to_guest = true;
            signals.sent_to_guest += 1;
        }
    }

    pub fn sleep(&self) -> Result<(), LostWakeUp> {
        self.0.borrow_mut().host_sleeps()
    }
}

impl<G: Guest> RingMemory for Host<G> {
    fn size(&self) -> u32 {
        DATA + SIZE
    }

    fn read(&self, at: u32, into: &mut [u8]) -> Result<(), Gone> {
        let mut world = self.0.borrow_mut();
        world.elapse();
        world.host_stores.load(&world.bytes, at, into);
        Ok(())
    }

    fn write(&self, at: u32, from: &[u8]) -> Result<(), Gone> {
        let mut world = self.0.borrow_mut();
        world.elapse();
        world.host_stores.0.push_back((at, from.to_vec()));
        Ok(())
    }

    fn load_acquire(&self, at: u32) -> Result<u32, Gone> {
        let mut word = [0; 4];
        self.read(at, &mut word)?;
        Ok(u32::from_le_bytes(word))
    }

    fn store_release(&self, at: u32, value: u32) -> Result<(), Gone> {
        self.write(at, &value.to_le_bytes())
    }

    fn fence(&self) {
        let world = &mut *self.0.borrow_mut();
        world.elapse();
        if world.fences {
            world.host_stores.flush(&mut world.bytes, usize::MAX);
        }
    }
}
