//! The programs in the README and in `docs/`, run as doctests.

#[doc = include_str!("../../README.md")]
struct Readme;

#[doc = include_str!("../../docs/guarantees.md")]
struct Guarantees;

#[doc = include_str!("../../docs/operations.md")]
struct Operations;

#[doc = include_str!("../../docs/schedules.md")]
struct Schedules;

#[doc = include_str!("../../docs/stores.md")]
struct Stores;

#[doc = include_str!("../../docs/tasks.md")]
struct Tasks;

#[doc = include_str!("../../docs/testing.md")]
struct Testing;
