//! System calls: arguments are checked here, then acted upon.

use alloc::vec;
use core::mem::size_of;

use manager::WorkerNews;
use root_abi::{Call, CreatePartition, Error, ExitReason, GuestMemory, Hvcall};
use root_kernel::addr::{LARGE_PAGE_SIZE, PAGE_SIZE, UserRange};
use root_kernel::events::printable;
use zerocopy::{FromBytes, IntoBytes};

use super::process::{self, End, TABLE};
use super::space::Space;
use super::{heap, lock, partition, power, root_task, time};

/// Longest text of `exit`.
const MAX_TEXT: u64 = 200;
/// Bytes of console output copied at once.
const CHUNK: usize = 512;

type Arguments = [u64; 5];

/// Entry from `trap`: arguments, then the number.
pub extern "C" fn handle(a: u64, b: u64, c: u64, d: u64, e: u64, number: u64) -> i64 {
    lock::take();
    let result = dispatch(number, [a, b, c, d, e]);
    process::before_return();
    lock::give();
    match result {
        Ok(value) => i64::try_from(value).unwrap_or(i64::MAX),
        Err(error) => (error as i64).wrapping_neg(),
    }
}

fn dispatch(number: u64, arguments: Arguments) -> Result<u64, Error> {
    const WAIT: u64 = Call::Wait as u64;
    let [a, b, c, ..] = arguments;
    // The call that every intercept makes comes first.
    if number == WAIT {
        return wait(a, b, c);
    }
    heap::replenish();
    match number {
        n if n == Call::Exit as u64 => exit(a, b, c),
        n if n == Call::Tell as u64 => tell(a, b, c),
        n if n == Call::ConsoleWrite as u64 => console_write(a, b),
        n if n == Call::ConsoleRead as u64 => console_read(a, b),
        n if n == Call::MapMemory as u64 => map_memory(a),
        n if n == Call::CreatePartition as u64 => {
            partition::create(&argument::<CreatePartition>(a)?).map(|()| 0)
        }
        n if n == Call::InitializePartition as u64 => partition::initialize().map(|()| 0),
        n if n == Call::AddGuestMemory as u64 => {
            partition::guest_memory::add(&argument::<GuestMemory>(a)?)
        }
        n if n == Call::CreateVp as u64 => {
            // The place for the answer is checked first, so that no VP is made in vain.
            answer(b, &root_abi::VpPages::default())?;
            partition::create_vp(a).and_then(|pages| answer(b, &pages))
        }
        n if n == Call::Hvcall as u64 => {
            let mut call = argument::<Hvcall>(a)?;
            let result = partition::hvcall(&mut call);
            answer(a, &call)?;
            result.map(|()| 0)
        }
        n if n == Call::ReferenceTime as u64 => Ok(time::now()),
        n if n == Call::WallClock as u64 => time::wall_clock(power::century()).ok_or(Error::State),
        n if n == Call::StopVp as u64 => partition::stop_vp(a),
        n if n == Call::BackGuestMemory as u64 => partition::guest_memory::back(a, b),
        n if n == Call::TakeGuestMemory as u64 => partition::guest_memory::take(a, b),
        n if n == Call::MemoryOrder as u64 => memory_order(a),
        _ => Err(Error::Invalid),
    }
}

fn space() -> Space {
    TABLE.with(|table| table.current().space)
}

/// Copies a structure from the process.
fn argument<T: FromBytes + IntoBytes>(address: u64) -> Result<T, Error> {
    let mut value = T::new_zeroed();
    let range = UserRange::new(address, size_of::<T>() as u64).ok_or(Error::Fault)?;
    space().copy_in(&range, value.as_mut_bytes())?;
    Ok(value)
}

/// Copies a structure to the process.
fn answer<T: IntoBytes + zerocopy::Immutable>(address: u64, value: &T) -> Result<u64, Error> {
    let range = UserRange::new(address, size_of::<T>() as u64).ok_or(Error::Fault)?;
    space().copy_out(&range, value.as_bytes()).map(|()| 0)
}

fn text(address: u64, len: u64) -> Result<alloc::string::String, Error> {
    if len > MAX_TEXT {
        return Err(Error::Invalid);
    }
    let range = UserRange::new(address, len).ok_or(Error::Fault)?;
    let mut bytes = [0; MAX_TEXT as usize];
    let bytes = bytes.get_mut(..len as usize).ok_or(Error::Invalid)?;
    space().copy_in(&range, bytes)?;
    Ok(printable(bytes, MAX_TEXT as usize))
}

fn tell(kind: u64, address: u64, len: u64) -> Result<u64, Error> {
    let longest = WorkerNews::longest(kind).ok_or(Error::Invalid)?;
    if len > longest as u64 {
        return Err(Error::Invalid);
    }
    let range = UserRange::new(address, len).ok_or(Error::Fault)?;
    let mut bytes = vec![0; len as usize];
    space().copy_in(&range, &mut bytes)?;
    let news = WorkerNews::decode(kind, &bytes).ok_or(Error::Invalid)?;
    root_task::worker_news(&news);
    Ok(0)
}

fn wait(address: u64, deadline: u64, resume: u64) -> Result<u64, Error> {
    // The place is found before anything happens: an event is taken only if it can be delivered.
    let (place, begun) = process::begin_wait(address, resume)?;
    if let Some(place) = place {
        place.write(&process::wait(deadline, begun)?);
        return Ok(0);
    }
    answer(address, &root_abi::Event::default())?;
    let begun = process::begin_resume(resume)?;
    answer(address, &process::wait(deadline, begun)?)
}

fn exit(reason: u64, address: u64, len: u64) -> Result<u64, Error> {
    const REASONS: [ExitReason; 6] = [
        ExitReason::PowerOff,
        ExitReason::Reset,
        ExitReason::GuestFault,
        ExitReason::BadDefinition,
        ExitReason::WorkerFault,
        ExitReason::Stopped,
    ];
    let reason = REASONS
        .into_iter()
        .find(|known| *known as u64 == reason)
        .ok_or(Error::Invalid)?;
    let text = text(address, len)?;
    process::end_current(End::Exited(reason, text))
}

fn console_write(address: u64, len: u64) -> Result<u64, Error> {
    let range = UserRange::new(address, len).ok_or(Error::Fault)?;
    let space = space();
    let mut chunk = [0; CHUNK];
    let mut done = 0;
    while done < range.len() {
        let count = (range.len() - done).min(CHUNK as u64);
        let part = UserRange::new(range.start() + done, count).ok_or(Error::Fault)?;
        let bytes = chunk.get_mut(..count as usize).ok_or(Error::Invalid)?;
        space.copy_in(&part, bytes)?;
        root_task::guest_output(bytes);
        done += count;
        super::cpu::pause();
    }
    Ok(done)
}

fn console_read(address: u64, len: u64) -> Result<u64, Error> {
    let len = len.min(CHUNK as u64);
    let range = UserRange::new(address, len).ok_or(Error::Fault)?;
    let space = space();
    // What is taken from the queue must arrive, so the place is tried first.
    let mut bytes = vec![0; len as usize];
    space.copy_out(&range, &bytes)?;
    let count = TABLE.with(|table| {
        let input = &mut table.current().input;
        bytes
            .iter_mut()
            .map_while(|place| input.pop().map(|byte| *place = byte))
            .count()
    });
    let range = UserRange::new(address, count as u64).ok_or(Error::Fault)?;
    space.copy_out(&range, bytes.get(..count).unwrap_or_default())?;
    Ok(count as u64)
}

fn map_memory(len: u64) -> Result<u64, Error> {
    let alignment = if len >= LARGE_PAGE_SIZE {
        LARGE_PAGE_SIZE
    } else {
        PAGE_SIZE
    };
    let (space, range) = TABLE.with(|table| {
        let process = table.current();
        let range = process.new_addresses(len, alignment)?;
        Ok::<_, Error>((process.space, range))
    })?;
    space.map_memory(&range)?;
    Ok(range.start())
}

fn memory_order(address: u64) -> Result<u64, Error> {
    let order = TABLE.with(|table| table.current().memory_order);
    answer(address, &order.ok_or(Error::State)?)?;
    // It has arrived, so it is forgotten.
    TABLE.with(|table| table.current().memory_order = None);
    Ok(0)
}
