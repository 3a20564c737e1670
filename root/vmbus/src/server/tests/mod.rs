//! The server against a scripted guest.

mod channels;
mod contact;
mod gpadls;
mod guest;
mod malformed;
mod order;
mod pressure;
mod random;
mod rescind;
