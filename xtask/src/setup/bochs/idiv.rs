//! A mistake of a compiler in one build of Bochs, mended in the private copy.
//!
//! `long_idiv` divides a signed 128-bit number, which is what IDIV with a 64-bit operand does. The compiler was told too
//! little about its memory accesses, and dropped stores: quotients are whatever lay on the stack (bochs-emu/Bochs issue
//! 668). A Linux guest that divides by such an IDIV while it sets up its clock ends there, with some luck later. The code
//! that is known to be broken is replaced; any other build is left as it is.

use anyhow::{Context, Result};
use elf::ElfBytes;
use elf::endian::LittleEndian;
use sha2::{Digest, Sha256};

/// `long_idiv(Bit128s *quotient, Bit64s *remainder, const Bit128s *dividend, Bit64s divisor)`.
const SYMBOL: &[u8] = b"_Z9long_idivP7Bit128sPlPKS_l";

/// SHA-256 of its broken code.
const BROKEN: &str = "8d7b5f375d90c3ceacc46cdce1ef557423affb9cb361de28a8508d1e3f0e6268";

/// The code keeps its first instruction, ENDBR64.
const KEPT: usize = 4;

/// The function again: magnitudes are divided in two steps, and the signs are put to the results.
#[rustfmt::skip]
const MENDED: [u8; 90] = [
    0x4C, 0x8B, 0x02, // mov r8, [rdx]
    0x4C, 0x8B, 0x4A, 0x08, // mov r9, [rdx+0x8]
    0x4D, 0x89, 0xCA, // mov r10, r9
    0x4D, 0x85, 0xC9, // test r9, r9
    0x79, 0x0A, // jns 0x19
    0x49, 0xF7, 0xD8, // neg r8
    0x49, 0x83, 0xD1, 0x00, // adc r9, 0x0
    0x49, 0xF7, 0xD9, // neg r9
    0x49, 0x89, 0xCB, // mov r11, rcx
    0x48, 0x85, 0xC9, // test rcx, rcx
    0x79, 0x03, // jns 0x24
    0x48, 0xF7, 0xD9, // neg rcx
    0x4C, 0x89, 0xC8, // mov rax, r9
    0x31, 0xD2, // xor edx, edx
    0x48, 0xF7, 0xF1, // div rcx
    0x49, 0x89, 0xC1, // mov r9, rax
    0x4C, 0x89, 0xC0, // mov rax, r8
    0x48, 0xF7, 0xF1, // div rcx
    0x4D, 0x89, 0xD0, // mov r8, r10
    0x4D, 0x31, 0xD8, // xor r8, r11
    0x79, 0x0A, // jns 0x47
    0x48, 0xF7, 0xD8, // neg rax
    0x49, 0x83, 0xD1, 0x00, // adc r9, 0x0
    0x49, 0xF7, 0xD9, // neg r9
    0x4D, 0x85, 0xD2, // test r10, r10
    0x79, 0x03, // jns 0x4f
    0x48, 0xF7, 0xDA, // neg rdx
    0x48, 0x89, 0x07, // mov [rdi], rax
    0x4C, 0x89, 0x4F, 0x08, // mov [rdi+0x8], r9
    0x48, 0x89, 0x16, // mov [rsi], rdx
    0xC3, // ret
];

/// Mends the program of Bochs; returns whether it was the broken one.
///
/// # Errors
/// If this is no ELF program with a table of dynamic symbols.
pub fn mend(program: &mut [u8]) -> Result<bool> {
    let Some((start, length)) = place(program)? else {
        return Ok(false);
    };
    let code = program.get_mut(start..start + length);
    Ok(code.is_some_and(|code| is_broken(code) && replace(code)))
}

/// Offset in the file, and length, of the function.
fn place(program: &[u8]) -> Result<Option<(usize, usize)>> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(program)?;
    let (symbols, names) = file
        .dynamic_symbol_table()?
        .context("there are no dynamic symbols")?;
    let is_it = |name: u32| {
        names
            .get_raw(name as usize)
            .is_ok_and(|name| name == SYMBOL)
    };
    let Some(symbol) = symbols.iter().find(|symbol| is_it(symbol.st_name)) else {
        return Ok(None);
    };
    let segments = file.segments().context("there are no segments")?;
    let offset = segments.iter().find_map(|segment| {
        let inside = symbol.st_value.checked_sub(segment.p_vaddr)?;
        (inside < segment.p_filesz).then_some(segment.p_offset + inside)
    });
    let offset = offset.context("long_idiv is in no segment")?;
    Ok(Some((
        usize::try_from(offset)?,
        usize::try_from(symbol.st_size)?,
    )))
}

fn is_broken(code: &[u8]) -> bool {
    let digest = Sha256::digest(code);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    hex == BROKEN
}

/// Overwrites the code; returns whether there is room.
fn replace(code: &mut [u8]) -> bool {
    match code.get_mut(KEPT..KEPT + MENDED.len()) {
        Some(place) => {
            place.copy_from_slice(&MENDED);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{KEPT, MENDED, mend, replace};

    #[test]
    fn the_first_instruction_and_what_follows_stay() {
        let mut code = [0xAA; 142];
        assert!(replace(&mut code));
        assert_eq!(code[..KEPT], [0xAA; KEPT]);
        assert_eq!(code[KEPT..KEPT + 90], MENDED);
        assert!(code[KEPT + 90..].iter().all(|byte| *byte == 0xAA));
        assert_eq!(MENDED.last(), Some(&0xC3));
        assert!(!replace(&mut [0; 80]));
    }

    #[test]
    fn another_program_is_left_alone() {
        let own = std::env::current_exe().unwrap();
        let program = std::fs::read(own).unwrap();
        let mut copy = program.clone();
        assert!(matches!(mend(&mut copy), Ok(false) | Err(_)));
        assert!(copy == program);
    }
}
