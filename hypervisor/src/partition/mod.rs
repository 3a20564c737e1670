//! Partitions and their virtual processors.

pub mod cpuid;
