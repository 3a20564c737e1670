//! Variables of the payload that interrupt handlers see too.

use core::cell::UnsafeCell;

/// A variable of the payload's one processor. Access is by copying, so no reference outlives an interrupt.
pub struct Global<T>(UnsafeCell<T>);

// SAFETY: a payload uses one processor; accesses are volatile copies, and no reference to the content ever exists.
unsafe impl<T> Sync for Global<T> {}

impl<T: Copy> Global<T> {
    /// With this value.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// A copy of the value.
    pub fn get(&self) -> T {
        // SAFETY: the pointer is that of a live variable; see `Sync`.
        unsafe { self.0.get().read_volatile() }
    }

    /// Changes the value.
    pub fn set(&self, value: T) {
        // SAFETY: as in `get`.
        unsafe { self.0.get().write_volatile(value) }
    }

    /// Takes the value, leaving another.
    pub fn replace(&self, value: T) -> T {
        let old = self.get();
        self.set(value);
        old
    }

    /// Where it is, for assembly.
    pub const fn pointer(&self) -> *mut T {
        self.0.get()
    }
}

/// Pages of the payload that the hypervisor or a page table also uses.
#[repr(C, align(4096))]
pub struct Pages<const N: usize>(UnsafeCell<[u8; N]>);

// SAFETY: access is by the copying functions below and by raw pointers only.
unsafe impl<const N: usize> Sync for Pages<N> {}

impl<const N: usize> Default for Pages<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Pages<N> {
    /// Zeroed pages.
    pub const fn new() -> Self {
        Self(UnsafeCell::new([0; N]))
    }

    /// Address in the payload's address space.
    pub fn address(&self) -> u64 {
        self.0.get() as u64
    }

    /// The address behind it: where a stack in it begins.
    pub fn end(&self) -> u64 {
        self.address() + size_of_val(self) as u64
    }

    /// Guest physical address.
    pub fn gpa(&self) -> u64 {
        super::memory::physical(self.address())
    }

    /// Puts bytes at the start; what is too long is cut off.
    pub fn write(&self, bytes: &[u8]) {
        let length = bytes.len().min(N);
        // SAFETY: within the pages, which no Rust reference covers.
        unsafe {
            self.0
                .get()
                .cast::<u8>()
                .copy_from_nonoverlapping(bytes.as_ptr(), length);
        }
    }

    /// Copies bytes from the start; what is past the end stays as it is.
    pub fn read(&self, bytes: &mut [u8]) {
        let length = bytes.len().min(N);
        // SAFETY: as in `write`.
        unsafe {
            bytes
                .as_mut_ptr()
                .copy_from_nonoverlapping(self.0.get().cast::<u8>(), length);
        }
    }

    /// Fills all of it with one byte.
    pub fn fill(&self, byte: u8) {
        // SAFETY: as in `write`.
        unsafe { self.0.get().cast::<u8>().write_bytes(byte, N) };
    }
}
