//! A program with two tasks of one name.

use qtasks::{Error, QueueTasks};

mod mails {
    #[qtasks::qtask]
    pub(super) async fn send() {}
}

mod faxes {
    #[qtasks::qtask]
    pub(super) async fn send() {}
}

#[tokio::test]
async fn two_tasks_of_one_name_are_an_error_that_names_both_places() {
    let _ = (mails::send(), faxes::send());
    let error = QueueTasks::open("memory:").await.unwrap_err();
    assert!(matches!(error, Error::DuplicateTask { name: "send", .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("same_names::mails (") && text.contains("same_names::faxes ("), "{text}");
    assert_eq!(text.matches("programs/same_names.rs:").count(), 2, "{text}");
}
