//! Section 4 of the sheet as tests: its vectors of numbers (`numbers`) and of rounds (`rounds`), its sequences, and its invariants.

mod guest;
mod numbers;
mod rounds;
mod sequences;
mod text;
mod world;
