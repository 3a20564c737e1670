//! Two mistakes in the main loop of Bochs with several processors, mended in the private copy.
//!
//! An exception, or a VM exit, of any processor ends the processor's step by `longjmp`, back into this loop.
//!
//! The number of the processor is a local variable that has changed since `setjmp`: its value is undefined then, and the
//! compiler takes the one that it began with. So the instruction is counted at processor 0. That one's interrupt shadow
//! goes by its count: if it stands between STI and HLT, the shadow is over too early, an interrupt comes in between, and
//! the processor halts with nobody to wake it.
//!
//! And RIP is not noted as the one to come back to, as the loop for one processor does. If the first instruction of a
//! handler cannot be fetched, say because of an EPT violation, the processor comes back to the instruction before the
//! handler, with the handler's stack: a guest kernel ends there before it can print.
//!
//! The code that is known to be wrong is replaced; any other build is left as it is.

/// `if (setjmp(..)) { BX_CPU(0)->icount++; run = false; }`, and the loop's beginning with processor 0.
const BROKEN: [u8; 31] = [
    0x85, 0xC0, // test eax, eax
    0x74, 0x10, // je first
    0x48, 0x8B, 0x06, // mov rax, [rsi]
    0xC6, 0x44, 0x24, 0x0B, 0x00, // mov byte [rsp+0xb], 0
    0x48, 0x83, 0x80, 0x40, 0x01, 0x00, 0x00, 0x01, // add qword [rax+0x140], 1
    0x48, 0x8B, 0x3E, // first: mov rdi, [rsi]
    0xEB, 0x61, // jmp run
    0x66, 0x0F, 0x1F, 0x44, 0x00, 0x00, // (alignment)
];

/// The same for the processor whose number is in memory, which has had its step then.
const MENDED: [u8; 31] = [
    0x8B, 0x4C, 0x24, 0x04, // mov ecx, [rsp+4]
    0x48, 0x8B, 0x3C, 0xCE, // mov rdi, [rsi+rcx*8]
    0x85, 0xC0, // test eax, eax
    0x74, 0x6E, // je run
    0xFF, 0xB7, 0xE8, 0x00, 0x00, 0x00, // push [rdi+0xe8]: RIP
    0x8F, 0x87, 0x20, 0x01, 0x00, 0x00, // pop [rdi+0x120]: the one to come back to
    0x48, 0xFF, 0x87, 0x40, 0x01, 0x00, 0x00, // inc qword [rdi+0x140]
];

/// Mends the program of Bochs; returns whether it was the broken one.
pub fn mend(program: &mut [u8]) -> bool {
    let mut places = program
        .windows(BROKEN.len())
        .enumerate()
        .filter(|(_, code)| **code == BROKEN);
    let (Some((place, _)), None) = (places.next(), places.next()) else {
        return false;
    };
    program[place..][..MENDED.len()].copy_from_slice(&MENDED);
    true
}

#[cfg(test)]
mod tests {
    use super::{BROKEN, MENDED, mend};

    #[test]
    fn the_one_place_is_mended_and_nothing_else() {
        let mut program = [&[0x90; 7][..], &BROKEN, &[0xAA; 9]].concat();
        assert!(mend(&mut program));
        assert_eq!(program, [&[0x90; 7][..], &MENDED, &[0xAA; 9]].concat());
        assert!(!mend(&mut program), "it is mended already");
    }

    #[test]
    fn code_that_is_not_certain_is_left_alone() {
        let twice = [BROKEN, BROKEN].concat();
        let mut program = twice.clone();
        assert!(!mend(&mut program));
        assert_eq!(program, twice);
        assert!(!mend(&mut [0x90; 100]));
    }
}
