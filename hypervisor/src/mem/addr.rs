//! Addresses are types: mixing them does not compile.

macro_rules! address {
    ($(#[$doc:meta])* $name:ident, $(#[$pdoc:meta])* $page:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        $(#[$pdoc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $page(pub u64);

        impl $name {
            /// The page that holds this address.
            pub const fn page(self) -> $page {
                $page(self.0 >> PAGE_SHIFT)
            }

            /// Offset within the 4 KiB page.
            pub const fn offset(self) -> usize {
                (self.0 & (PAGE_SIZE - 1)) as usize
            }

            /// The address `bytes` further on, unless it wraps.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// Whether the address is a multiple of `align`, a power of two.
            pub const fn is_aligned(self, align: u64) -> bool {
                self.0 & (align - 1) == 0
            }
        }

        impl $page {
            /// First address of the page. The top 12 bits of a page number that is no page number are lost.
            pub const fn address(self) -> $name {
                $name(self.0 << PAGE_SHIFT)
            }

            /// Whether the number is a multiple of `pages`, a power of two.
            pub const fn is_aligned(self, pages: u64) -> bool {
                self.0 & (pages - 1) == 0
            }

            /// The page `pages` further on, unless it wraps.
            pub const fn checked_add(self, pages: u64) -> Option<Self> {
                match self.0.checked_add(pages) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }
        }

        impl PageNumber for $page {
            fn from_number(number: u64) -> Self {
                Self(number)
            }

            fn number(self) -> u64 {
                self.0
            }
        }
    };
}

/// A page number of some address space: what a page table translates from.
pub trait PageNumber: Copy + Ord + core::fmt::Debug {
    /// The page with this number.
    fn from_number(number: u64) -> Self;

    /// Its number: the address divided by 4096.
    fn number(self) -> u64;
}

/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// Bytes of a page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

address!(
    /// System physical address: of the machine.
    Spa,
    /// Number of a frame of machine memory.
    Spfn
);
address!(
    /// Guest physical address: of a partition.
    Gpa,
    /// Number of a page of a partition's guest physical space.
    Gpfn
);
address!(
    /// Guest virtual address: of a VP.
    Gva,
    /// Number of a page of a VP's virtual space.
    Gvpn
);
