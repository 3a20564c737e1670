//! Machine memory: addresses, ownership, translations.

pub mod addr;
