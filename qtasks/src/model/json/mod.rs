//! Encoded values: what a store keeps of arguments, replies and results, and the hash of a yielded value.

mod discreet;
mod encoded;
mod finite;
mod hash;
mod scratch;
mod text;

pub(crate) use self::{
    encoded::{DEEPEST, is_exact, reader},
    hash::{Measured, measure},
    text::{bytes_of_text, start_of_text},
};
pub use self::{
    encoded::{Json, Undecodable},
    hash::hash,
};
