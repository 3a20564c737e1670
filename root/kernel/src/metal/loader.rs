//! Starts processes from the boot archive.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use boot_archive::{Archive, Member};
use root_abi::{File, StartInfo};
use root_kernel::addr::{PAGE_SIZE, Pfn, UserRange};
use root_kernel::frames::Home;
use root_kernel::image::Image;
use root_kernel::paging::Rights;
use zerocopy::IntoBytes;

use super::cell::Global;
use super::layout;
use super::memory::{self, FRAMES};
use super::process::{self, New};
use super::space::{Space, SpaceError};

/// Member with the image of every process.
const WORKER: &str = "worker";

struct Source {
    archive: Archive<'static>,
    address: u64,
}

static SOURCE: Global<Source> = Global::empty();

/// Opens the boot archive at a physical address.
///
/// # Errors
/// Why it cannot be used.
pub fn open(address: u64, len: u64) -> Result<(), String> {
    if !address.is_multiple_of(PAGE_SIZE) {
        return Err(format!(
            "the boot archive at {address:#x} does not start on a page"
        ));
    }
    // SAFETY: the module's frames are claimed for the archive in the frame table, are RAM in the direct map, and nobody
    // writes them.
    let bytes = unsafe { core::slice::from_raw_parts(memory::direct(address), len as usize) };
    let archive = Archive::open(bytes).map_err(|error| format!("{error}"))?;
    SOURCE.set(Source { archive, address });
    Ok(())
}

/// Works on the archive; `None` if it could not be opened.
pub fn archive() -> Option<Archive<'static>> {
    SOURCE.try_with(|source| source.archive)
}

fn physical(member: &Member<'_>) -> Pfn {
    SOURCE.with(|source| Pfn::containing(source.address.wrapping_add(member.offset())))
}

/// Starts a worker for a VM: `text` is its definition, `files` are the members it may read, `home` is where its memory comes from.
///
/// # Errors
/// Why there is none; nothing is left behind then.
pub fn start_worker<'f>(
    name: &str,
    vm: u16,
    text: &str,
    files: impl Iterator<Item = &'f str>,
    home: Home,
) -> Result<(), String> {
    let archive = archive().ok_or("there is no boot archive")?;
    let find = |name: &str| {
        archive
            .member(name)
            .ok_or_else(|| format!("the boot archive has no member {name:?}"))
    };
    let worker = find(WORKER)?;
    let image = Image::parse(worker.content()).map_err(|error| format!("{WORKER}: {error}"))?;
    let mut members: Vec<Member<'_>> = Vec::new();
    for file in files {
        if !members.iter().any(|member| member.name() == file) {
            members.push(find(file)?);
        }
    }
    let slot = process::free_slot().ok_or("there are too many processes")?;
    FRAMES.with(|frames| frames.set_home(slot, home));
    let space = Space::new(slot).map_err(|error| format!("{error}"))?;
    let built = build(&space, &image, worker.content(), text, &members).and_then(|stack| {
        let argument = layout::START_INFO;
        process::start(&New {
            name,
            vm,
            entry: image.entry,
            stack,
            argument,
            space,
        })
    });
    built.map_err(|error| {
        // It has next to nothing, and its maker holds what others may need.
        space.dismantle(|| {});
        format!("{error}")
    })
}

/// Fills an address space; returns the first RSP.
fn build(
    space: &Space,
    image: &Image,
    file: &[u8],
    text: &str,
    members: &[Member<'_>],
) -> Result<u64, SpaceError> {
    let mut list = Vec::new();
    let mut at = layout::FILES;
    for member in members {
        let len = member.content().len() as u64;
        let pages = len.div_ceil(PAGE_SIZE);
        space.map_foreign(at, physical(member), pages, Rights::Read)?;
        let mut name = [0; 64];
        name.iter_mut()
            .zip(member.name().bytes())
            .for_each(|(place, byte)| *place = byte);
        list.push(File {
            name,
            address: at,
            len,
        });
        // One page stays free between two files.
        at += (pages + 1) * PAGE_SIZE;
    }
    write_start_info(space, text, &list)?;
    space.load_image(image, file)
}

fn write_start_info(space: &Space, text: &str, list: &[File]) -> Result<(), SpaceError> {
    let files = layout::START_INFO + size_of::<StartInfo>() as u64;
    let definition = files + size_of_val(list) as u64;
    let info = StartInfo {
        definition,
        definition_len: text.len() as u64,
        files,
        file_count: list.len() as u64,
    };
    let bytes = [info.as_bytes(), list.as_bytes(), text.as_bytes()].concat();
    space.map_new(
        layout::START_INFO,
        (bytes.len() as u64).div_ceil(PAGE_SIZE),
        Rights::Read,
    )?;
    if let Some(range) = UserRange::new(layout::START_INFO, bytes.len() as u64) {
        space.fill(&range, &bytes);
    }
    Ok(())
}
