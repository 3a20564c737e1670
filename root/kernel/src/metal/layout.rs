//! The kernel's half of the address space and a process's half.

use root_kernel::addr::PAGE_SIZE;

/// All RAM, at this plus its physical address.
pub const DIRECT: u64 = 0xFFFF_8000_0000_0000;
/// Device registers.
pub const DEVICES: u64 = 0xFFFF_A000_0000_0000;
/// Kernel stacks of processes, each below a guard page.
pub const STACKS: u64 = 0xFFFF_B000_0000_0000;
/// The hypercall page, executable.
pub const HYPERCALL_PAGE: u64 = 0xFFFF_A800_0000_0000;
/// The kernel's heap.
pub const HEAP: u64 = 0xFFFF_C000_0000_0000;

/// Pages of a kernel stack.
pub const STACK_PAGES: u64 = 8;
/// Distance between kernel stacks: one guard page lies between two.
pub const STACK_STRIDE: u64 = (STACK_PAGES + 1) * PAGE_SIZE;

/// Where a process finds its `StartInfo` and list of files.
pub const START_INFO: u64 = 0x5000_0000;
/// Archive members of a process, one after the other.
pub const FILES: u64 = 0x1000_0000_0000;
/// Memory that a process asks for.
pub const MEMORY: u64 = 0x2000_0000_0000;
/// State pages of its partition's VPs.
pub const VP_PAGES: u64 = 0x3000_0000_0000;
/// End of its stack; above it nothing is mapped.
pub const USER_STACK_END: u64 = 0x7000_0000_0000;
/// Pages of its stack; below it nothing is mapped.
pub const USER_STACK_PAGES: u64 = 64;
