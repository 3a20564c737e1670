//! A guest that does what Linux' `hv_balloon` does (sheet 1.8 to 1.10).

use zerocopy::{FromBytes, IntoBytes};

use super::set::Pages;
use crate::PageRun;
use crate::wire::{
    AcceptResponse, BalloonRequest, BalloonResponse, CapabilitiesReport, Header,
    HotAddRegionRequest, HotAddRequest, HotAddResponse, MAX_RANGES, MessageType, StatusReport,
    UnballoonRequest, Version, VersionRequest, WireRange,
};

/// Pages of the large pieces.
const PIECE: u64 = 512;

/// What the guest makes of a hot-add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HotAddPolicy {
    /// Takes all.
    Take,
    /// Takes at most that many blocks of 128 MB in all of its life.
    Limit(u64),
    /// Fails for the moment.
    Fail,
    /// Does not answer.
    Silent,
}

#[derive(Debug)]
pub struct Linux {
    last_id: u32,
    pub versions: Vec<Version>,
    pub capabilities: u64,
    pub agreed: Option<Version>,
    pub is_initialized: bool,
    /// Pages that could be allocated.
    pub free: Pages,
    /// Pages that it keeps free.
    pub floor: u64,
    pub ballooned: Pages,
    /// Committed without the balloon.
    pub committed: u64,
    pub hot_add: HotAddPolicy,
    /// ACPI S4 is there: it never answers about balloons.
    pub is_silent: bool,
    pub max_pages: Option<u64>,
    /// Requests that it took, for the order of things.
    pub seen: Vec<MessageType>,
    is_in_unballoon: bool,
}

impl Linux {
    pub fn new(ram: &[PageRun]) -> Self {
        Self {
            last_id: 0,
            versions: vec![Version::WIN10, Version::WIN8, Version::WIN7],
            capabilities: 0x1f,
            agreed: None,
            is_initialized: false,
            free: ram.iter().flat_map(|run| run.start..run.end()).collect(),
            floor: 0,
            ballooned: Pages::default(),
            committed: 0,
            hot_add: HotAddPolicy::Take,
            is_silent: false,
            max_pages: None,
            seen: Vec::new(),
            is_in_unballoon: false,
        }
    }

    /// Unbound and bound again, or resumed: the ids go on.
    pub fn reconnect(&mut self) -> Vec<u8> {
        self.agreed = None;
        self.is_initialized = false;
        self.version_request()
    }

    /// A fresh module, or another kernel.
    pub fn reload(&mut self) -> Vec<u8> {
        self.last_id = 0;
        self.ballooned.clear();
        self.reconnect()
    }

    fn header(&mut self, message_type: MessageType, size: usize) -> Header {
        self.last_id += 1;
        Header {
            message_type: message_type.into_bits().into(),
            size: (size as u16).into(),
            trans_id: self.last_id.into(),
        }
    }

    fn version_request(&mut self) -> Vec<u8> {
        let version = self.versions[0];
        let request = VersionRequest {
            header: self.header(MessageType::VERSION_REQUEST, 16),
            version: version.into_bits().into(),
            flags: u32::from(version == Version::WIN7).into(),
        };
        request.as_bytes().to_vec()
    }

    fn capabilities_report(&mut self) -> Vec<u8> {
        let report = CapabilitiesReport {
            header: self.header(MessageType::CAPABILITIES_REPORT, 32),
            capabilities: self.capabilities.into(),
            min_page_cnt: 0.into(),
            max_page_number: u64::MAX.into(),
        };
        report.as_bytes().to_vec()
    }

    pub fn report(&mut self) -> Vec<u8> {
        let committed = self.committed + self.ballooned.len() as u64;
        self.report_of(committed)
    }

    pub fn report_of(&mut self, committed: u64) -> Vec<u8> {
        let report = StatusReport {
            header: self.header(MessageType::STATUS_REPORT, 48),
            num_avail: (self.free.len() as u64).into(),
            num_committed: committed.into(),
            ..StatusReport::default()
        };
        report.as_bytes().to_vec()
    }

    pub fn balloon_response(&mut self, more: bool, runs: &[PageRun]) -> Vec<u8> {
        let response = BalloonResponse {
            header: self.header(MessageType::BALLOON_RESPONSE, 16 + 8 * runs.len()),
            reserved: 0.into(),
            more_and_count: (u32::from(more) | (runs.len() as u32) << 1).into(),
        };
        let mut message = response.as_bytes().to_vec();
        for &run in runs {
            message.extend_from_slice(WireRange::new(run).unwrap().as_bytes());
        }
        message
    }

    pub fn unballoon_response(&mut self) -> Vec<u8> {
        self.header(MessageType::UNBALLOON_RESPONSE, size_of::<Header>())
            .as_bytes()
            .to_vec()
    }

    pub fn hot_add_response(&mut self, page_count: u32, result: u32) -> Vec<u8> {
        let response = HotAddResponse {
            header: self.header(MessageType::MEM_HOT_ADD_RESPONSE, 16),
            page_count: page_count.into(),
            result: result.into(),
        };
        response.as_bytes().to_vec()
    }

    /// What it answers.
    pub fn receive(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        assert!(message.len() <= 4096, "trap 5");
        let (header, _) = Header::read_from_prefix(message).unwrap();
        assert_eq!(usize::from(header.size.get()), message.len());
        let message_type = MessageType::from_bits(header.message_type.get());
        self.seen.push(message_type);
        match message_type {
            MessageType::VERSION_RESPONSE => {
                assert_eq!(self.agreed, None, "trap 17");
                let accepted = AcceptResponse::read_from_bytes(message)
                    .unwrap()
                    .flags
                    .get()
                    == 1;
                if accepted {
                    self.agreed = Some(self.versions[0]);
                    return vec![self.capabilities_report()];
                }
                self.versions.remove(0);
                if self.versions.is_empty() {
                    return Vec::new();
                }
                vec![self.version_request()]
            }
            MessageType::CAPABILITIES_RESPONSE => {
                assert!(!self.is_initialized && self.agreed.is_some(), "trap 17");
                self.is_initialized = true;
                Vec::new()
            }
            MessageType::INFO_MESSAGE => {
                assert!(self.agreed >= Some(Version::WIN8));
                self.max_pages = Some(u64::from_le_bytes(message[24..32].try_into().unwrap()));
                Vec::new()
            }
            MessageType::BALLOON_REQUEST => {
                assert!(self.is_initialized && !self.is_in_unballoon, "trap 3");
                let request = BalloonRequest::read_from_bytes(message).unwrap();
                self.balloon_up(request.num_pages.get().into())
            }
            MessageType::UNBALLOON_REQUEST => self.balloon_down(message),
            MessageType::MEM_HOT_ADD_REQUEST => {
                assert!(self.is_initialized && !self.is_in_unballoon, "trap 3");
                self.take_hot_add(message)
            }
            other => panic!("{other:?} is not for guests"),
        }
    }

    fn balloon_up(&mut self, requested: u64) -> Vec<Vec<u8>> {
        if self.is_silent {
            return Vec::new();
        }
        let spare = (self.free.len() as u64).saturating_sub(self.floor);
        let mut left = requested.min(spare);
        let mut runs = Vec::new();
        let mut size = PIECE;
        while left != 0 {
            match self.allocate(size.min(if left < PIECE { 1 } else { size })) {
                Some(run) => {
                    left -= run.count;
                    runs.push(run);
                }
                None if size == PIECE => size = 1,
                None => break,
            }
        }
        let parts: Vec<&[PageRun]> = runs.chunks(MAX_RANGES).collect();
        let count = parts.len();
        let mut answers = Vec::new();
        for (index, part) in parts.into_iter().enumerate() {
            let more = index + 1 != count;
            answers.push(self.balloon_response(more, part));
        }
        if answers.is_empty() {
            answers.push(self.balloon_response(false, &[]));
        }
        answers
    }

    fn allocate(&mut self, size: u64) -> Option<PageRun> {
        let last = self.free.last()?;
        let start = if size == 1 {
            last
        } else {
            let mut starts = (0..=last).step_by(size as usize);
            starts.find(|&start| self.free.has_all(start, size))?
        };
        for page in start..start + size {
            self.free.remove(&page);
            self.ballooned.insert(page);
        }
        Some(PageRun::new(start, size))
    }

    fn balloon_down(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        let (request, rest) = UnballoonRequest::read_from_prefix(message).unwrap();
        let ranges = <[WireRange]>::ref_from_bytes(rest).unwrap();
        assert_eq!(request.range_count.get() as usize, ranges.len());
        assert!(ranges.len() <= 510, "trap 6");
        if self.is_silent {
            return Vec::new();
        }
        for run in ranges.iter().map(|range| range.run()) {
            for page in run.start..run.end() {
                assert!(
                    self.ballooned.remove(&page),
                    "{page:#x} is not in the balloon"
                );
                self.free.insert(page);
            }
        }
        self.is_in_unballoon = request.more.get() & 1 != 0;
        if self.is_in_unballoon {
            return Vec::new();
        }
        vec![self.unballoon_response()]
    }

    fn take_hot_add(&mut self, message: &[u8]) -> Vec<Vec<u8>> {
        let range = match HotAddRegionRequest::read_from_bytes(message) {
            Ok(request) => request.range,
            Err(_) => HotAddRequest::read_from_bytes(message).unwrap().range,
        };
        let run = range.run();
        let block = 32768;
        assert!(
            run.start.is_multiple_of(block) && run.count.is_multiple_of(block),
            "trap 8"
        );
        let pages = match &mut self.hot_add {
            HotAddPolicy::Take => run.count,
            HotAddPolicy::Limit(blocks) => {
                let taken = run.count.min(*blocks * block);
                *blocks -= taken / block;
                taken
            }
            HotAddPolicy::Fail => return vec![self.hot_add_response(0, 0)],
            HotAddPolicy::Silent => return Vec::new(),
        };
        self.free.extend(run.start..run.start + pages);
        vec![self.hot_add_response(pages as u32, 1)]
    }
}
