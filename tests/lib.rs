//! What the tests of qtasks share.
