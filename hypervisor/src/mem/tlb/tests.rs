//! Tags and shootdowns, case by case, against the model machine, and with real threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::model::{CPUS, DOMAINS, Defect, PAGES, Step, VPS, World};
use super::*;
use crate::mem::addr::Gpfn;
use crate::mem::format::{Ept, Npt};
use crate::mem::frames::PartitionSlot;
use crate::mem::table::fake::Hardware;

const KINDS: [TagKind; 3] = [
    TagKind::Asid {
        flush_by_asid: false,
    },
    TagKind::Asid {
        flush_by_asid: true,
    },
    TagKind::Vpid,
];

fn domain() -> Domain {
    Domain::new(PartitionSlot(3))
}

fn tags(kind: TagKind) -> CpuTags {
    CpuTags::new(0, kind, 4).unwrap()
}

#[test]
fn a_vp_that_stays_keeps_its_tag_and_flushes_nothing() {
    for kind in KINDS {
        let (mark, domain, mut tags) = (CpuMark::new(), domain(), tags(kind));
        let (mut one, mut two) = (VpTag::new(), VpTag::new());
        let first = enter(&mut tags, &mark, &mut one, &domain);
        assert_eq!(
            first.flush,
            Flush::All,
            "nothing is known about the TLB at first"
        );
        let other = enter(&mut tags, &mark, &mut two, &domain);
        assert_ne!(other.tag, first.tag);
        for _ in 0..3 {
            let again = enter(&mut tags, &mark, &mut one, &domain);
            assert_eq!(
                again,
                TagDecision {
                    tag: first.tag,
                    flush: Flush::None
                }
            );
        }
    }
}

#[test]
fn a_removal_flushes_each_vp_of_the_domain_once() {
    for (kind, flush) in KINDS
        .into_iter()
        .zip([Flush::None, Flush::Tag, Flush::Domain])
    {
        let (mark, domain, other, mut tags) = (
            CpuMark::new(),
            domain(),
            Domain::new(PartitionSlot(4)),
            tags(kind),
        );
        let (mut vp, mut foreign) = (VpTag::new(), VpTag::new());
        let before = enter(&mut tags, &mark, &mut vp, &domain);
        let foreign_tag = enter(&mut tags, &mark, &mut foreign, &other).tag;
        mark.leave();
        assert!(domain.shoot_down(core::slice::from_ref(&mark)).is_done());
        let after = enter(&mut tags, &mark, &mut vp, &domain);
        assert_eq!(after.flush, flush);
        assert_eq!(
            after.tag != before.tag,
            kind == KINDS[0],
            "a fresh tag where a tag cannot be flushed"
        );
        assert_eq!(enter(&mut tags, &mark, &mut vp, &domain).flush, Flush::None);
        let foreign_after = enter(&mut tags, &mark, &mut foreign, &other);
        assert_eq!(
            foreign_after,
            TagDecision {
                tag: foreign_tag,
                flush: Flush::None
            }
        );
    }
}

#[test]
fn tags_are_reused_only_after_everything_was_flushed() {
    let (mark, domain, mut tags) = (CpuMark::new(), domain(), tags(KINDS[0]));
    let mut vps = [VpTag::new(); 4];
    let decisions = vps
        .each_mut()
        .map(|vp| enter(&mut tags, &mark, vp, &domain));
    assert_eq!(decisions.map(|d| d.tag), [1, 2, 3, 1]);
    assert_eq!(
        decisions.map(|d| d.flush),
        [Flush::All, Flush::None, Flush::None, Flush::All]
    );
    let again = enter(&mut tags, &mark, &mut vps[0], &domain);
    assert_eq!(
        again,
        TagDecision {
            tag: 2,
            flush: Flush::None
        }
    );
    assert!(CpuTags::new(0, KINDS[0], 1).is_none());
}

#[test]
fn a_vp_that_returns_to_a_processor_does_not_get_its_old_entries() {
    for kind in KINDS {
        let (mark, domain) = (CpuMark::new(), domain());
        let mut cpus = [0, 1].map(|cpu| CpuTags::new(cpu, kind, 9).unwrap());
        let mut vp = VpTag::new();
        let first = enter(&mut cpus[0], &mark, &mut vp, &domain);
        let _ = enter(&mut cpus[1], &mark, &mut vp, &domain);
        let back = enter(&mut cpus[0], &mark, &mut vp, &domain);
        assert_ne!(back.tag, first.tag);
    }
}

#[test]
fn only_processors_in_this_guest_are_kicked() {
    let marks = [const { CpuMark::new() }; 4];
    let (domain, other) = (domain(), Domain::new(PartitionSlot(4)));
    let mut cpus = [0, 1, 2].map(|cpu| CpuTags::new(cpu, KINDS[1], 9).unwrap());
    let mut vps = [VpTag::new(); 3];
    enter(&mut cpus[0], &marks[0], &mut vps[0], &domain);
    enter(&mut cpus[1], &marks[1], &mut vps[1], &other);
    enter(&mut cpus[2], &marks[2], &mut vps[2], &domain);
    marks[2].leave();
    let shootdown = domain.shoot_down(&marks);
    assert_eq!(shootdown.targets().collect::<Vec<_>>(), [0]);
    // One that enters now has flushed already.
    assert_eq!(
        enter(&mut cpus[2], &marks[2], &mut vps[2], &domain).flush,
        Flush::Tag
    );
    assert_eq!(shootdown.targets().collect::<Vec<_>>(), [0]);
    marks[0].leave();
    assert!(shootdown.is_done());
    assert_eq!(
        enter(&mut cpus[0], &marks[0], &mut vps[0], &domain).flush,
        Flush::Tag
    );
    assert!(shootdown.is_done(), "entered again, with new translations");
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let cpu = || 0..CPUS;
    let vp = || 0..VPS;
    let domain = || 0..DOMAINS;
    let first = || prop::sample::select(vec![0u64, 1, 512, 513]);
    let count = || prop::sample::select(vec![1u64, 511, 512]);
    let shift = prop::sample::select(vec![4096u64, 4608, 4097]);
    let step = prop_oneof![
        4 => (cpu(), vp()).prop_map(|(c, v)| Step::Enter(c, v)),
        1 => cpu().prop_map(Step::Leave),
        12 => (cpu(), 0..PAGES.len()).prop_map(|(c, p)| Step::Use(c, p)),
        3 => (domain(), first(), count(), shift, any::<bool>()).prop_map(|(d, p, n, s, w)| Step::Map(d, p, n, s, w)),
        1 => (domain(), first(), count()).prop_map(|(d, p, n)| Step::Unmap(d, p, n)),
        1 => (domain(), first(), count(), any::<bool>()).prop_map(|(d, p, n, w)| Step::Protect(d, p, n, w)),
        1 => (domain(), first()).prop_map(|(d, p)| Step::Split(d, p)),
        1 => domain().prop_map(Step::Shoot),
        3 => domain().prop_map(Step::Complete),
        1 => vp().prop_map(Step::Invalidate),
    ];
    prop::collection::vec(step, 1..200)
}

fn run_in<F: Hardware<Page = Gpfn>>(
    kind: TagKind,
    defect: Defect,
    steps: &[Step],
) -> Result<(), String> {
    let marks = [const { CpuMark::new() }; CPUS];
    let mut world = World::<F>::new(kind, defect, &marks);
    steps.iter().try_for_each(|step| world.step(step))
}

/// Tags come with their vendor's tables.
fn run(kind: TagKind, defect: Defect, steps: &[Step]) -> Result<(), String> {
    match kind {
        TagKind::Asid { .. } => run_in::<Npt>(kind, defect, steps),
        TagKind::Vpid => run_in::<Ept>(kind, defect, steps),
    }
}

proptest! {
    #![proptest_config(Config::with_cases(96))]
    #[test]
    fn no_sequence_lets_a_vp_use_a_removed_translation(kind in prop::sample::select(KINDS.to_vec()), steps in steps()) {
        prop_assert_eq!(run(kind, Defect::None, &steps), Ok(()));
    }
}

/// Whether random sequences find a defect.
fn is_caught(kind: TagKind, defect: Defect) -> bool {
    let config = Config {
        cases: 80,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let result = runner.run(&steps(), |steps| {
        run(kind, defect, &steps).map_err(TestCaseError::fail)
    });
    result.is_err()
}

#[test]
fn the_model_catches_a_machine_that_leaves_a_step_out() {
    for kind in KINDS {
        assert!(!is_caught(kind, Defect::None));
        assert!(is_caught(kind, Defect::NoNewGeneration), "{kind:?}");
        assert!(is_caught(kind, Defect::NoKick), "{kind:?}");
        assert!(is_caught(kind, Defect::NoFlushAtRollover), "{kind:?}");
    }
    for kind in [KINDS[1], KINDS[2]] {
        assert!(is_caught(kind, Defect::NoFlushOfTag), "{kind:?}");
    }
    for kind in [KINDS[0], KINDS[1]] {
        assert!(is_caught(kind, Defect::TagKeptWhenMigrating), "{kind:?}");
    }
    assert!(is_caught(KINDS[2], Defect::TagFlushedForDomain));
    assert!(is_caught(KINDS[2], Defect::FreshTagNotFlushed));
}

#[test]
fn a_vpid_is_of_one_vp_though_the_flush_of_its_domain_goes_beyond_it() {
    let steps = [
        Step::Map(0, 0, 1, 4096, true),
        Step::Complete(0),
        Step::Enter(1, 2),
        Step::Leave(1),
        Step::Enter(0, 0),
        Step::Enter(0, 2),
        Step::Use(0, 0),
        Step::Enter(0, 0),
        Step::Use(0, 0),
    ];
    assert_eq!(run(TagKind::Vpid, Defect::None, &steps), Ok(()));
    let shared = run(TagKind::Vpid, Defect::TagKeptWhenMigrating, &steps);
    assert_eq!(shared, Err("VP 0 used what VP 2 left".into()));
}

#[test]
fn a_domain_in_the_root_table_of_one_that_ended_begins_without_its_entries() {
    let (mark, mut tags) = (CpuMark::new(), tags(TagKind::Vpid));
    for round in 0..3 {
        let domain = domain();
        let [mut one, mut two] = [const { VpTag::new() }; 2];
        let first = enter(&mut tags, &mark, &mut one, &domain);
        assert!(matches!(first.flush, Flush::Domain | Flush::All));
        let second = enter(&mut tags, &mark, &mut two, &domain);
        assert_ne!(second.flush, Flush::None, "round {round}: it may be older");
        assert_ne!(second.tag, first.tag);
    }
}

/// Processors as threads, one translation that changes all the time, and a TLB of one entry that is kept until a flush.
#[test]
fn real_threads_never_use_a_removed_translation() {
    const ROUNDS: usize = 3000;
    let end = Instant::now() + Duration::from_millis(700);
    let marks = [const { CpuMark::new() }; 3];
    let kicks = [const { AtomicBool::new(false) }; 3];
    let (domain, translation, stop) = (domain(), AtomicU64::new(0), AtomicBool::new(false));
    let removed: Vec<AtomicBool> = (0..=ROUNDS).map(|_| AtomicBool::new(false)).collect();
    let processor = |cpu: usize| {
        let mut tags = CpuTags::new(cpu as u32, KINDS[1], 4).unwrap();
        let (mut vp, mut cached) = (VpTag::new(), None);
        while !stop.load(Ordering::Relaxed) {
            kicks[cpu].store(false, Ordering::SeqCst);
            if enter(&mut tags, &marks[cpu], &mut vp, &domain).flush != Flush::None {
                cached = None;
            }
            for _ in 0..50 {
                let used = *cached.get_or_insert_with(|| translation.load(Ordering::Acquire));
                assert!(
                    !removed[used as usize].load(Ordering::SeqCst),
                    "translation {used} was removed"
                );
                if kicks[cpu].load(Ordering::SeqCst) {
                    break;
                }
            }
            marks[cpu].leave();
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        (0..marks.len()).for_each(|cpu| drop(scope.spawn(move || processor(cpu))));
        for (round, removed) in removed.iter().enumerate().take(ROUNDS) {
            if round > 10 && Instant::now() > end {
                break;
            }
            translation.store(round as u64 + 1, Ordering::Release);
            let shootdown = domain.shoot_down(&marks);
            shootdown
                .targets()
                .for_each(|cpu| kicks[cpu].store(true, Ordering::SeqCst));
            while !shootdown.is_done() {
                thread::yield_now();
            }
            removed.store(true, Ordering::SeqCst);
        }
        stop.store(true, Ordering::Relaxed);
    });
}
