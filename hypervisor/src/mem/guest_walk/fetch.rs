//! Bytes at a guest virtual address.

use super::{GuestMemory, PagingState, TranslateFlags, WalkError, translate};
use crate::mem::addr::{Gpa, Gva};

/// Reads bytes from a virtual address on into `bytes`, over page boundaries; `flags` say as what (EXECUTE for an
/// instruction). Returns how many were read, and why not more.
pub fn fetch<M: GuestMemory>(
    memory: &M,
    state: &PagingState,
    gva: Gva,
    flags: TranslateFlags,
    bytes: &mut [u8],
) -> (usize, Option<WalkError>) {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = Gva(gva.0.wrapping_add(done as u64));
        match translate(memory, state, at, flags)
            .and_then(|found| read_page(memory, found.gpa, rest))
        {
            Ok(read) => done += read,
            Err(error) => return (done, Some(error)),
        }
    }
    (done, None)
}

/// Reads up to the end of the 4 KiB page, at least one byte.
fn read_page<M: GuestMemory>(memory: &M, gpa: Gpa, bytes: &mut [u8]) -> Result<usize, WalkError> {
    let (mut at, mut done) = (gpa.0, 0);
    while done < bytes.len() {
        let word = Gpa(at & !7);
        let value = memory.read_u64(word).map_err(|fault| WalkError::Gpa {
            gpa: Gpa(at),
            fault,
        })?;
        let source = value.to_le_bytes();
        let source = source.iter().skip((at & 7) as usize);
        for (to, from) in bytes.iter_mut().skip(done).zip(source) {
            *to = *from;
            done += 1;
        }
        at = word.0.wrapping_add(8);
        if at.is_multiple_of(crate::mem::addr::PAGE_SIZE) {
            break;
        }
    }
    Ok(done)
}
