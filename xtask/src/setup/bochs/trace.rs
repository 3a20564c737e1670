//! Another mistake in how Bochs runs several processors in turn, mended in the private copy.
//!
//! Where a machine with one processor has `cpu_loop`, one with several calls `cpu_run_trace` for each. After an exception was
//! delivered, `cpu_loop` begins a new instruction before it looks at events; `cpu_run_trace` does not. If an interrupt then
//! makes the guest exit before the handler's first instruction, the exit takes the processor back to the
//! instruction that raised the exception, but leaves on the stack what was pushed. Since Bochs notices a waiting interrupt
//! when the delivery changes the interrupt flag, a Linux guest seldom survives its first page fault. The code that is known
//! to be wrong is replaced; any other build is left as it is.

/// The call of `handleAsyncEvent`, and the jump to the way out if that says so.
const CALL: [u8; 9] = [
    0xE8, 0x71, 0x0F, 0x00, 0x00, // call handleAsyncEvent
    0x84, 0xC0, // test al, al
    0x75, 0x5D, // jne out
];

/// The same by way of the function's new end.
const MENDED_CALL: [u8; 9] = [
    0xE8, 0x67, 0x00, 0x00, 0x00, // call begin
    0x84, 0xC0, // test al, al
    0x75, 0x59, // jne out
];

/// How far behind the call the end of the function begins.
const DISTANCE: usize = 76;

/// The end of the function, which has two ways out.
#[rustfmt::skip]
const END: [u8; 58] = [
    0x8B, 0x83, 0xE8, 0x91, 0x00, 0x00, // mov eax, [rbx+async_event]
    0x85, 0xC0, // test eax, eax
    0x74, 0x20, // je none
    0x25, 0xFF, 0xFF, 0xFF, 0x7F, // and eax, 0x7fffffff
    0x48, 0x8B, 0x6C, 0x24, 0x10, // mov rbp, [rsp+0x10]
    0x89, 0x83, 0xE8, 0x91, 0x00, 0x00, // mov [rbx+async_event], eax
    0x48, 0x8B, 0x5C, 0x24, 0x08, // out: mov rbx, [rsp+0x8]
    0x48, 0x83, 0xC4, 0x18, // add rsp, 0x18
    0xC3, // ret
    0x66, 0x0F, 0x1F, 0x44, 0x00, 0x00, // (alignment)
    0x48, 0x8B, 0x6C, 0x24, 0x10, // none: mov rbp, [rsp+0x10]
    0x48, 0x8B, 0x5C, 0x24, 0x08, // mov rbx, [rsp+0x8]
    0x48, 0x83, 0xC4, 0x18, // add rsp, 0x18
    0xC3, // ret
    0x90, // (alignment)
];

/// The end with one way out, and in the room of the other what begins an instruction.
#[rustfmt::skip]
const MENDED_END: [u8; 58] = [
    0x8B, 0x83, 0xE8, 0x91, 0x00, 0x00, // mov eax, [rbx+async_event]
    0x25, 0xFF, 0xFF, 0xFF, 0x7F, // and eax, 0x7fffffff
    0x48, 0x8B, 0x6C, 0x24, 0x10, // mov rbp, [rsp+0x10]
    0x89, 0x83, 0xE8, 0x91, 0x00, 0x00, // mov [rbx+async_event], eax
    0x48, 0x8B, 0x5C, 0x24, 0x08, // out: mov rbx, [rsp+0x8]
    0x48, 0x83, 0xC4, 0x18, // add rsp, 0x18
    0xC3, // ret
    0x48, 0x8B, 0x87, 0xE8, 0x00, 0x00, 0x00, // begin: mov rax, [rdi+rip]
    0xC6, 0x87, 0x38, 0x01, 0x00, 0x00, 0x00, // mov byte [rdi+speculative_rsp], 0
    0x48, 0x89, 0x87, 0x20, 0x01, 0x00, 0x00, // mov [rdi+prev_rip], rax
    0xE9, 0xF0, 0x0E, 0x00, 0x00, // jmp handleAsyncEvent
];

/// Mends the program of Bochs; returns whether it was the broken one.
pub fn mend(program: &mut [u8]) -> bool {
    let mut places = program
        .windows(DISTANCE + END.len())
        .enumerate()
        .filter(|(_, code)| code.starts_with(&CALL) && code.ends_with(&END));
    let (Some((place, _)), None) = (places.next(), places.next()) else {
        return false;
    };
    let code = &mut program[place..][..DISTANCE + END.len()];
    code[..CALL.len()].copy_from_slice(&MENDED_CALL);
    code[DISTANCE..].copy_from_slice(&MENDED_END);
    true
}

#[cfg(test)]
mod tests {
    use super::{CALL, DISTANCE, END, MENDED_CALL, MENDED_END, mend};

    /// A program with the two pieces, and something around them.
    fn program(call: &[u8], end: &[u8]) -> Vec<u8> {
        let between = vec![0x90; DISTANCE - CALL.len()];
        [&[0xAA; 7], call, &between, end, &[0xBB; 9]].concat()
    }

    #[test]
    fn the_two_pieces_are_mended_and_nothing_else() {
        let mut code = program(&CALL, &END);
        assert!(mend(&mut code));
        assert_eq!(code, program(&MENDED_CALL, &MENDED_END));
        assert!(!mend(&mut code), "it is mended already");
    }

    #[test]
    fn code_that_is_not_certain_is_left_alone() {
        let once = program(&CALL, &END);
        let twice = [once.clone(), once].concat();
        for code in [twice, program(&CALL, &MENDED_END), vec![0x90; 300]] {
            let mut mended = code.clone();
            assert!(!mend(&mut mended));
            assert_eq!(mended, code);
        }
    }

    /// Offsets in the mended pieces, from the call's first byte: each jump ends where it should.
    #[test]
    fn jumps_meet_their_targets() {
        let word = |bytes: &[u8]| i64::from(i32::from_le_bytes(bytes.try_into().unwrap()));
        let begin = 5 + word(&MENDED_CALL[1..5]);
        assert_eq!(
            MENDED_END[begin as usize - DISTANCE..][..3],
            [0x48, 0x8B, 0x87]
        );
        let out = 9 + usize::from(MENDED_CALL[8]);
        assert_eq!(MENDED_END[out - DISTANCE..][..3], [0x48, 0x8B, 0x5C]);
        let event = 5 + word(&CALL[1..5]);
        let end = (DISTANCE + END.len()) as i64;
        assert_eq!(end + word(&MENDED_END[54..]), event);
    }
}
