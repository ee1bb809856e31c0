//! The examples of qtasks: one file each, run with `cargo run --example NAME`.
