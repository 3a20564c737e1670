//! The writer, for build tools.

use std::string::String;
use std::vec::Vec;

use thiserror::Error;
use zerocopy::IntoBytes;

use crate::error::NameFault;
use crate::format::{self, ALIGNMENT, MAX_MEMBERS, MAX_NAME, RawHeader, RawMember};
use crate::reader::check_name;

/// Why an archive cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BuildError {
    /// A member's name is not allowed.
    #[error("member \"{name}\" cannot be added: its name is not valid: {fault}")]
    Name {
        /// The name given.
        name: String,
        /// What is wrong.
        fault: NameFault,
    },
    /// More than 256 members.
    #[error("member \"{0}\" cannot be added: an archive holds at most 256 members")]
    TooMany(String),
    /// No loader, or one that is not flattened to whole pages.
    #[error(
        "the loader image has {0} bytes; it must be a flat image of whole 4096-byte pages, not empty"
    )]
    Loader(usize),
}

/// Collects members and a loader and lays them out.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    loader: Vec<u8>,
    members: Vec<(String, Vec<u8>)>,
}

impl Builder {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the flat loader image, which the hypervisor copies and starts: whole pages, zeroed data included.
    ///
    /// # Errors
    /// [`BuildError::Loader`] for an image that is empty or no multiple of 4096 bytes long.
    pub fn loader(&mut self, image: Vec<u8>) -> Result<&mut Self, BuildError> {
        if image.is_empty() || !image.len().is_multiple_of(ALIGNMENT as usize) {
            return Err(BuildError::Loader(image.len()));
        }
        self.loader = image;
        Ok(self)
    }

    /// Adds a member.
    ///
    /// # Errors
    /// [`BuildError`] if the name is not allowed or taken, or there are 256 members already.
    pub fn member(
        &mut self,
        name: &str,
        content: impl Into<Vec<u8>>,
    ) -> Result<&mut Self, BuildError> {
        let bad = |fault| BuildError::Name {
            name: name.into(),
            fault,
        };
        check_name(name).map_err(bad)?;
        if self.members.iter().any(|(other, _)| other == name) {
            return Err(bad(NameFault::Duplicate));
        }
        if self.members.len() >= MAX_MEMBERS {
            return Err(BuildError::TooMany(name.into()));
        }
        self.members.push((name.into(), content.into()));
        Ok(self)
    }

    /// Lays the archive out: header, loader, members in the order in which they were added.
    ///
    /// # Errors
    /// [`BuildError::Loader`] if no loader was set.
    pub fn build(&self) -> Result<Vec<u8>, BuildError> {
        if self.loader.is_empty() {
            return Err(BuildError::Loader(0));
        }
        let header_length = format::header_length(self.members.len());
        let mut bytes = std::vec![0; header_length];
        let loader_offset = append(&mut bytes, &self.loader);
        let mut entries = Vec::with_capacity(self.members.len());
        for (name, content) in &self.members {
            let offset = append(&mut bytes, content);
            entries.push(entry(name, content, offset));
        }
        pad(&mut bytes);
        let mut header = RawHeader {
            magic: format::MAGIC,
            version: format::VERSION.into(),
            member_count: (self.members.len() as u32).into(),
            total_length: (bytes.len() as u64).into(),
            loader_offset: loader_offset.into(),
            loader_length: (self.loader.len() as u64).into(),
            header_length: (header_length as u32).into(),
            reserved0: 0.into(),
            header_digest: [0; format::DIGEST],
            reserved1: [0; 16],
        };
        header.header_digest = format::header_digest(&header, entries.as_bytes());
        let head = header.as_bytes().iter().chain(entries.as_bytes());
        for (place, byte) in bytes.iter_mut().zip(head) {
            *place = *byte;
        }
        Ok(bytes)
    }
}

/// Appends `content` at the next page boundary; returns its offset.
fn append(bytes: &mut Vec<u8>, content: &[u8]) -> u64 {
    pad(bytes);
    let offset = bytes.len() as u64;
    bytes.extend_from_slice(content);
    offset
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT as usize), 0);
}

fn entry(name: &str, content: &[u8], offset: u64) -> RawMember {
    let mut field = [0; MAX_NAME];
    for (place, byte) in field.iter_mut().zip(name.bytes()) {
        *place = byte;
    }
    RawMember {
        name: field,
        offset: offset.into(),
        length: (content.len() as u64).into(),
        digest: format::digest(content),
        reserved: [0; 16],
    }
}
