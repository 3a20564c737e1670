//! Layouts of key/value packets (Linux: `include/uapi/linux/hyperv.h`), and their strings.

use alloc::string::String;

use tlfs::{wire_enum, wire_struct};
use zerocopy::Unaligned;
use zerocopy::little_endian::U32;

use crate::service::DeadReason;

/// Bytes of a key's field: 255 UTF-16 units and a zero.
pub const KEY_FIELD: usize = 512;

/// Bytes of a value's field: 1023 UTF-16 units and a zero.
pub const VALUE_FIELD: usize = 2048;

wire_enum! {
    /// What is asked for (`enum hv_kvp_exchg_op`).
    pub struct Operation(u8);
    /// The value of a key. Not used: Linux' `kvp_respond_to_host` takes the value from where an enumeration has it, 4
    /// bytes too far, so that the first four characters are missing.
    GET = 0, "GET";
    /// Sets a key's value.
    SET = 1, "SET";
    /// Deletes a key.
    DELETE = 2, "DELETE";
    /// The key and value at an index.
    ENUMERATE = 3, "ENUMERATE";
}

wire_enum! {
    /// Where pairs live (`enum hv_kvp_exchg_pool`).
    pub struct Pool(u8);
    /// What the host gives to the guest.
    EXTERNAL = 0, "EXTERNAL";
    /// What programs in the guest give to the host.
    GUEST = 1, "GUEST";
    /// What the guest's daemon says about its system.
    AUTO = 2, "AUTO";
}

wire_enum! {
    /// How a value is encoded. The numbers are those of Windows' registry.
    pub struct ValueType(u32);
    /// UTF-16 text. All that Linux sends.
    TEXT = 1, "TEXT";
    /// Text with variables in it.
    EXPAND_TEXT = 2, "EXPAND_TEXT";
    /// A u32.
    U32 = 4, "U32";
    /// A u64 as Linux numbers it.
    U64_LINUX = 8, "U64_LINUX";
    /// A u64 as the registry numbers it.
    U64 = 11, "U64";
}

wire_struct! {
    /// In front of every request.
    #[derive(Unaligned)]
    pub struct KvpHeader [4] {
        /// [`Operation`].
        operation @ 0: u8,
        /// [`Pool`].
        pool @ 1: u8,
        /// Zero.
        reserved @ 2: [u8; 2],
    }
}

wire_struct! {
    /// A key and its value.
    #[derive(Unaligned)]
    pub struct Pair [2572] {
        /// [`ValueType`].
        value_type @ 0: U32,
        /// Bytes of the key, with its zero.
        key_size @ 4: U32,
        /// Bytes of the value, with a text's zero.
        value_size @ 8: U32,
        /// The key, UTF-16.
        key @ 12: [u8; KEY_FIELD],
        /// The value.
        value @ 524: [u8; VALUE_FIELD],
    }
}

wire_struct! {
    /// Asks for the pair at an index; the answer has it filled in.
    #[derive(Unaligned)]
    pub struct Enumerate [2580] {
        /// ENUMERATE, and the pool.
        header @ 0: KvpHeader,
        /// From 0 on, until the status is not OK.
        index @ 4: U32,
        /// Filled in by the guest.
        pair @ 8: Pair,
    }
}

wire_struct! {
    /// Sets a pair. As long as [`Enumerate`], as all requests of Hyper-V are.
    #[derive(Unaligned)]
    pub struct Set [2580] {
        /// SET, and the pool.
        header @ 0: KvpHeader,
        /// What to set.
        pair @ 4: Pair,
        /// Zero.
        reserved @ 2576: [u8; 4],
    }
}

wire_struct! {
    /// Deletes a key. As long as [`Enumerate`].
    #[derive(Unaligned)]
    pub struct Delete [2580] {
        /// DELETE, and the pool.
        header @ 0: KvpHeader,
        /// Bytes of the key, with its zero.
        key_size @ 4: U32,
        /// The key, UTF-16.
        key @ 8: [u8; KEY_FIELD],
        /// Zero.
        reserved @ 520: [u8; 2060],
    }
}

/// The bytes of a field that the guest says are in use.
///
/// # Errors
///
/// It says that there are more than the field has.
pub(crate) fn used(field: &[u8], size: u32) -> Result<&[u8], DeadReason> {
    let in_use = usize::try_from(size)
        .ok()
        .and_then(|size| field.get(..size));
    in_use.ok_or(DeadReason::FieldSize {
        size,
        limit: field.len(),
    })
}

/// The text of UTF-16 bytes, up to a zero if there is one. What is no UTF-16 becomes U+FFFD; half a unit is dropped.
pub(crate) fn text(bytes: &[u8]) -> String {
    let (pairs, _) = bytes.as_chunks::<2>();
    let units = pairs
        .iter()
        .map(|&pair| u16::from_le_bytes(pair))
        .take_while(|&unit| unit != 0);
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// Writes a text and its zero into a field of zeros. The size in bytes with the zero, `None` if it does not fit or
/// has a zero inside, which the guest would take for its end.
pub(crate) fn put_text(field: &mut [u8], text: &str) -> Option<U32> {
    let (slots, _) = field.as_chunks_mut::<2>();
    let units = text.encode_utf16().count();
    if units >= slots.len() || text.contains('\0') {
        return None;
    }
    for (slot, unit) in slots.iter_mut().zip(text.encode_utf16()) {
        *slot = unit.to_le_bytes();
    }
    let size = units.checked_add(1)?.checked_mul(2)?;
    u32::try_from(size).ok().map(U32::new)
}
