//! Rings against a fake memory: first what each call does, then two sides that run at the same time.

mod fake;
mod guests;
mod incoming;
mod interleaving;
mod outgoing;
mod round_trip;
mod two_sides;
mod world;
