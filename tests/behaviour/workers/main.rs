//! Workers, handles and stores: what runs when, what is seen of it, and what happens when something breaks.

mod cancelling;
mod heartbeat;
mod losing;
mod order;
mod paused;
mod poison;
mod stalled;
mod stopping;
mod streams;
mod torn;
mod trouble;
mod unserved;
mod waiting;
