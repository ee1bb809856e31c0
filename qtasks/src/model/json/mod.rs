//! Encoded values: arguments, replies and results as a store keeps them, and the hash of a yielded value.

mod discreet;
mod encoded;
mod finite;
mod hash;
mod scratch;
mod text;

pub(crate) use self::{
    encoded::{DEEPEST, is_exact, reader},
    hash::{Measured, measure, sorted},
    text::{bytes_of_text, start_of_text},
};
pub use self::{
    encoded::{Json, Undecodable},
    hash::hash,
};
