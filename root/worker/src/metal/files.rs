//! The archive members that the kernel has mapped.

use root_abi::{File, StartInfo};
use worker::Files;

use super::start::bytes;

/// Files by name.
pub struct MappedFiles {
    files: &'static [File],
}

impl MappedFiles {
    /// The files of the start information.
    pub fn new(info: &'static StartInfo) -> Self {
        let files: &'static [File] = if info.file_count == 0 {
            &[]
        } else {
            // SAFETY: the kernel maps `file_count` entries read-only at `files`, aligned for them, for as long as the
            // process lives; every bit pattern is a valid entry.
            unsafe {
                core::slice::from_raw_parts(info.files as *const File, info.file_count as usize)
            }
        };
        Self { files }
    }
}

impl Files for MappedFiles {
    fn get(&self, name: &str) -> Option<&[u8]> {
        let file = self.files.iter().find(|file| {
            let end = file.name.iter().position(|byte| *byte == 0);
            file.name.get(..end.unwrap_or(file.name.len())) == Some(name.as_bytes())
        })?;
        // SAFETY: the kernel maps every file of the list read-only for as long as the process lives.
        Some(unsafe { bytes(file.address, file.len) })
    }
}
