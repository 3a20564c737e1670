//! The direct map: machine memory as the hypervisor sees it.
//!
//! Memory that guests or the root can write is never borrowed as `&[u8]`: it changes under our feet. It is copied out
//! (or in) by string instructions and 64-bit atomics, which have no undefined behaviour when another processor writes.

use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use super::addr::{PAGE_SIZE, Spa, Spfn};

/// Why an access through the direct map was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhysError {
    /// A byte of the range lies outside the direct map.
    OutOfRange,
    /// A 64-bit access that is not 8-aligned.
    Misaligned,
}

/// A linear map of machine memory: SPA 0 to `size` at a virtual base address. Copied freely.
///
/// Frames that hold Rust objects (the hypervisor's image and stacks, [`super::page_box::PageBox`]) are mapped as well.
/// Addresses that come from the root or a guest cannot name them, because they pass a second-level translation first,
/// and no such translation leads to a frame of the hypervisor ([`super::frames`] sees to that).
#[derive(Clone, Copy, Debug)]
pub struct PhysMap {
    base: usize,
    size: u64,
}

impl PhysMap {
    /// A map of the machine addresses 0 to `size` (bytes, a multiple of 4096) at virtual address `base`.
    ///
    /// # Safety
    ///
    /// 1. `base` is 4096-aligned, `base + size` does not wrap, and every RAM page of the range is mapped readable and
    ///    writable for as long as any copy of the map exists.
    /// 2. Whoever gets a copy passes only addresses of memory that is not borrowed as a Rust object at that time.
    pub const unsafe fn new(base: usize, size: u64) -> Self {
        Self { base, size }
    }

    /// Bytes covered, from SPA 0 on.
    pub const fn size(self) -> u64 {
        self.size
    }

    /// Address in our own space of `bytes` bytes at `at`, if all of them are covered.
    fn pointer(self, at: Spa, bytes: u64) -> Result<*mut u8, PhysError> {
        match at.0.checked_add(bytes) {
            Some(end) if end <= self.size => Ok((self.base + at.0 as usize) as *mut u8),
            _ => Err(PhysError::OutOfRange),
        }
    }

    fn atomic(&self, at: Spa) -> Result<&AtomicU64, PhysError> {
        if !at.is_aligned(8) {
            return Err(PhysError::Misaligned);
        }
        let pointer = self.pointer(at, 8)?;
        // SAFETY: 1. 8-aligned and in bounds, both just checked. 2. Mapped and not borrowed otherwise, by the contract
        // of `new`. 3. All access through this map to shared words is atomic or by string instructions.
        Ok(unsafe { AtomicU64::from_ptr(pointer.cast()) })
    }

    /// Reads an 8-aligned word in one access (acquire).
    ///
    /// # Errors
    ///
    /// [`PhysError`]
    pub fn read_u64(&self, at: Spa) -> Result<u64, PhysError> {
        Ok(self.atomic(at)?.load(Ordering::Acquire))
    }

    /// An 8-aligned word that is read often: its address is checked now, and not at each use.
    ///
    /// # Errors
    ///
    /// [`PhysError`]
    pub fn word(&self, at: Spa) -> Result<PhysWord, PhysError> {
        Ok(PhysWord(core::ptr::from_ref(self.atomic(at)?) as usize))
    }

    /// Reads eight bytes at any address, little endian. Bytes that another processor writes meanwhile arrive old or new.
    ///
    /// # Errors
    ///
    /// [`PhysError::OutOfRange`]
    #[inline]
    pub fn read_u64_unaligned(&self, at: Spa) -> Result<u64, PhysError> {
        let pointer = self.pointer(at, 8)?;
        let value: u64;
        // SAFETY: the bytes are covered (checked) and mapped (contract of `new`). Being assembly, the access is no data
        // race whatever another processor does to them.
        unsafe {
            asm!("mov {value}, [{pointer}]", value = lateout(reg) value, pointer = in(reg) pointer,
                options(nostack, preserves_flags, readonly));
        }
        Ok(value)
    }

    /// Writes an 8-aligned word in one access (release).
    ///
    /// # Errors
    ///
    /// [`PhysError`]
    pub fn write_u64(&self, at: Spa, value: u64) -> Result<(), PhysError> {
        self.atomic(at)?.store(value, Ordering::Release);
        Ok(())
    }

    /// Replaces `old` by `new` in an 8-aligned word, in one access. Returns the word that was found: `old` on success.
    ///
    /// # Errors
    ///
    /// [`PhysError`]
    pub fn compare_exchange_u64(&self, at: Spa, old: u64, new: u64) -> Result<u64, PhysError> {
        let word = self.atomic(at)?;
        match word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(found) | Err(found) => Ok(found),
        }
    }

    /// Copies machine memory into `to`. Bytes that another processor writes meanwhile arrive old or new.
    ///
    /// # Errors
    ///
    /// [`PhysError::OutOfRange`], with nothing copied.
    pub fn copy_from(&self, from: Spa, to: &mut [u8]) -> Result<(), PhysError> {
        let source = self.pointer(from, to.len() as u64)?;
        // SAFETY: the source is covered (checked) and mapped (contract of `new`); the target is a live slice.
        unsafe { copy(source, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    /// Copies `from` into machine memory.
    ///
    /// # Errors
    ///
    /// [`PhysError::OutOfRange`], with nothing copied.
    pub fn copy_to(&self, to: Spa, from: &[u8]) -> Result<(), PhysError> {
        let target = self.pointer(to, from.len() as u64)?;
        // SAFETY: the target is covered (checked), mapped and not borrowed (contract of `new`); the source is a slice.
        unsafe { copy(from.as_ptr(), target, from.len()) };
        Ok(())
    }

    /// Fills a frame with zeros.
    ///
    /// # Errors
    ///
    /// [`PhysError::OutOfRange`]
    pub fn zero_page(&self, frame: Spfn) -> Result<(), PhysError> {
        let target = self.frame(frame)?;
        // SAFETY: a whole frame, covered (checked), mapped and not borrowed (contract of `new`).
        unsafe { fill(target, PAGE_SIZE / 8, 0) };
        Ok(())
    }

    /// Writes `value` to `count` words from `at` on.
    ///
    /// # Errors
    ///
    /// [`PhysError::OutOfRange`], with nothing written.
    pub fn fill(&self, at: Spa, count: u64, value: u64) -> Result<(), PhysError> {
        let bytes = count.checked_mul(8).ok_or(PhysError::OutOfRange)?;
        let target = self.pointer(at, bytes)?;
        // SAFETY: covered (checked), mapped and not borrowed (contract of `new`).
        unsafe { fill(target, count, value) };
        Ok(())
    }

    /// Copies a frame to another one.
    ///
    /// # Errors
    ///
    /// [`PhysError::OutOfRange`]
    pub fn copy_page(&self, from: Spfn, to: Spfn) -> Result<(), PhysError> {
        let source = self.frame(from)?;
        let target = self.frame(to)?;
        // SAFETY: whole frames, covered (checked), mapped and not borrowed (contract of `new`). A frame onto itself is
        // harmless for a string move.
        unsafe { copy(source, target, PAGE_SIZE as usize) };
        Ok(())
    }

    /// Where a frame is mapped, if it is. Dereferencing is the caller's `unsafe`, with the ownership to show for it.
    pub fn frame_ptr(&self, frame: Spfn) -> Option<NonNull<[u8; PAGE_SIZE as usize]>> {
        NonNull::new(self.frame(frame).ok()?.cast())
    }

    /// `len` objects of type `T` that lie at `at`, for tables that the boot code sets aside (the frame table).
    ///
    /// # Safety
    ///
    /// 1. The memory belongs to the caller and to nobody else, for ever.
    /// 2. Its bytes are valid values of `T` (all zeros are, for what the boot code makes).
    pub unsafe fn slice_mut<T>(&self, at: Spa, len: usize) -> Option<&'static mut [T]> {
        let bytes = (len as u64).checked_mul(size_of::<T>() as u64)?;
        let pointer = self.pointer(at, bytes).ok()?.cast::<T>();
        if pointer.is_null() || !pointer.is_aligned() {
            return None;
        }
        // SAFETY: covered and aligned (checked); exclusive and valid (this function's contract).
        Some(unsafe { core::slice::from_raw_parts_mut(pointer, len) })
    }

    fn frame(&self, frame: Spfn) -> Result<*mut u8, PhysError> {
        let start = frame
            .0
            .checked_mul(PAGE_SIZE)
            .ok_or(PhysError::OutOfRange)?;
        self.pointer(Spa(start), PAGE_SIZE)
    }
}

/// A word of machine memory that was found to be in the map: see [`PhysMap::word`].
#[derive(Clone, Copy, Debug)]
pub struct PhysWord(usize);

impl PhysWord {
    /// Its value, in one access (acquire).
    #[inline]
    pub fn read(self) -> u64 {
        // SAFETY: made by `PhysMap::word` only, which found it aligned and covered; the map stays as it is by the contract
        // of `PhysMap::new`, of which this counts as a copy.
        unsafe { AtomicU64::from_ptr(self.0 as *mut u64) }.load(Ordering::Acquire)
    }
}

/// Copies by string instructions: the compiler makes no assumption about what another processor does to the bytes.
///
/// # Safety
///
/// Both ranges of `len` bytes are mapped, the target writable and not borrowed.
unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the contract above. MOVS changes RCX, RSI, RDI and the target only; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsq", "mov rcx, {tail}", "rep movsb", tail = in(reg) len % 8,
            inout("rcx") len / 8 => _, inout("rsi") from => _, inout("rdi") to => _,
            options(nostack, preserves_flags));
    }
}

/// Writes `value` to `count` words.
///
/// # Safety
///
/// The target is mapped and writable for so many words; nothing has a Rust reference to it.
unsafe fn fill(target: *mut u8, count: u64, value: u64) {
    // SAFETY: the caller vouches for the target. STOSQ stores RCX words at RDI and changes nothing but these two; the
    // direction flag is clear by the ABI.
    unsafe {
        asm!("rep stosq", inout("rcx") count => _, inout("rdi") target => _, in("rax") value,
            options(nostack, preserves_flags));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::TestMemory;
    use super::*;

    #[test]
    fn words_are_checked_for_bounds_and_alignment() {
        let memory = TestMemory::new(2);
        let phys = memory.phys();
        assert_eq!(phys.write_u64(Spa(0x1008), 42), Ok(()));
        assert_eq!(phys.read_u64(Spa(0x1008)), Ok(42));
        assert_eq!(phys.read_u64(Spa(0x1004)), Err(PhysError::Misaligned));
        assert_eq!(phys.read_u64(Spa(phys.size() - 8)), Ok(0));
        assert_eq!(phys.read_u64(Spa(phys.size())), Err(PhysError::OutOfRange));
        assert_eq!(phys.read_u64(Spa(u64::MAX - 7)), Err(PhysError::OutOfRange));
    }

    #[test]
    fn a_checked_word_is_read_again_and_again() {
        let memory = TestMemory::new(2);
        let phys = memory.phys();
        let word = phys.word(Spa(0x1008)).unwrap();
        for value in [1, 2] {
            phys.write_u64(Spa(0x1008), value).unwrap();
            assert_eq!(word.read(), value);
        }
        assert_eq!(phys.word(Spa(0x1004)).err(), Some(PhysError::Misaligned));
        let end = phys.word(Spa(phys.size()));
        assert_eq!(end.err(), Some(PhysError::OutOfRange));
    }

    #[test]
    fn eight_bytes_at_any_address_are_little_endian() {
        let memory = TestMemory::new(2);
        let phys = memory.phys();
        phys.copy_to(Spa(0x1003), &[1, 2, 3, 4, 5, 6, 7, 8])
            .unwrap();
        let read = phys.read_u64_unaligned(Spa(0x1003));
        assert_eq!(read, Ok(0x0807_0605_0403_0201));
        let past = phys.read_u64_unaligned(Spa(phys.size() - 7));
        assert_eq!(past, Err(PhysError::OutOfRange));
    }

    #[test]
    fn compare_exchange_tells_what_it_found() {
        let memory = TestMemory::new(2);
        let phys = memory.phys();
        assert_eq!(phys.compare_exchange_u64(Spa(0), 0, 5), Ok(0));
        assert_eq!(phys.compare_exchange_u64(Spa(0), 0, 6), Ok(5));
        assert_eq!(phys.read_u64(Spa(0)), Ok(5));
    }

    #[test]
    fn copies_of_every_length_and_offset_move_exactly_their_bytes() {
        let memory = TestMemory::new(2);
        let phys = memory.phys();
        let pattern: [u8; 64] = core::array::from_fn(|i| i as u8 + 1);
        for offset in 0..9 {
            for len in 0..=33usize {
                phys.zero_page(Spfn(3)).unwrap();
                let at = Spa(0x3000 + 64 + offset);
                phys.copy_to(at, &pattern[..len]).unwrap();
                let mut back = [0; 66];
                phys.copy_from(Spa(at.0 - 1), &mut back).unwrap();
                assert_eq!(back[0], 0);
                assert_eq!(&back[1..=len], &pattern[..len]);
                assert!(back[len + 1..].iter().all(|&byte| byte == 0));
            }
        }
    }

    #[test]
    fn copies_over_the_end_copy_nothing() {
        let memory = TestMemory::new(2);
        let phys = memory.phys();
        let mut bytes = [7; 16];
        assert_eq!(
            phys.copy_from(Spa(phys.size() - 8), &mut bytes),
            Err(PhysError::OutOfRange)
        );
        assert_eq!(bytes, [7; 16]);
        assert_eq!(
            phys.copy_to(Spa(phys.size() - 8), &bytes),
            Err(PhysError::OutOfRange)
        );
        assert_eq!(phys.read_u64(Spa(phys.size() - 8)), Ok(0));
    }

    #[test]
    fn pages_are_zeroed_and_copied_whole() {
        let memory = TestMemory::new(2);
        let phys = memory.phys();
        phys.copy_to(Spa(0x1000), &[0xAB; 3 * 4096]).unwrap();
        phys.zero_page(Spfn(2)).unwrap();
        let mut bytes = [1; 3 * 4096];
        phys.copy_from(Spa(0x1000), &mut bytes).unwrap();
        assert!(
            bytes[..4096]
                .iter()
                .chain(&bytes[8192..])
                .all(|&byte| byte == 0xAB)
        );
        assert!(bytes[4096..8192].iter().all(|&byte| byte == 0));
        phys.fill(Spa(0x2008), 2, 0x0101_0101_0101_0101).unwrap();
        phys.copy_from(Spa(0x2000), &mut bytes[..32]).unwrap();
        assert_eq!(bytes[..32], [[0; 8], [1; 8], [1; 8], [0; 8]].concat());
        phys.copy_page(Spfn(1), Spfn(2)).unwrap();
        phys.copy_from(Spa(0x2000), &mut bytes[..4096]).unwrap();
        assert!(bytes[..4096].iter().all(|&byte| byte == 0xAB));
        assert_eq!(phys.zero_page(Spfn(512)), Err(PhysError::OutOfRange));
        assert_eq!(phys.zero_page(Spfn(1 << 60)), Err(PhysError::OutOfRange));
        let last = Spa(phys.size() - 8);
        assert_eq!(phys.fill(last, 2, 0), Err(PhysError::OutOfRange));
        assert_eq!(phys.fill(last, 1 << 61, 0), Err(PhysError::OutOfRange));
        assert_eq!(phys.frame_ptr(Spfn(512)), None);
    }
}
