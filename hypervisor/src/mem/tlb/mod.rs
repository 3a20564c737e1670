//! No VP uses a translation that was removed.
//!
//! TLB entries carry a tag (ASID, VPID) and survive world switches, on every processor where a VP ever ran. Instead of
//! telling all of them, each partition's tables have a generation ([`Domain`]): whoever removes or narrows a
//! translation makes a new one, and a VP that enters with an older one flushes first. Only processors that are in the guest
//! at this moment have to be told, and waited for:
//!
//! | Remover | Processor that enters | Processor that leaves |
//! |---|---|---|
//! | 1. change the entries | 1. publish domain and generation in its [`CpuMark`] | 1. clear the mark, first thing |
//! | 2. new generation | 2. read the generation again; if it is new, once more | |
//! | 3. look at all marks: kick who shows an older one | 3. flush as [`TagDecision`] says, enter | |
//! | 4. wait until none does ([`Shootdown::is_done`]) | | |
//!
//! Steps 2 and 3 of the remover and 1 and 2 of the other are sequentially consistent: at least one sees the other. From
//! the publication until the processor is in the guest, the kick (an interrupt or NMI that causes an exit) must stay
//! pending, so interrupts are off there. Leaving needs no lock, so a remover may hold locks while it waits.
//!
//! A flush that a guest asks for (TLB hypercalls, for VPs elsewhere) can be made of the same: [`Domain::shoot_down`].

mod mark;
#[cfg(test)]
mod model;
mod tags;
#[cfg(test)]
mod tests;

pub use mark::{CpuMark, Domain, Shootdown};
pub use tags::{CpuTags, Flush, TagDecision, TagKind, VpTag, enter};
