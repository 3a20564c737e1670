//! VMBus against a guest like Linux, and against one that does what it likes.

mod bulk;
mod dynamic;
mod guest;
mod hostile;
mod memory;
mod ready;
mod services;
