//! Each call led to each status that it promises.

mod log;
mod memory;
mod partition;
mod ports;
mod vp;

use guests::root::Root;

pub use log::call as log_call;

/// All calls.
pub fn all(root: &mut Root) {
    partition::life(root);
    partition::properties(root);
    partition::control_words(root);
    memory::pools(root);
    memory::maps(root);
    vp::life(root);
    vp::registers(root);
    vp::intercepts(root);
    vp::interrupts(root);
    vp::pages(root);
    log::all(root);
    vp::state(root);
    ports::all(root);
}
