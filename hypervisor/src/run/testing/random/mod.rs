//! Calls made of arbitrary bytes: valid ones, almost valid ones, and noise, from the root and from its children.

mod block;

use alloc::vec::Vec;

use tlfs::*;

use super::{Bench, CALLER_PAGES, CHILD_BASE, DEVICE_PAGES, FULL_ACCESS, Outcome, alloc};
use crate::arch::testing::Vendor;
use crate::hypercall::CALLS;
use crate::mem::addr::{Gpa, Gpfn};
use crate::mem::format::Rights;
use crate::partition::overlay::Overlay;
use block::{Block, Choices, element, header};

/// Most calls of a play, so that it ends soon.
const MAX_CALLS: usize = 64;
/// Most elements of a list.
const MAX_REPS: usize = 600;

/// How long a list is: mostly short.
fn length(choices: &mut Choices<'_>, element: usize, header: usize) -> usize {
    let fits = (4096 - header).checked_div(element).unwrap_or(MAX_REPS);
    let wanted = match choices.byte() {
        choice @ 0..=199 => usize::from(choice % 8) + 1,
        choice @ 200..=239 => usize::from(choice),
        _ => MAX_REPS,
    };
    wanted.min(fits)
}

/// The control word and the parameters of a call that is well formed.
fn compose(choices: &mut Choices<'_>, bench: &Bench) -> (HvHypercallInput, Vec<u8>) {
    // A few make the others possible.
    const FREQUENT: &[HvCallCode] = &[
        HvCallCode::CREATE_PARTITION,
        HvCallCode::INITIALIZE_PARTITION,
        HvCallCode::INITIALIZE_PARTITION,
        HvCallCode::DEPOSIT_MEMORY,
        HvCallCode::DEPOSIT_MEMORY,
        HvCallCode::MAP_GPA_PAGES,
        HvCallCode::MAP_GPA_PAGES,
        HvCallCode::CREATE_VP,
        HvCallCode::CREATE_VP,
        HvCallCode::SET_VP_REGISTERS,
    ];
    let code = if choices.one_in(2) {
        choices.of(FREQUENT)
    } else {
        choices.of(CALLS).0
    };
    let is_rep = CALLS.iter().any(|&(call, rep)| call == code && rep);
    let mut bytes = header(code, Block::new(choices, bench)).bytes;
    let mut control = HvHypercallInput::simple(code);
    if is_rep {
        if code == HvCallCode::WITHDRAW_MEMORY {
            bytes.truncate(16);
        }
        if code == HvCallCode::DEPOSIT_MEMORY {
            bytes.truncate(8);
        }
        let one = element(code, Block::new(choices, bench)).bytes;
        let count = length(choices, one.len(), bytes.len());
        let different = choices.one_in(2);
        for index in 0..count {
            let mut bytes_of = if different && index < 16 {
                element(code, Block::new(choices, bench)).bytes
            } else {
                one.clone()
            };
            // Long lists of frames go up.
            if bytes_of.len() == 8 {
                let first = u64::from_le_bytes(core::array::from_fn(|at| bytes_of[at]));
                let step = if different { 0 } else { index as u64 };
                bytes_of = first.wrapping_add(step).to_le_bytes().into();
            }
            bytes.extend_from_slice(&bytes_of);
        }
        control.set_rep_count(count);
        if choices.one_in(16) {
            control.set_rep_start(usize::from(choices.byte()));
        }
    }
    if matches!(code, HvCallCode::GET_VP_STATE | HvCallCode::SET_VP_STATE) {
        let words = choices.byte() % 32;
        for _ in 0..words {
            bytes = Block {
                choices,
                bench,
                bytes,
            }
            .value()
            .bytes;
        }
        control.set_variable_header_size(words.into());
    }
    bytes.truncate(4096);
    (control, bytes)
}

/// Where plays are given: a machine of each vendor, made when it is first needed, and like a new one after each play.
#[derive(Default)]
pub struct Stage([Option<Bench>; Vendor::ALL.len()]);

impl Stage {
    /// Makes calls until there are no more bytes, or many calls were made, and ends all that they made. What they answer
    /// is theirs; that the hypervisor stays in order is checked. The first byte tells whose machine it is, among others.
    ///
    /// # Panics
    /// When it does not.
    pub fn play(&mut self, bytes: &[u8]) {
        let first = Choices(bytes).byte();
        self.play_on(usize::from(first >> 2) % Vendor::ALL.len(), bytes);
    }

    /// Gives the same play on each vendor's machine.
    ///
    /// # Panics
    /// Also when a call does not end alike.
    pub fn play_on_each(&mut self, bytes: &[u8]) {
        let [first, second] = [0, 1].map(|which| self.play_on(which, bytes));
        assert_eq!(first, second, "how the calls end");
    }

    fn play_on(&mut self, which: usize, bytes: &[u8]) -> Vec<Outcome> {
        let bench = self.0[which].get_or_insert_with(|| Bench::of(Vendor::ALL[which]));
        play(bench, bytes)
    }
}

fn play(bench: &mut Bench, bytes: &[u8]) -> Vec<Outcome> {
    let mut choices = Choices(bytes);
    bench.audited = false;
    match choices.byte() % 4 {
        0 => {}
        1 => {
            bench.child_with_vp();
        }
        2 => {
            let id = bench.child_with_vp();
            bench.add_vp(id, 1);
            bench.deposit(id, 8);
        }
        _ => {
            bench.child_with_vp();
            let id = bench.child_with_vp();
            let large = bench.large_frame();
            bench.map(id, 512, FULL_ACCESS | HvMapGpaFlags::LARGE_PAGE, &[large]);
        }
    }
    let mut outcomes = Vec::new();
    for number in 1..=MAX_CALLS {
        if choices.0.is_empty() {
            break;
        }
        // A check looks at every frame: too long to do it each time.
        bench.audited = number.is_multiple_of(16);
        // In how many parts a long one is done is a matter of time.
        outcomes.push(match step(bench, &mut choices) {
            Outcome::Result(result, _) => Outcome::Result(result, 1),
            other => other,
        });
    }
    bench.audit();
    bench.switch_to_root();
    bench.tear_down();
    bench.audited = true;
    outcomes
}

/// Who calls now: mostly the root.
fn choose_caller(bench: &mut Bench, choices: &mut Choices<'_>) {
    bench.switch_to_root();
    if !choices.one_in(4) {
        return;
    }
    let children = bench.children();
    if children.is_empty() {
        return;
    }
    let id = choices.of(&children);
    let able = bench.with_partition(id, |child| {
        (0..CALLER_PAGES).all(|page| {
            let at = Gpfn(CHILD_BASE.0 + page).address();
            let rights = if child.overlays.cover(at.page()) {
                Rights::WRITE
            } else {
                Rights::RW
            };
            child.resolve(at, rights).is_ok()
        })
    });
    let vps = bench.vps(id);
    if able && !vps.is_empty() {
        let index = choices.of(&vps).0 as u16;
        bench.switch_to_child(id, index);
    }
}

fn step(bench: &mut Bench, choices: &mut Choices<'_>) -> Outcome {
    choose_caller(bench, choices);
    bench.restore();
    let (control, bytes) = compose(choices, bench);
    let mut control = control.into_bits();
    bench.write(bench.input(), &bytes);
    let (mut input, mut output) = (bench.input().0, bench.output().0);
    match choices.byte() {
        // Almost valid.
        0..=7 => control ^= 1 << (choices.byte() % 64),
        8..=15 => {
            let at = Gpa(bench.input().0 + u64::from(choices.byte() % 64));
            bench.write(at, &[choices.byte()]);
        }
        16..=19 => input = place(bench, choices),
        20..=23 => output = place(bench, choices),
        24..=27 => {
            // In registers.
            control |= 1 << 16;
            let word = |at: usize| {
                let mut word = [0; 8];
                if let Some(given) = bytes.get(at..at + 8) {
                    word.copy_from_slice(given);
                }
                u64::from_le_bytes(word)
            };
            (input, output) = (word(0), word(8));
        }
        // Noise.
        28..=31 => (control, input, output) = (choices.long(), choices.long(), choices.long()),
        _ => {}
    }
    bench.run(control, input, output)
}

/// An address at which parameters may not be.
fn place(bench: &Bench, choices: &mut Choices<'_>) -> u64 {
    let overlay = bench.with_partition(bench.caller(), |caller| {
        caller.overlays.place(Overlay::HYPERCALL)
    });
    match choices.byte() % 6 {
        0 => bench.input().0 + 4096 - 8 * u64::from(choices.byte() % 8),
        1 => bench.input().0 + u64::from(choices.byte()),
        2 => DEVICE_PAGES.start << 12,
        3 => overlay.map_or(0, |page| page.address().0),
        4 => u64::from(choices.word()) << 12,
        _ => choices.long(),
    }
}
