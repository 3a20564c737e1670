//! Our layouts and numbers against those of `mshv-bindings`, which are generated from Microsoft's Linux headers.
#![cfg(target_arch = "x86_64")]

mod bits;
mod layouts;
mod numbers;
