//! What writing into a ring costs on the host. `cargo xtask bench` runs this, also under valgrind's callgrind, which counts
//! what is executed inside of the functions that are not inlined here.
//!
//! ```text
//! ring write_16 N          writes N packets of 16 bytes
//! ring write_8k inside     writes a packet of 8 KiB
//! ring write_8k across     writes one whose payload goes around the end of the ring
//! ring ratio               compares packets of 8 KiB with plain memcpy, and prints the figure
//! ```
#![expect(
    unsafe_code,
    reason = "memory that a guest writes at the same time has no references; the crate itself has no unsafe code"
)]

use std::cell::UnsafeCell;
use std::hint::black_box;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::{Duration, Instant};

use vmbus::ring::{
    DATA, Gone, OutgoingRing, READ_INDEX, RingError, RingMemory, Signal, WRITE_INDEX,
};

/// Bytes of the data area: a storage ring of Linux, without its header page.
const SIZE: usize = 124 << 10;
const LARGE: usize = 8 << 10;
/// The longest packet of this guest.
const MAX_PACKET: u32 = 16 << 10;

/// Packets, or copies, between two looks at the clock.
const BATCH: usize = 100;
/// Rounds, of two batches each of both.
const ROUNDS: usize = 64 * 100;

const PAGE: usize = 4 << 10;
/// Bytes of a cache line.
const LINE: usize = 64;

/// Payloads at every cache line of a page.
#[repr(align(4096))]
struct Source([u8; PAGE + LARGE]);

impl Source {
    fn at(&self, offset: usize) -> &[u8; LARGE] {
        self.0[offset..]
            .first_chunk()
            .expect("a payload behind a page's last line")
    }
}

/// A ring in one piece of memory, as the host has it mapped.
#[repr(C, align(4096))]
struct Mapped(UnsafeCell<[u8; DATA as usize + SIZE]>);

impl Mapped {
    fn new() -> Box<Self> {
        Box::new(Self(UnsafeCell::new([0; DATA as usize + SIZE])))
    }

    /// The place of `len` bytes at `at`.
    #[inline]
    fn place(&self, at: u32, len: usize) -> Result<*mut u8, Gone> {
        let at = at as usize;
        if at > size_of::<Self>() || size_of::<Self>() - at < len {
            return Err(Gone);
        }
        // SAFETY: `at` lies within the array, or just behind it.
        Ok(unsafe { self.0.get().cast::<u8>().add(at) })
    }

    #[inline]
    fn word(&self, at: u32) -> Result<&AtomicU32, Gone> {
        let word = self.place(at, 4)?.cast::<u32>();
        if !word.is_aligned() {
            return Err(Gone);
        }
        // SAFETY: four aligned bytes of the array, to which there is no other reference.
        Ok(unsafe { AtomicU32::from_ptr(word) })
    }

    /// The guest has read everything.
    fn read_all(&self) {
        let word = |at| self.word(at).expect("the header is there");
        let written = word(WRITE_INDEX).load(Ordering::Acquire);
        word(READ_INDEX).store(written, Ordering::Release);
    }

    /// The ring is empty, with its next packet at `position` of the data.
    fn start_at(&self, position: u32) {
        for at in [WRITE_INDEX, READ_INDEX] {
            let word = self.word(at).expect("the header is there");
            word.store(position, Ordering::Release);
        }
    }
}

impl RingMemory for &Mapped {
    #[inline]
    fn size(&self) -> u32 {
        size_of::<Mapped>() as u32
    }

    #[inline]
    fn read(&self, at: u32, into: &mut [u8]) -> Result<(), Gone> {
        let from = self.place(at, into.len())?;
        // SAFETY: so many bytes are there, and `into` is no part of the ring.
        unsafe { ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    #[inline]
    fn write(&self, at: u32, from: &[u8]) -> Result<(), Gone> {
        let to = self.place(at, from.len())?;
        // SAFETY: so many bytes are there, and `from` is no part of the ring.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) };
        Ok(())
    }

    #[inline]
    fn load_acquire(&self, at: u32) -> Result<u32, Gone> {
        Ok(self.word(at)?.load(Ordering::Acquire))
    }

    #[inline]
    fn store_release(&self, at: u32, value: u32) -> Result<(), Gone> {
        self.word(at)?.store(value, Ordering::Release);
        Ok(())
    }

    #[inline]
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

type Ring<'a> = OutgoingRing<&'a Mapped>;

/// A packet, shown to the guest, and whether it has to be signalled: what callgrind counts. Who calls it sees from the ring
/// what went wrong.
#[inline(never)]
fn write_16(ring: &mut Ring<'_>, id: u64, payload: &[u8; 16]) -> Option<Signal> {
    ring.write_in_band(id, false, &[payload]).ok()?;
    ring.publish().ok()
}

/// The same with 8 KiB.
#[inline(never)]
fn write_8k(ring: &mut Ring<'_>, id: u64, payload: &[u8; LARGE]) -> Option<Signal> {
    ring.write_in_band(id, false, &[payload]).ok()?;
    ring.publish().ok()
}

/// What `write_8k` is compared with.
#[inline(never)]
fn copy_8k(memory: &Mapped, at: u32, payload: &[u8; LARGE]) -> Result<(), Gone> {
    memory.write(DATA + at, payload)
}

fn ring(memory: &Mapped) -> Result<Ring<'_>, RingError> {
    OutgoingRing::new(memory, MAX_PACKET)
}

/// Writes packets to a guest that reads each at once, and wants to be signalled.
fn small_packets(count: u64) -> Result<(), RingError> {
    let memory = Mapped::new();
    let mut ring = ring(&memory)?;
    for id in 0..count {
        let signal = write_16(&mut ring, id, black_box(&[7; 16]));
        assert_eq!(signal, Some(Signal::Needed));
        memory.read_all();
    }
    Ok(())
}

fn large_packet(position: u32) -> Result<(), RingError> {
    let memory = Mapped::new();
    memory.start_at(position);
    let mut ring = ring(&memory)?;
    let signal = write_8k(&mut ring, 1, black_box(&[7; LARGE]));
    assert_eq!(signal, Some(Signal::Needed));
    Ok(())
}

/// How long packets and plain copies take in turns, with the same source and the same places: the median of the rounds'
/// ratios. What disturbs a round disturbs one of many, and what makes the machine slow for longer makes both slow.
fn ratio() -> Result<(), RingError> {
    let memory = Mapped::new();
    let mut ring = ring(&memory)?;
    // A copy's speed depends on where in their pages both ends lie, so the source moves.
    let source = Source([7; PAGE + LARGE]);
    let mut percents: Vec<u64> = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let payload = source.at(round * LINE % PAGE);
        // Who goes second finds the caches as the first has left them: so each goes first and second.
        let mut packets = time_packets(&mut ring, &memory, payload);
        let copies = time_copies(&memory, payload)? + time_copies(&memory, payload)?;
        packets += time_packets(&mut ring, &memory, payload);
        let percent = 100 * copies.as_nanos() / packets.as_nanos().max(1);
        percents.push(u64::try_from(percent).unwrap_or(0));
    }
    percents.sort_unstable();
    let [at_10, at_50, at_90] = [10, 50, 90].map(|part| percents[(ROUNDS - 1) * part / 100]);
    println!("bench ring_write_8k_ratio {at_50} percent p10={at_10} p90={at_90}");
    Ok(())
}

fn time_packets(ring: &mut Ring<'_>, memory: &Mapped, payload: &[u8; LARGE]) -> Duration {
    let start = Instant::now();
    for id in 0..BATCH {
        let signal = write_8k(ring, id as u64, black_box(payload));
        assert_eq!(signal, Some(Signal::Needed));
        memory.read_all();
    }
    start.elapsed()
}

/// The copies go where the packets' payloads do, but for those that cross the end.
fn time_copies(memory: &Mapped, payload: &[u8; LARGE]) -> Result<Duration, RingError> {
    let start = Instant::now();
    let mut at = 16;
    for _ in 0..BATCH {
        copy_8k(memory, at as u32, black_box(payload))?;
        at += LARGE + 24;
        if at + LARGE > SIZE {
            at -= SIZE - LARGE;
        }
    }
    Ok(start.elapsed())
}

fn main() -> Result<(), RingError> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["write_16", count] => small_packets(count.parse().expect("a number of packets")),
        ["write_8k", "inside"] => large_packet(0),
        ["write_8k", "across"] => large_packet((SIZE - LARGE / 2) as u32),
        _ => ratio(),
    }
}
