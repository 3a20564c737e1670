//! Section 4 of the sheet as tests: its vectors of numbers (`numbers`) and of rounds (`rounds`), its sequences (`sequences`), its
//! invariants (`invariants`, `convergence`), and its text, step by step, as a program to compare with (`model`).

mod convergence;
mod guest;
mod invariants;
mod model;
mod numbers;
mod rounds;
mod sequences;
mod strategy;
mod text;
mod world;
