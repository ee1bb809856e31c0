//! What users see when they write tasks that are wrong: the text of each error.
//!
//! `TRYBUILD=overwrite cargo test -p qtasks-ui` writes the texts down anew; read each one before it is kept.

#[test]
fn tasks_that_are_wrong_say_what_to_write() {
    trybuild::TestCases::new().compile_fail("fail/*.rs");
}
