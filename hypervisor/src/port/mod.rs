//! Ports and connections: how a partition sends messages and events to another one without its parent (TLFS,
//! "Inter-Partition Communication"; root sheet C.1).
//!
//! A port is the receiver's, and names a SINT of its; a connection is the sender's name for it. Each port has one connection
//! at most, and both ends name each other by ids that are not used again: a send that finds only one of them fails.
//!
//! A message that finds its slot full, or the SynIC off, waits in its port, and the SynIC of its VP knows that something waits
//! for the SINT ([`crate::synic::VpSynic::wait`]): the VP's processor looks again when a slot may have become free. Events do
//! not wait; a flag is set or it is not.

mod objects;
mod queue;
mod table;

#[cfg(test)]
mod tests;

pub use objects::{Objects, Room};
pub use queue::{HV_PORT_MESSAGE_BUFFERS, MessageQueue};
pub use table::{Connection, Connections, Kind, Port, Ports, Signals, Synics, Target};
