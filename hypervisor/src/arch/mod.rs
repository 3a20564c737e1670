//! The processor's virtualization, behind one fixed set of names.
//!
//! `svm` (and later `vmx`) export the same items; [`VpHw`] picks one at run time. Nothing outside this folder knows
//! which vendor it is. Everything here but [`VpHw::run`] works on memory alone, so it runs in host tests too.

pub mod exit;
pub mod svm;
