//! A child that takes bytes for operations: hypercalls, MSRs, ports, SynIC, messages and rings of VMBus (`guests::program`).
//! Whatever it does, VMBus is connected and all channels opened again before the next program.
//!
//! On the command line:
//! * `seed=N`, `operations=N`, `size=N`: random programs of that size, N operations in all;
//! * `short`: they need not have reached everything;
//! * `rounds=N`: instead, the program that is the VM's module, so often;
//! * `race`: a second processor writes into the rings meanwhile;
//! * `end=WAY`: how the VM ends, in the midst of it (`ends`);
//! * `strict`: each operation has to do what it is for, as those of a driver;
//! * `sign=N`: how often it says how far it is;
//! * `table`: in the end it says which calls came back with which statuses;
//! * `record`: says each operation's bytes, as a line of a recorded program.
#![no_std]
#![no_main]

mod calls;
mod counts;
mod ends;
mod messages;
mod pages;
mod ports;
mod registers;
mod rings;
mod scribble;
mod synic;
mod verdict;
mod vmbus;

use guests::metal::{Boot, apic, time};
use guests::program::{Family, Program};
use guests::{child, print, println};

use counts::Counts;
use vmbus::Vmbus;

child!(main);

/// Operations between two signs of life, if the command line does not say.
const SIGN: u64 = 10_000;

/// What runs.
struct Interpreter {
    vmbus: Vmbus,
    counts: Counts,
    has_race: bool,
    is_strict: bool,
    sign: u64,
    records: bool,
    done: u64,
}

fn main(boot: &Boot) {
    apic::enable();
    synic::init();
    let has_race = boot.has("race");
    let mut interpreter = Interpreter {
        vmbus: Vmbus::new(!has_race),
        counts: Counts::new(),
        has_race,
        is_strict: boot.has("strict"),
        sign: boot.number("sign").unwrap_or(SIGN).max(1),
        records: boot.has("record"),
        done: 0,
    };
    if interpreter.has_race {
        scribble::start();
    }
    match boot.number("rounds") {
        Some(rounds) => interpreter.recorded(boot, rounds),
        None => interpreter.random(boot),
    }
    if boot.has("table") {
        println!("{}", interpreter.counts.calls());
    }
    println!("{}", interpreter.counts);
    println!("{} operations", interpreter.done);
    ends::end(boot);
    println!("ok interpreter");
}

impl Interpreter {
    fn recorded(&mut self, boot: &Boot, rounds: u64) {
        let text = boot.module(0).expect("a program as the module");
        let program = Program::recorded(text);
        let program = program.unwrap_or_else(|line| panic!("line {line} is none of a program"));
        for _ in 0..rounds {
            self.run(program.clone());
        }
    }

    fn random(&mut self, boot: &Boot) {
        let seed = boot.number("seed").unwrap_or(1);
        let operations = boot.number("operations").unwrap_or(100_000);
        let size = boot.number("size").unwrap_or(1000).max(1);
        println!("seed {seed}, {operations} operations in programs of {size}");
        let mut program = seed << 32;
        while self.done < operations {
            let size = size.min(operations - self.done);
            self.run(Program::random(program, size));
            program += 1;
        }
        if !self.has_race && !boot.has("short") {
            verdict::verdict(&self.counts, self.done);
        }
    }

    /// Runs a program from a connection on that is in order.
    fn run(&mut self, mut program: Program<'_>) {
        self.vmbus.begin(&mut self.counts);
        if self.has_race {
            scribble::go_on();
        }
        while let Some((family, which)) = program.operation() {
            let did = self.operation(&mut program, family, which);
            self.counts.operation(family, did);
            if self.records {
                record(&program, family, did);
            }
            let fine = did || !self.is_strict;
            assert!(fine, "{family:?} {:02x?} was in vain", program.bytes());
            self.done += 1;
            if self.done.is_multiple_of(self.sign) {
                println!(
                    "{} operations done in {} ms",
                    self.done,
                    time::reference() / 10_000
                );
            }
        }
        if self.has_race {
            scribble::rest();
        }
    }

    fn operation(&mut self, program: &mut Program<'_>, family: Family, which: u8) -> bool {
        let (vmbus, counts) = (&mut self.vmbus, &mut self.counts);
        match family {
            Family::Call => calls::operation(counts, program, which),
            Family::Msr => registers::operation(program, which),
            Family::Port => ports::operation(program, which),
            Family::Synic => synic::operation(program, which),
            Family::Message => messages::operation(vmbus, counts, program, which),
            Family::Gpadl => messages::list(vmbus, counts, program, which),
            Family::Channel if which == 0 && self.has_race => {
                scribble::rest();
                vmbus.begin(counts);
                scribble::go_on();
                true
            }
            Family::Channel => vmbus::operation(vmbus, counts, program, which),
            Family::Ring => rings::operation(vmbus, counts, program, which),
            Family::Answer => rings::answer(vmbus, counts, program, which),
            Family::Signal => rings::signal(vmbus, counts, program),
            Family::Take => synic::take_all(counts, vmbus::note),
        }
    }
}

fn record(program: &Program<'_>, family: Family, did: bool) {
    for byte in program.bytes() {
        print!("{byte:02x} ");
    }
    println!("# {family:?} {did}");
}
