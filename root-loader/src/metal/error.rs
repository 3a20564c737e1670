//! Why the root partition cannot be started, in words for whoever sits at the console.

use boot_archive::start_info::StartInfoError;
use boot_archive::{ArchiveError, Damaged};
use root_loader::image::ImageError;
use root_loader::paging::MapError;
use thiserror::Error;

/// Everything that ends the loader.
#[derive(Clone, Copy, Debug, Error)]
pub enum LoadError {
    /// The start info is unusable.
    #[error(transparent)]
    StartInfo(#[from] StartInfoError),
    /// No module.
    #[error("the start info has no module; module 0 must be the boot archive")]
    NoArchive,
    /// Too many memory map entries, or module addresses that wrap.
    #[error(
        "the memory map or the archive's address makes no sense; the hypervisor gave a wrong start info"
    )]
    MemoryMap,
    /// Not enough free RAM in one piece.
    #[error(
        "there are no {0} KiB of free memory in one piece for the {1}; the machine has too little memory"
    )]
    NoMemory(u64, &'static str),
    /// The archive is unusable.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A member is damaged.
    #[error(transparent)]
    Member(#[from] Damaged<'static>),
    /// No member `root`.
    #[error("the boot archive has no member \"root\"; build the image again")]
    NoRoot,
    /// The root image is unusable.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A mapping failed.
    #[error(transparent)]
    Map(#[from] MapError),
}
