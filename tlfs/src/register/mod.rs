//! Registers of a virtual processor: their names, their values, and the structure of the odd ones.

mod name;
mod state;
mod value;

pub use name::*;
pub use state::*;
pub use value::*;
