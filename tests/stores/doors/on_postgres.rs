//! The SQL function `qtasks.enqueue`.

use qtasks::prelude::*;
use qtasks_tests::servers::postgres::{shared, tell};

use crate::welcome;

/// What the server says to a call with an id.
fn call(url: &str, task: &str, args: &str, id: JobId) -> Result<String, String> {
    let said = tell(url, &format!(r#"SELECT qtasks.enqueue('{task}', '{args}', '{{"id": "{id}"}}')"#));
    said.map_err(|said| said.lines().next().unwrap_or_default().to_owned())
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn an_id_names_one_call() {
    let url = shared().new_database();
    let app = QueueTasks::open(&url).await.unwrap();
    let job = app.enqueue(welcome("Ada \u{0} Lovelace".repeat(9)).priority(9)).await.unwrap().id();
    let id = JobId::new();
    let args = r#"{"user": "Ada", "more": [1, {"a": null, "b": 2}]}"#;
    for _ in 0..2 {
        assert_eq!(call(&url, "doors.welcome", args, id), Ok(id.to_string()), "the job that is there");
    }
    let sorted_otherwise = r#"{"more": [1, {"b": 2, "a": null}], "user": "Ada"}"#;
    assert_eq!(call(&url, "doors.welcome", sorted_otherwise, id), Ok(id.to_string()));
    assert_eq!(
        call(&url, "other", args, id),
        Err(format!("ERROR:  job {id} is one of the task `doors.welcome`, not of `other`"))
    );
    for (args, id) in [(r#"{"user": "Bob"}"#, id), ("{}", id), (r#"{"user": "Ada"}"#, job)] {
        let said = "is there with other arguments; an id names one call, so give this one another";
        assert_eq!(
            call(&url, "doors.welcome", args, id),
            Err(format!("ERROR:  job {id} of the task `doors.welcome` {said}"))
        );
    }
    assert_eq!(tell(&url, "SELECT count(*) FROM qtasks.jobs").unwrap(), "2");
}

#[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
#[tokio::test]
async fn what_an_option_cannot_be_is_said() {
    let url = shared().new_database();
    drop(QueueTasks::open(&url).await.unwrap());
    for (options, said) in crate::wrong_options() {
        let error = tell(&url, &format!("SELECT qtasks.enqueue('t', '{{}}', '{options}')")).unwrap_err();
        assert_eq!(error.lines().next(), Some(&*format!("ERROR:  {said}")), "{options}");
    }
    let deep = format!(r#"{{"a": {}{}}}"#, "[".repeat(128), "]".repeat(128));
    let error = tell(&url, &format!("SELECT qtasks.enqueue('t', '{deep}')")).unwrap_err();
    assert_eq!(error.lines().next(), Some("ERROR:  the arguments of `t` are more than 128 arrays and objects deep"));
    tell(&url, &format!("SELECT qtasks.enqueue('t', '{}')", &deep.replacen("[[", "[", 1).replacen("]]", "]", 1)))
        .unwrap();
    let last = r#"{"queue": null, "priority": 7.0, "delay": 1e30, "max_time": 1e30}"#;
    tell(&url, &format!("SELECT qtasks.enqueue('t', '{{}}', '{last}')")).unwrap();
    assert_eq!(tell(&url, "SELECT count(*) FROM qtasks.jobs").unwrap(), "2");
}
