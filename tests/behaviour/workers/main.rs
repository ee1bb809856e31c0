//! Workers, handles and stores: what runs when, what is seen of it, and what happens when something breaks.

mod abandoned;
mod away;
mod cancelling;
mod doubted;
mod expiring;
mod heartbeat;
mod known;
mod losing;
mod order;
mod paused;
mod pausing;
mod poison;
mod pruned;
mod shaky;
mod stalled;
mod stopping;
mod streams;
mod suspects;
mod torn;
mod trouble;
mod waiting;
mod watching;
