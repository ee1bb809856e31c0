//! The suite that every store passes, one line for each store.

mod memory {
    use std::sync::Arc;

    use qtasks::store::Memory;

    qtasks::store_conformance!(async || ((), Arc::new(Memory::new()) as _));
}
