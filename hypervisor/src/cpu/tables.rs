//! GDT, TSS and IDT of one processor.

use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::instructions::tables::{lgdt, lidt, load_tss};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::SegmentSelector;
use x86_64::structures::tss::TaskStateSegment;

use super::exceptions;

const CODE: u16 = 0x08;
const DATA: u16 = 0x10;
const TSS: u16 = 0x18;
/// Present 64-bit code segment, ring 0, accessed.
pub const CODE_DESCRIPTOR: u64 = 0x00AF_9B00_0000_FFFF;
/// Present data segment, ring 0, accessed.
pub const DATA_DESCRIPTOR: u64 = 0x00CF_9300_0000_FFFF;
/// Present interrupt gate, ring 0.
const INTERRUPT_GATE: u64 = 0x8E;

/// Tops of the stacks for exceptions that may find the current stack unusable.
#[derive(Clone, Copy, Debug)]
pub struct ExceptionStacks {
    /// NMI.
    pub nmi: u64,
    /// Double fault.
    pub double_fault: u64,
    /// Machine check.
    pub machine_check: u64,
}

/// The tables of one processor.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Tables {
    idt: [[u64; 2]; 256],
    gdt: [u64; 5],
    tss: TaskStateSegment,
}

impl Tables {
    /// Empty tables.
    pub(super) const fn new() -> Self {
        Self {
            idt: [[0; 2]; 256],
            gdt: [0; 5],
            tss: TaskStateSegment::new(),
        }
    }

    /// Fills them in. They must not move any more.
    pub(super) fn prepare(&mut self, stacks: &ExceptionStacks) {
        let tops = [stacks.nmi, stacks.double_fault, stacks.machine_check];
        // The structure is packed: its fields are written whole.
        let mut table = [VirtAddr::zero(); 7];
        for (slot, top) in table.iter_mut().zip(tops) {
            *slot = VirtAddr::new(top);
        }
        self.tss.interrupt_stack_table = table;
        let [low, high] = tss_descriptor(&raw const self.tss as u64);
        self.gdt = [0, CODE_DESCRIPTOR, DATA_DESCRIPTOR, low, high];
        for (vector, slot) in self.idt.iter_mut().enumerate() {
            // Numbers in the TSS, from 1; 0 stays on the current stack.
            let stack = match vector {
                2 => 1,
                8 => 2,
                18 => 3,
                _ => 0,
            };
            *slot = gate(exceptions::entry_point(vector), stack);
        }
    }

    /// Makes the processor use them.
    ///
    /// # Safety
    /// Ring 0, interrupts off; `prepare` has run; the tables stay where they are.
    pub(super) unsafe fn load(&'static self) {
        let pointer = |address: u64, bytes: usize| DescriptorTablePointer {
            limit: (bytes - 1) as u16,
            base: VirtAddr::new(address),
        };
        // SAFETY: complete tables that live for ever; the selectors are those of the GDT just loaded.
        unsafe {
            lgdt(&pointer(&raw const self.gdt as u64, size_of_val(&self.gdt)));
            CS::set_reg(SegmentSelector(CODE));
            for set in [SS::set_reg, DS::set_reg, ES::set_reg] {
                set(SegmentSelector(DATA));
            }
            FS::set_reg(SegmentSelector(0));
            GS::set_reg(SegmentSelector(0));
            load_tss(SegmentSelector(TSS));
            lidt(&pointer(&raw const self.idt as u64, size_of_val(&self.idt)));
        }
    }
}

/// An available 64-bit TSS.
const fn tss_descriptor(base: u64) -> [u64; 2] {
    let limit = size_of::<TaskStateSegment>() as u64 - 1;
    let low = limit | (base & 0xFF_FFFF) << 16 | 0x89 << 40 | (base >> 24 & 0xFF) << 56;
    [low, base >> 32]
}

/// An interrupt gate to `target` on interrupt stack `stack` (0: the current one).
const fn gate(target: u64, stack: u64) -> [u64; 2] {
    let low = target & 0xFFFF
        | (CODE as u64) << 16
        | stack << 32
        | INTERRUPT_GATE << 40
        | (target >> 16 & 0xFFFF) << 48;
    [low, target >> 32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_and_tss_split_the_address_as_the_manual_says() {
        let [low, high] = gate(0xFFFF_8000_1234_5678, 2);
        assert_eq!(low, 0x1234_8E02_0008_5678);
        assert_eq!(high, 0xFFFF_8000);
        let [low, high] = tss_descriptor(0xFFFF_8000_1234_5678);
        assert_eq!(low, 0x1200_8934_5678_0067);
        assert_eq!(high, 0xFFFF_8000);
    }

    #[test]
    fn every_vector_has_a_gate_and_the_dangerous_ones_a_stack() {
        let mut tables = Tables::new();
        tables.prepare(&ExceptionStacks {
            nmi: 0x1000,
            double_fault: 0x2000,
            machine_check: 0x3000,
        });
        for (vector, [low, _]) in tables.idt.iter().enumerate() {
            assert_eq!(low >> 40 & 0xFF, 0x8E, "vector {vector}");
            let stack = low >> 32 & 7;
            assert_eq!(stack != 0, [2, 8, 18].contains(&vector), "vector {vector}");
        }
    }
}
