//! What lies on the wire (sections 1 to 4, 7.2 and 9).

mod channel_message;
mod guid;
mod header;
pub mod interface;
mod packet;
mod version;

#[cfg(test)]
mod tests;

pub use channel_message::*;
pub use guid::*;
pub use header::*;
pub use packet::*;
pub use version::*;
