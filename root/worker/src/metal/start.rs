//! The first instructions, and what the kernel passes.

use core::arch::naked_asm;

use root_abi::StartInfo;

/// Entry point: RDI = address of the start information. The kernel's stack is aligned here, since an entry point has no
/// return address.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!(
        "xor ebp, ebp",
        "and rsp, -16",
        "call {main}",
        "ud2",
        main = sym crate::main,
    )
}

/// The VM's definition.
pub fn definition(info: &StartInfo) -> &'static [u8] {
    // SAFETY: the kernel maps the definition read-only at this range for as long as the process lives.
    unsafe { bytes(info.definition, info.definition_len) }
}

/// Memory that the kernel has mapped.
///
/// # Safety
/// `address..address + len` is mapped readable for the rest of the process's life and nobody writes to it.
pub unsafe fn bytes(address: u64, len: u64) -> &'static [u8] {
    if len == 0 {
        return &[];
    }
    // SAFETY: the caller vouches for the range; bytes have no alignment and no invalid values.
    unsafe { core::slice::from_raw_parts(address as *const u8, len as usize) }
}
