//! AMD SVM.

mod bits;
mod codec;
mod enable;
mod events;
mod exits;
mod hardware;
mod nmi;
mod permissions;
mod registers;
mod run;
#[cfg(any(test, feature = "test-support"))]
mod testing;
#[cfg(test)]
mod tests;
mod vcpu;
mod vmcb;

pub use enable::{Capabilities, Processor, probe};
pub use permissions::PERMISSIONS;
pub use vcpu::Vcpu;
