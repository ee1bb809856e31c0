//! Tasks that are right: that they compile, without a warning, is what is shown.

// What a crate has that asks for no more than the compiler does; `strict_lints` asks for more.
#![allow(missing_docs, unreachable_pub)]

// For those who have it under another name, as in `placement`.
pub extern crate qtasks as renamed;

pub mod four_combinations;
pub mod other_attributes;
pub mod placement;
pub mod strict_lints;
pub mod transactions;
pub mod yields_anywhere;
pub mod yields_unimported;
