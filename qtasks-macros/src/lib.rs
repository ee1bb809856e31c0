//! The `#[qtask]` attribute of qtasks.
