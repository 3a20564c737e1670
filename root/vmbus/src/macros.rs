//! The shapes of which everything on the wire is made, as in `tlfs`: they accept every bit pattern.

/// Declares an open enumeration: a transparent integer with named constants. A value without a name is a value too.
macro_rules! wire_enum {
    (
        $(#[$outer:meta])*
        pub struct $ty:ident($repr:ident);
        $( $(#[$inner:meta])* $konst:ident = $value:literal, $name:literal; )*
    ) => {
        $(#[$outer])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
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

            /// The usual name of this value, `None` if it has none.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $( $value => Some($name), )*
                    _ => None,
                }
            }
        }

        impl core::fmt::Debug for $ty {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!(stringify!($ty), "({:#x})"), self.0),
                }
            }
        }
    };
}
pub(crate) use wire_enum;

/// Declares a structure of the wire with its size in brackets and the offset of every field after `@`. Both are checked
/// by the compiler, and that there is no hidden padding.
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
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
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
