//! The boot archive's readers: the hypervisor's and the root loader's.
//!
//! The digest over the header would keep nearly every input from getting past it, so an input whose first byte is odd
//! is sealed again before it is read.
#![no_main]

use sha2::{Digest, Sha256};

/// Where the header keeps its own digest.
const DIGEST: core::ops::Range<usize> = 48..80;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((selector, bytes)) = data.split_first() else {
        return;
    };
    let mut bytes = bytes.to_vec();
    if selector % 2 == 1 {
        seal(&mut bytes);
    }
    boot_archive::fuzz(&bytes);
});

fn seal(bytes: &mut [u8]) {
    let Some(length) = bytes
        .get(40..44)
        .and_then(|field| field.try_into().ok())
        .map(u32::from_le_bytes)
    else {
        return;
    };
    let Some(header) = bytes.get_mut(..length as usize) else {
        return;
    };
    let Some(field) = header.get_mut(DIGEST) else {
        return;
    };
    field.fill(0);
    let digest = Sha256::digest(&*header);
    if let Some(field) = header.get_mut(DIGEST) {
        field.copy_from_slice(&digest);
    }
}
