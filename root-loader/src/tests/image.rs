//! Root images: sound ones are planned, others refused with the reason.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::image::{Image, ImageError};
use crate::paging::Rights;
use crate::{LOADER_IMAGE, PAGE, ROOT_IMAGE};

#[derive(Clone, Copy)]
struct Header {
    flags: u32,
    offset: u64,
    virt: u64,
    file_size: u64,
    memory_size: u64,
}

const R: u32 = 4;
const RX: u32 = 5;
const RW: u32 = 6;

/// Code at the image's start, data with BSS two pages on.
const SOUND: [Header; 2] = [
    Header {
        flags: RX,
        offset: 0x200,
        virt: ROOT_IMAGE + 0x200,
        file_size: 0x100,
        memory_size: 0x100,
    },
    Header {
        flags: RW,
        offset: 0x300,
        virt: ROOT_IMAGE + 0x2000,
        file_size: 0x80,
        memory_size: 0x3000,
    },
];

fn file(kind: u16, machine: u16, entry: u64, headers: &[Header]) -> Vec<u8> {
    let mut file = b"\x7FELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([kind, machine].iter().flat_map(|half| half.to_le_bytes()));
    file.extend(1u32.to_le_bytes());
    file.extend([entry, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
    file.extend(0u32.to_le_bytes());
    file.extend(
        [64, 56, headers.len() as u16, 64, 0, 0]
            .iter()
            .flat_map(|half| half.to_le_bytes()),
    );
    for header in headers {
        file.extend([1, header.flags].iter().flat_map(|word| word.to_le_bytes()));
        let words = [
            header.offset,
            header.virt,
            header.virt,
            header.file_size,
            header.memory_size,
            PAGE,
        ];
        file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
    let data = file.len()..0x400;
    file.extend(data.map(|byte| byte as u8));
    file
}

fn executable(headers: &[Header]) -> Vec<u8> {
    file(2, 62, ROOT_IMAGE + 0x200, headers)
}

fn error_of(change: impl FnOnce(&mut [Header; 2])) -> ImageError {
    let mut headers = SOUND;
    change(&mut headers);
    Image::parse(&executable(&headers))
        .map(|_| ())
        .expect_err("refused")
}

#[test]
fn sound_image_is_planned() {
    let file = executable(&SOUND);
    let image = Image::parse(&file).expect("sound");
    assert_eq!(
        (image.entry(), image.bytes()),
        (ROOT_IMAGE + 0x200, 5 * PAGE)
    );
    let contents = image.contents().collect::<Vec<_>>();
    assert_eq!(
        contents,
        [(0x200, &file[0x200..0x300]), (0x2000, &file[0x300..0x380])]
    );
    let mappings = image
        .mappings(0x100_0000)
        .map(|m| (m.virt, m.gpa, m.bytes, m.rights))
        .collect::<Vec<_>>();
    let code = (ROOT_IMAGE, 0x100_0000, PAGE, Rights::READ_EXECUTE);
    let data = (
        ROOT_IMAGE + 0x2000,
        0x100_2000,
        3 * PAGE,
        Rights::READ_WRITE,
    );
    assert_eq!(mappings, [code, data]);
}

#[test]
fn other_kinds_of_file_are_refused() {
    let parse = |bytes: &[u8]| Image::parse(bytes).map(|_| ()).expect_err("refused");
    assert_eq!(parse(b"#!/bin/sh"), ImageError::Format);
    assert_eq!(
        parse(&file(3, 62, ROOT_IMAGE + 0x200, &SOUND)),
        ImageError::Kind,
        "position independent"
    );
    assert_eq!(
        parse(&file(2, 40, ROOT_IMAGE + 0x200, &SOUND)),
        ImageError::Kind,
        "another processor"
    );
    assert_eq!(parse(&executable(&[])), ImageError::Segments(0));
    assert_eq!(
        parse(&executable(&[SOUND[0]; 17])),
        ImageError::Segments(17)
    );
    assert_eq!(
        parse(&file(2, 62, ROOT_IMAGE + 0x2000, &SOUND)),
        ImageError::Entry(ROOT_IMAGE + 0x2000)
    );
}

#[test]
fn segments_must_be_in_place_apart_and_not_both_writable_and_executable() {
    let [code, data] = [SOUND[0].virt, SOUND[1].virt];
    assert_eq!(error_of(|h| h[0].flags = 7), ImageError::WriteExecute(code));
    assert_eq!(
        error_of(|h| h[1].virt = code + 0x800),
        ImageError::Overlap(code + 0x800)
    );
    assert_eq!(
        error_of(|h| h[1].virt = 0x10_0000),
        ImageError::Address(0x10_0000)
    );
    assert_eq!(
        error_of(|h| h[1].virt = u64::MAX - 5),
        ImageError::Address(u64::MAX - 5)
    );
    assert_eq!(
        error_of(|h| h[1].virt = LOADER_IMAGE - 0x1000),
        ImageError::Address(LOADER_IMAGE - 0x1000)
    );
    assert_eq!(
        error_of(|h| h[1].file_size = 0x3001),
        ImageError::Sizes(data)
    );
    assert_eq!(
        error_of(|h| h[1].offset = u64::MAX),
        ImageError::Sizes(data)
    );
    assert_eq!(
        error_of(|h| h[1].memory_size = 64 << 20),
        ImageError::TooLarge((64 << 20) + 0x2000)
    );
}

proptest! {
    #[test]
    fn arbitrary_headers_never_panic_and_plans_stay_in_bounds(
        fields in vec((any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<[bool; 4]>()), 0..5),
        entry in 0..0x8000u64,
    ) {
        let headers = fields.iter().map(|(flags, a, b, c, near)| Header {
            flags: if near[0] { [R, RX, RW][*flags as usize % 3] } else { *flags },
            offset: if near[1] { a % 0x400 } else { *a },
            virt: if near[2] { ROOT_IMAGE + b % 0x8000 } else { *b },
            file_size: a % 0x200,
            memory_size: if near[3] { c % 0x4000 } else { *c },
        }).collect::<Vec<_>>();
        if let Ok(image) = Image::parse(&file(2, 62, ROOT_IMAGE + entry, &headers)) {
            prop_assert!(image.bytes() % PAGE == 0);
            for (offset, content) in image.contents() {
                prop_assert!(offset + content.len() as u64 <= image.bytes());
            }
            for mapping in image.mappings(0) {
                prop_assert!(mapping.gpa + mapping.bytes <= image.bytes());
                prop_assert!(mapping.virt >= ROOT_IMAGE && mapping.virt + mapping.bytes <= LOADER_IMAGE);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(at in 0usize..0x160, bytes in vec(any::<u8>(), 1..16)) {
        let mut file = executable(&SOUND);
        file[at..at + bytes.len()].copy_from_slice(&bytes);
        let _ = Image::parse(&file);
    }
}
