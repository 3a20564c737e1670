//! The `syscall` instruction and the calls that need nothing else.

use core::arch::asm;
use core::ops::Range;

use manager::WorkerNews;
use root_abi::{Call, ExitReason};
use worker::CallError;

/// Most bytes of a last word that the kernel takes.
const TEXT: usize = 200;

/// A system call with up to three arguments.
///
/// # Safety
/// The arguments are what `call` expects: pointers point at memory of this process that is valid for the kernel's access
/// and that Rust lets it have.
pub unsafe fn syscall(call: Call, arguments: [u64; 3]) -> i64 {
    let [first, second, third] = arguments;
    let result;
    // SAFETY: the kernel keeps what a callee preserves and clears the other registers, and touches only memory that the
    // caller named.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") call as u64 => result,
            inlateout("rdi") first => _,
            inlateout("rsi") second => _,
            inlateout("rdx") third => _,
            lateout("rcx") _,
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// A negative result as an error.
pub fn check(call: &'static str, result: i64) -> Result<u64, CallError> {
    u64::try_from(result).map_err(|_| CallError::System {
        call,
        error: result.wrapping_neg(),
    })
}

/// As much of a text as the kernel takes.
fn cut(text: &str) -> &str {
    let end = (0..=TEXT.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

/// Ends the process.
pub fn exit(reason: ExitReason, text: &str) -> ! {
    let text = cut(text);
    // SAFETY: the text is a live slice; the kernel reads it.
    unsafe {
        syscall(
            Call::Exit,
            [reason as u64, text.as_ptr() as u64, text.len() as u64],
        );
    }
    loop {
        core::hint::spin_loop();
    }
}

/// News for the manager.
pub fn tell(news: &WorkerNews<'_>) {
    let (kind, bytes) = news.encode();
    // SAFETY: the bytes are a live slice; the kernel reads it.
    unsafe {
        syscall(
            Call::Tell,
            [kind, bytes.as_ptr() as u64, bytes.len() as u64],
        )
    };
}

/// Fresh zeroed memory.
pub fn map_memory(size: usize) -> Result<*mut u8, CallError> {
    // SAFETY: the call takes no pointers; what it maps overlaps nothing that is mapped.
    let result = unsafe { syscall(Call::MapMemory, [size as u64, 0, 0]) };
    check("map_memory", result).map(|address| address as *mut u8)
}

/// A call on guest pages, by their numbers; returns how many of them are done.
pub fn on_pages(call: Call, name: &'static str, pages: Range<u64>) -> Result<u64, CallError> {
    debug_assert!(matches!(
        call,
        Call::BackGuestMemory | Call::TakeGuestMemory
    ));
    let count = pages.end.saturating_sub(pages.start);
    // SAFETY: the calls take no pointers, and guest memory is accessed only where the memory map has it.
    check(name, unsafe { syscall(call, [pages.start, count, 0]) })
}

/// A call without pointers.
pub fn plain(call: Call, name: &'static str, argument: u64) -> Result<u64, CallError> {
    debug_assert!(matches!(
        call,
        Call::InitializePartition | Call::ReferenceTime | Call::WallClock
    ));
    // SAFETY: none of these calls takes a pointer.
    check(name, unsafe { syscall(call, [argument, 0, 0]) })
}
