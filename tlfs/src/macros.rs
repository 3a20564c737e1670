//! The three shapes of which everything on the wire is made.
//!
//! All of them accept every bit pattern: what a guest or a root sends is a value before it is a valid value. The two
//! that are exported are for the protocols of other crates that lie on the TLFS, which have `zerocopy` of their own:
//! its derives name it.

/// Declares an open enumeration: a transparent integer with named constants.
///
/// A value without a name is as good a value as any other; `name()` tells which ones the specification names.
#[macro_export]
macro_rules! wire_enum {
    (
        $(#[$outer:meta])*
        pub struct $ty:ident($repr:ident);
        $( $(#[$inner:meta])* $konst:ident = $value:literal, $name:literal; )*
    ) => {
        $(#[$outer])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
            ::zerocopy::FromBytes, ::zerocopy::IntoBytes, ::zerocopy::Immutable, ::zerocopy::KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $ty(pub $repr);

        impl $ty {
            $(
                #[doc = concat!("`", $name, "` = `", stringify!($value), "`.")]
                #[doc = ""]
                $(#[$inner])*
                pub const $konst: Self = Self($value);
            )*

            /// Every value that has a name, in the order of the declaration.
            pub const NAMED: &'static [Self] = &[$( Self($value) ),*];

            /// The value of an integer; every integer is one.
            pub const fn from_bits(bits: $repr) -> Self {
                Self(bits)
            }

            /// The integer of this value.
            pub const fn into_bits(self) -> $repr {
                self.0
            }

            /// The specification's name of this value, `None` if it has none.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $( $value => Some($name), )*
                    _ => None,
                }
            }
        }

        impl ::core::fmt::Debug for $ty {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($ty), "({:#x})"), self.0),
                }
            }
        }

        impl From<$repr> for $ty {
            fn from(value: $repr) -> Self {
                Self(value)
            }
        }

        impl From<$ty> for $repr {
            fn from(value: $ty) -> Self {
                value.0
            }
        }
    };
}
pub(crate) use wire_enum;

/// Declares a set of flags: a transparent integer with `bitflags` operations. Bits without a name are kept.
macro_rules! wire_flags {
    (
        $(#[$outer:meta])*
        pub struct $ty:ident($repr:ident);
        $( $(#[$inner:ident $($args:tt)*])* $konst:ident = $value:expr; )*
    ) => {
        $(#[$outer])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $ty(pub $repr);

        bitflags::bitflags! {
            impl $ty: $repr {
                $( $(#[$inner $($args)*])* const $konst = $value; )*
                const _ = !0;
            }
        }

        impl core::fmt::Debug for $ty {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!(stringify!($ty), "({:#x}: "), self.0)?;
                bitflags::parser::to_writer(self, &mut *f)?;
                f.write_str(")")
            }
        }
    };
}
pub(crate) use wire_flags;

/// Declares a structure of the interface with its size in brackets and the offset of every field after `@`.
/// Size and offsets are checked by the compiler, and that there is no hidden padding.
#[macro_export]
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
            ::zerocopy::FromBytes, ::zerocopy::IntoBytes, ::zerocopy::Immutable, ::zerocopy::KnownLayout,
        )]
        #[repr(C)]
        pub struct $ty {
            $( $(#[$inner])* pub $field: $fty, )*
        }

        const _: () = {
            assert!(::core::mem::size_of::<$ty>() == $size);
            $( assert!(::core::mem::offset_of!($ty, $field) == $offset); )*
        };

        impl Default for $ty {
            /// All bytes zero.
            fn default() -> Self {
                <Self as ::zerocopy::FromZeros>::new_zeroed()
            }
        }
    };
}
pub(crate) use wire_struct;
