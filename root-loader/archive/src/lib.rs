//! The boot archive: one file that carries everything the machine starts from (root image, worker, VM definitions, guest
//! kernels), and the PVH structures ([`start_info`]) by which it is handed from stage to stage.
//!
//! The format is in `docs/architecture.md`, "The boot archive". Three readers want three depths:
//!
//! * the hypervisor needs the loader's range and nothing else: [`HeaderView`], constant work, no digests;
//! * the root loader checks everything: [`Archive::open`], then [`Member::verify`] one by one;
//! * the root kernel trusts the loader's check and looks members up: [`Archive::member`].
//!
//! The writer ([`Builder`], and [`flatten`] for the loader) exists under the feature `std`, for build tools.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "std"))]
extern crate std;

#[cfg(any(test, feature = "std"))]
mod builder;
mod error;
#[cfg(any(test, feature = "std"))]
mod flatten;
mod format;
mod header;
mod reader;
pub mod start_info;
#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "std"))]
pub use builder::{BuildError, Builder};
pub use error::{ArchiveError, Damaged, NameFault};
#[cfg(any(test, feature = "std"))]
pub use flatten::{FlattenError, flatten};
pub use format::{ALIGNMENT, MAGIC, MAX_MEMBERS, MAX_NAME, VERSION};
pub use header::HeaderView;
pub use reader::{Archive, Member};

/// Feeds arbitrary bytes to both readers; must not panic, whatever the bytes. For the fuzz target and for tests.
pub fn fuzz(data: &[u8]) {
    if let Ok(view) = HeaderView::parse(data) {
        // A header that passed the small check promises a loader within the data.
        assert!(!view.loader().is_empty());
    }
    if let Ok(archive) = Archive::open(data) {
        for member in archive.members() {
            assert_eq!(
                archive.member(member.name()).map(|found| found.offset()),
                Some(member.offset())
            );
        }
        let _ = archive.verify();
    }
}
