//! Finding and checking places in guest memory.

use super::LoadError;
use crate::layout::{
    BOOT_INFO, COMMAND_LINE, COMMAND_LINE_ROOM, CONVENTIONAL_END, GDT, ONE_MIB, PAGE,
};
use crate::ram::GuestRam;

/// Everything below is boot information of the board.
const LOW_FREE: u64 = COMMAND_LINE + COMMAND_LINE_ROOM;
const _: () = assert!(GDT < LOW_FREE && BOOT_INFO < LOW_FREE);

/// Checks that a part of a kernel may lie at `start..start + len`: in RAM, outside of what the board uses itself.
/// Returns the end.
pub fn check<R: GuestRam>(ram: &R, start: u64, len: u64) -> Result<u64, LoadError> {
    let layout = ram.layout();
    let end = start.saturating_add(len);
    let conventional = start >= LOW_FREE && end <= CONVENTIONAL_END;
    let extended = start >= ONE_MIB && layout.offset(start, len).is_some();
    if conventional || extended {
        Ok(end)
    } else {
        Err(LoadError::Place {
            start,
            end,
            memory: layout.size() >> 20,
        })
    }
}

/// Puts the initrd as high as possible, page aligned, between `kernel_end` and the top of RAM below 4 GiB or `limit`.
/// Returns its address.
pub fn initrd<R: GuestRam>(
    ram: &mut R,
    bytes: &[u8],
    kernel_end: u64,
    limit: u64,
) -> Result<u64, LoadError> {
    let end = ram.layout().low_end().min(limit);
    let start = kernel_end.max(ONE_MIB);
    let address = end
        .checked_sub(bytes.len() as u64)
        .map(|address| address & !(PAGE - 1))
        .filter(|address| *address >= start)
        .ok_or(LoadError::InitrdTooBig {
            len: bytes.len() as u64,
            start,
            end,
        })?;
    ram.write(address, bytes)?;
    Ok(address)
}

/// Writes the command line with its NUL; the kernel takes at most `max` bytes without it.
pub fn command_line<R: GuestRam>(ram: &mut R, text: &str, max: usize) -> Result<(), LoadError> {
    let max = max.min(COMMAND_LINE_ROOM as usize - 1);
    if text.len() > max {
        return Err(LoadError::CommandLineTooLong {
            len: text.len(),
            max,
        });
    }
    if text.bytes().any(|byte| byte == 0) {
        return Err(LoadError::CommandLineNul);
    }
    ram.write(COMMAND_LINE, text.as_bytes())?;
    ram.write(COMMAND_LINE + text.len() as u64, &[0])?;
    Ok(())
}
