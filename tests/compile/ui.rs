//! What users see when they write tasks that are wrong: the text of each error.
//!
//! `TRYBUILD=overwrite cargo test -p qtasks-ui` writes the texts down anew; read each one before it is kept.

#[test]
fn tasks_that_are_wrong_say_what_to_write() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("fail/*.rs");
    // One mistake of a newcomer each: understood in ten seconds, by the first message.
    cases.compile_fail("mistakes/*.rs");
}
