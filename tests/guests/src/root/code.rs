//! Pieces of code that a payload root lets its children run.

/// Declares a function that gives the bytes of a piece of a child's code, in 16, 32 or 64-bit form.
#[macro_export]
macro_rules! child_code {
    ($(#[$outer:meta])* $name:ident, $bits:literal, $($line:expr),+ $(,)?) => {
        ::core::arch::global_asm!(
            ".pushsection .rodata.child_code, \"a\"",
            concat!(".global child_code_", stringify!($name)),
            concat!(".global child_code_end_", stringify!($name)),
            concat!(".code", $bits),
            concat!("child_code_", stringify!($name), ":"),
            $($line,)+
            concat!("child_code_end_", stringify!($name), ":"),
            ".code64",
            ".popsection",
        );

        $(#[$outer])*
        fn $name() -> &'static [u8] {
            unsafe extern "C" {
                #[link_name = concat!("child_code_", stringify!($name))]
                static START: u8;
                #[link_name = concat!("child_code_end_", stringify!($name))]
                static END: u8;
            }
            let start = &raw const START;
            let len = &raw const END as usize - start as usize;
            // SAFETY: both symbols are of the assembly above, in this order.
            unsafe { ::core::slice::from_raw_parts(start, len) }
        }
    };
}

/// Declares a function that gives the bytes of an interrupt's handler in 64-bit form: these lines, which may change RAX, RCX
/// and RDX, and the end of the interrupt at the x2APIC.
#[macro_export]
macro_rules! handler_code {
    ($(#[$outer:meta])* $name:ident, $($line:expr),* $(,)?) => {
        $crate::child_code!(
            $(#[$outer])*
            $name,
            "64",
            "push rax",
            "push rcx",
            "push rdx",
            $($line,)*
            "mov ecx, 0x80b",
            "xor eax, eax",
            "xor edx, edx",
            "wrmsr",
            "pop rdx",
            "pop rcx",
            "pop rax",
            "iretq",
        );
    };
}
