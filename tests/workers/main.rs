//! Workers, handles and stores: what runs when, what is seen of it, and what happens when something breaks.

mod cancelling;
mod losing;
mod order;
mod stopping;
mod streams;
mod trouble;
