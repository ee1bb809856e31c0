//! Workers, handles and stores.
