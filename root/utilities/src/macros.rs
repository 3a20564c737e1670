//! The two shapes of which the packets are made. Both accept every bit pattern.

/// Declares an open enumeration: a transparent integer with named constants. A value without a name is a value.
macro_rules! wire_enum {
    (
        $(#[$outer:meta])*
        pub struct $ty:ident($repr:ident);
        $( $(#[$inner:meta])* $konst:ident = $value:literal; )*
    ) => {
        $(#[$outer])*
        #[derive(Clone, Copy, PartialEq, Eq, Default)]
        pub struct $ty(pub $repr);

        impl $ty {
            $( $(#[$inner])* pub const $konst: Self = Self($value); )*
        }

        impl core::fmt::Debug for $ty {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.0 {
                    $( $value => f.write_str(stringify!($konst)), )*
                    other => write!(f, concat!(stringify!($ty), "({:#x})"), other),
                }
            }
        }
    };
}
pub(crate) use wire_enum;

/// Declares a structure of the wire with its size in brackets and each field's offset after `@`; the compiler checks
/// both. Fields are bytes or little-endian integers without alignment, because bodies begin at offset 28.
macro_rules! wire_struct {
    (
        $(#[$outer:meta])*
        pub struct $ty:ident [$size:literal] {
            $( $(#[$inner:meta])* $field:ident @ $offset:literal : $fty:ty, )*
        }
    ) => {
        $(#[$outer])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout, zerocopy::Unaligned,
        )]
        #[repr(C)]
        pub struct $ty {
            $( $(#[$inner])* pub $field: $fty, )*
        }

        const _: () = {
            assert!(core::mem::size_of::<$ty>() == $size);
            $( assert!(core::mem::offset_of!($ty, $field) == $offset); )*
        };

        impl Default for $ty {
            /// All bytes zero.
            fn default() -> Self {
                <Self as zerocopy::FromZeros>::new_zeroed()
            }
        }
    };
}
pub(crate) use wire_struct;
