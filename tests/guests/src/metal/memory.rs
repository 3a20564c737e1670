//! Addresses: guest physical ones as the payload's, and back.
//!
//! A child runs with the first 4 GiB mapped one to one. A root has its RAM in the direct map and its image elsewhere.

use boot_archive::start_info::PhysicalMemory;

use super::cell::Global;

/// Where the root loader maps guest physical address 0.
pub const DIRECT_MAP: u64 = 0xFFFF_8000_0000_0000;
/// Where the root loader maps the root image.
pub const ROOT_IMAGE: u64 = 0xFFFF_FFFF_8000_0000;
/// What both kinds of payload have mapped at the start, bytes.
pub const MAPPED: u64 = 4 << 30;

/// What is added to a guest physical address to get the payload's.
static OFFSET: Global<u64> = Global::new(0);
/// Guest physical address of a root's image.
static IMAGE: Global<u64> = Global::new(0);

unsafe extern "C" {
    /// First address after the image, by the linker script.
    static image_end: u8;
}

/// First address after the payload's image, in its own address space.
pub fn end_of_image() -> u64 {
    &raw const image_end as u64
}

pub(super) fn use_direct_map() {
    OFFSET.set(DIRECT_MAP);
}

pub(super) fn set_image(gpa: u64) {
    IMAGE.set(gpa);
}

/// The payload's address of a guest physical one (below [`MAPPED`], or wherever else the payload has mapped it).
pub fn virtual_address(gpa: u64) -> u64 {
    gpa.wrapping_add(OFFSET.get())
}

/// The guest physical address of something of the payload's.
pub fn physical(address: u64) -> u64 {
    if address >= ROOT_IMAGE {
        address - ROOT_IMAGE + IMAGE.get()
    } else {
        address.wrapping_sub(OFFSET.get())
    }
}

/// Reads a value of guest memory. What is not there faults; see [`crate::probe!`] for accesses that may.
pub fn read<T: Copy>(gpa: u64) -> T {
    // SAFETY: see the module `metal`; volatile, because the hypervisor may change it.
    unsafe { (virtual_address(gpa) as *const T).read_volatile() }
}

/// Writes a value of guest memory.
pub fn write<T: Copy>(gpa: u64, value: T) {
    // SAFETY: see the module `metal`: the caller names memory that it has set apart.
    unsafe { (virtual_address(gpa) as *mut T).write_volatile(value) }
}

/// Guest memory that was filled before the payload started and that nobody writes: boot information, modules.
#[derive(Clone, Copy, Debug)]
pub struct StartMemory;

impl PhysicalMemory for StartMemory {
    fn bytes(&self, gpa: u64, len: usize) -> Option<&[u8]> {
        let end = gpa.checked_add(len as u64)?;
        // SAFETY: mapped, and as the type says never written.
        (end <= MAPPED)
            .then(|| unsafe { core::slice::from_raw_parts(virtual_address(gpa) as *const u8, len) })
    }
}
