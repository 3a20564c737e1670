//! An initramfs: a gzipped newc archive, the same bytes for the same input.

use std::io::Write;

use anyhow::Result;
use cpio::NewcBuilder;
use cpio::newc::trailer;
use flate2::{Compression, GzBuilder};

/// One in the making. Folders go before what is in them.
#[derive(Default)]
pub struct Initramfs {
    archive: Vec<u8>,
    inode: u32,
}

impl Initramfs {
    /// Adds a folder.
    ///
    /// # Errors
    /// If memory could not be written: never.
    pub fn folder(&mut self, name: &str) -> Result<()> {
        self.add(name, 0o040_755, &[])
    }

    /// Adds a file that is no program.
    ///
    /// # Errors
    /// If it has more than 4 GiB.
    pub fn file(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.add(name, 0o100_644, content)
    }

    /// Adds a program.
    ///
    /// # Errors
    /// As [`file`](Self::file).
    pub fn program(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.add(name, 0o100_755, content)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// As [`folder`](Self::folder).
    pub fn link(&mut self, name: &str, to: &str) -> Result<()> {
        self.add(name, 0o120_777, to.as_bytes())
    }

    fn add(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.inode += 1;
        let mut file = NewcBuilder::new(name)
            .ino(self.inode)
            .mode(mode)
            .write(&mut self.archive, u32::try_from(content.len())?);
        file.write_all(content)?;
        file.finish()?;
        Ok(())
    }

    /// The bytes. Several of them one behind the other make one initramfs.
    ///
    /// # Errors
    /// As [`folder`](Self::folder).
    pub fn pack(mut self) -> Result<Vec<u8>> {
        trailer(&mut self.archive)?;
        let mut gzip = GzBuilder::new().write(Vec::new(), Compression::fast());
        gzip.write_all(&self.archive)?;
        Ok(gzip.finish()?)
    }
}
