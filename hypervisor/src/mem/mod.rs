//! Machine memory: addresses, ownership, translations.

pub mod addr;
pub mod format;
pub mod frames;
pub mod guest_walk;
pub mod mtrr;
pub mod page_box;
pub mod phys;
pub mod table;
#[cfg(any(test, feature = "test-support"))]
pub mod testing;
pub mod tlb;
