//! The root kernel as the worker's system.

use core::arch::asm;
use core::arch::x86_64::__cpuid;
use core::ops::Range;
use core::ptr;

use board::layout::{PAGE, RamLayout};
use manager::WorkerNews;
use root_abi::{
    Call, CreatePartition, Error, Event, GuestMemory, Hvcall, MemoryOrder, NO_VP, VpPages,
};
use tlfs::{HvCallCode, HvMessage, HvPartitionCreationFlags, HvStatus, HvX64RegisterPage};
use worker::{CallError, System, VpState};

use super::calls::{check, on_pages, plain, syscall, tell};
use super::heap;
use super::ram::MappedRam;

/// [`GuestMemory::flags`]: writable and executable.
const WRITABLE_EXECUTABLE: u64 = 0b11;

/// The root kernel.
pub struct Kernel;

/// The state pages of a VP.
pub struct MappedVp {
    registers: *mut HvX64RegisterPage,
    intercept: *const HvMessage,
}

impl VpState for MappedVp {
    fn pages(&mut self) -> (&mut HvX64RegisterPage, &HvMessage) {
        // SAFETY: 1. The kernel maps both pages for the rest of the process's life. 2. The hypervisor changes them only
        // while the VP runs; the worker asks for them only after an intercept, when the VP is suspended, and gives the
        // references back before it resumes the VP. 3. They are two different pages.
        unsafe { (&mut *self.registers, &*self.intercept) }
    }
}

impl System for Kernel {
    type Ram = MappedRam;
    type Vp = MappedVp;

    #[inline]
    fn wait(&mut self, deadline: u64, resume: Option<u32>) -> Result<Event, CallError> {
        let mut event = Event::default();
        let resume = resume.map_or(NO_VP, u64::from);
        let address = &raw mut event as u64;
        // SAFETY: the kernel writes one event to the place that is borrowed for it.
        let result = unsafe { syscall(Call::Wait, [address, deadline, resume]) };
        check("wait", result)?;
        Ok(event)
    }

    fn hypercall(
        &mut self,
        code: HvCallCode,
        reps: u16,
        input: &mut [u8],
        output: &mut [u8],
    ) -> Result<(), CallError> {
        let mut arguments = Hvcall {
            code: code.0,
            reps,
            input_size: input.len() as u16,
            output_size: output.len() as u16,
            input: input.as_mut_ptr() as u64,
            output: output.as_mut_ptr() as u64,
            ..Default::default()
        };
        let address = &raw mut arguments as u64;
        // SAFETY: the kernel reads and writes the block and the two buffers, all of which are borrowed for it.
        let result = unsafe { syscall(Call::Hvcall, [address, 0, 0]) };
        let status = HvStatus(arguments.status);
        if status != HvStatus::SUCCESS {
            return Err(CallError::Hypercall { code, status });
        }
        check("hvcall", result).map(|_| ())
    }

    fn create_partition(&mut self, flags: HvPartitionCreationFlags) -> Result<(), CallError> {
        let arguments = CreatePartition {
            flags: flags.0,
            synthetic_features: 0,
        };
        let address = &raw const arguments as u64;
        // SAFETY: the kernel reads the block.
        let result = unsafe { syscall(Call::CreatePartition, [address, 0, 0]) };
        check("create_partition", result).map(|_| ())
    }

    fn initialize_partition(&mut self) -> Result<(), CallError> {
        plain(Call::InitializePartition, "initialize_partition", 0).map(|_| ())
    }

    fn create_ram(&mut self, startup: u64, reach: u64) -> Result<MappedRam, CallError> {
        let layout = RamLayout::new(reach);
        let [low, high] = layout.regions();
        let (low, high) = (add_range(low)?, add_range(high)?);
        for region in RamLayout::new(startup).regions() {
            let pages = region.start / PAGE..region.end / PAGE;
            let count = pages.end - pages.start;
            if count != 0 && self.back_ram(pages)? < count {
                return Err(CallError::System {
                    call: "back_guest_memory",
                    error: Error::NoMemory as i64,
                });
            }
        }
        // SAFETY: the kernel keeps both ranges of addresses for the RAM, the one above 4 GiB if there is such RAM, and has just put
        // memory behind the first `startup` bytes. Nothing refers to them.
        Ok(unsafe { MappedRam::new(layout, startup, low, high) })
    }

    fn allow_books(&mut self, bytes: u64) {
        heap::allow(bytes);
    }

    fn back_ram(&mut self, pages: Range<u64>) -> Result<u64, CallError> {
        on_pages(Call::BackGuestMemory, "back_guest_memory", pages)
    }

    fn take_ram(&mut self, pages: Range<u64>) -> Result<u64, CallError> {
        on_pages(Call::TakeGuestMemory, "take_guest_memory", pages)
    }

    fn memory_order(&mut self) -> Option<MemoryOrder> {
        let mut order = MemoryOrder::default();
        let address = &raw mut order as u64;
        // SAFETY: the kernel writes one order to the place that is borrowed for it.
        let result = unsafe { syscall(Call::MemoryOrder, [address, 0, 0]) };
        check("memory_order", result).ok().map(|_| order)
    }

    fn create_vp(&mut self, index: u32) -> Result<MappedVp, CallError> {
        let mut pages = VpPages::default();
        let address = &raw mut pages as u64;
        // SAFETY: the kernel writes one block to the place that is borrowed for it.
        let result = unsafe { syscall(Call::CreateVp, [u64::from(index), address, 0]) };
        check("create_vp", result)?;
        Ok(MappedVp {
            registers: pages.registers as *mut HvX64RegisterPage,
            intercept: pages.intercept as *const HvMessage,
        })
    }

    fn reference_time(&mut self) -> u64 {
        plain(Call::ReferenceTime, "reference_time", 0).unwrap_or_default()
    }

    fn wall_clock(&mut self) -> i64 {
        let seconds = plain(Call::WallClock, "wall_clock", 0).unwrap_or_default();
        i64::try_from(seconds).unwrap_or_default()
    }

    fn random(&mut self) -> Option<[u8; 32]> {
        const RDRAND: u32 = 1 << 30;
        if __cpuid(1).ecx & RDRAND == 0 {
            return None;
        }
        let mut seed = [0; 32];
        for chunk in seed.chunks_exact_mut(8) {
            chunk.copy_from_slice(&random_word()?.to_le_bytes());
        }
        Some(seed)
    }

    fn console_write(&mut self, bytes: &[u8]) {
        // SAFETY: the bytes are a live slice; the kernel reads them.
        unsafe {
            syscall(
                Call::ConsoleWrite,
                [bytes.as_ptr() as u64, bytes.len() as u64, 0],
            )
        };
    }

    fn console_read<'a>(&mut self, buffer: &'a mut [u8]) -> &'a [u8] {
        let (address, len) = (buffer.as_mut_ptr() as u64, buffer.len() as u64);
        // SAFETY: the kernel writes to the buffer, which is borrowed for it.
        let result = unsafe { syscall(Call::ConsoleRead, [address, len, 0]) };
        buffer
            .get(..usize::try_from(result).unwrap_or(0))
            .unwrap_or_default()
    }

    fn tell(&mut self, news: &WorkerNews<'_>) {
        tell(news);
    }

    fn misbehave(&mut self, how: u32) {
        match how {
            1 => panic!("asked to panic"),
            2 => {
                let kernel = 0xFFFF_8000_0000_0000u64 as *mut u64;
                // SAFETY: none. This is the wild write that the kernel's page tables have to stop.
                unsafe { kernel.write_volatile(0xDEAD_BEEF) };
            }
            3 => loop {
                core::hint::spin_loop();
            },
            _ => {}
        }
    }
}

/// Addresses for a region of the guest's RAM, without memory; null if there is no such RAM.
fn add_range(region: Range<u64>) -> Result<*mut u8, CallError> {
    if region.is_empty() {
        return Ok(ptr::null_mut());
    }
    let arguments = GuestMemory {
        pages: (region.end - region.start) / PAGE,
        guest_pfn: region.start / PAGE,
        flags: WRITABLE_EXECUTABLE,
    };
    let address = &raw const arguments as u64;
    // SAFETY: the kernel reads the block.
    let result = unsafe { syscall(Call::AddGuestMemory, [address, 0, 0]) };
    check("add_guest_memory", result).map(|address| address as *mut u8)
}

/// 64 random bits from the processor, which may need a few tries.
fn random_word() -> Option<u64> {
    for _ in 0..10 {
        let (word, done): (u64, u8);
        // SAFETY: the processor has the instruction (checked by the caller); it changes a register and flags.
        unsafe {
            asm!(
                "rdrand {word}",
                "setc {done}",
                word = out(reg) word,
                done = out(reg_byte) done,
                options(nomem, nostack),
            );
        }
        if done != 0 {
            return Some(word);
        }
    }
    None
}
