//! What stands before all that is enqueued.

use std::result;

use qtasks::{
    Around, Error, NewJobInfo, Reject,
    prelude::*,
    sqlite::rusqlite::Connection,
    store::{Budget, Find},
};
use qtasks_tests::Place;

use crate::{HOUR, Tenant, stage};

/// Lets no call of `acme` in, and puts those of `slow` elsewhere.
struct Door;

impl Around for Door {
    fn enqueue(&self, job: &mut NewJobInfo<'_>) -> Result<(), Reject> {
        match job.arg::<String>("of") {
            Ok(of) if of == "acme" => Err(Reject::because("acme is suspended")),
            Ok(of) if of == "slow" => {
                job.set_queue("slow");
                job.set_priority(-5);
                job.set_max_time(HOUR);
                Ok(())
            }
            Ok(of) if of == "wrong" => {
                job.set_queue("no such name");
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[qtask]
async fn calls_at_the_door(of: String) -> String {
    of
}

#[qtask(echo = true)]
async fn enqueues_at_the_door(ctx: TaskContext, of: String, then: String) -> result::Result<String, String> {
    let enqueued = ctx.enqueue(calls_at_the_door(then)).await;
    Ok(match enqueued {
        Ok(job) => format!("{of}: {}", job.result().await.map_err(|error| error.to_string())?),
        Err(error) => format!("{of}: {error}"),
    })
}

const REFUSED: &str = "a call of `calls_at_the_door` is refused: acme is suspended";

#[tokio::test]
async fn a_call_that_is_refused_becomes_no_job_wherever_it_is_made() {
    let stage = stage(|builder, _| builder.around(Door)).await;
    let (app, of) = (&stage.app, |of: &str| calls_at_the_door(of.to_owned()));
    assert_eq!(app.enqueue(of("acme")).await.unwrap_err().to_string(), REFUSED);
    let id = JobId::new();
    let calls = ["ada", "acme", "bob"].map(|name| of(name).id(if name == "acme" { id } else { JobId::new() }));
    let error = app.enqueue_all(calls).await.unwrap_err();
    assert!(matches!(error, Error::Rejected { id: refused, .. } if refused == id), "{error}");
    let args = serde_json::json!({ "of": "acme" });
    assert_eq!(app.enqueue_json("calls_at_the_door", &args).await.unwrap_err().to_string(), REFUSED);
    assert!(
        app.find(Find::default().oldest_first()).budget(Budget::jobs(9)).await.unwrap().jobs.is_empty(),
        "all or none"
    );
    assert!(matches!(app.enqueue(of("wrong")).await, Err(Error::OverLimit(_))));
    let [refused, let_in] = ["acme", "ada"].map(|then| enqueues_at_the_door("it".to_owned(), then.to_owned()));
    let [refused, let_in] = [app.enqueue(refused).await.unwrap(), app.enqueue(let_in).await.unwrap()];
    stage.work().await;
    assert_eq!(refused.result().await.unwrap(), format!("it: {REFUSED}"));
    assert_eq!(let_in.result().await.unwrap(), "it: ada");
}

#[tokio::test]
async fn a_call_can_be_changed_before_it_is_stored_also_in_sql() {
    let place = Place::sqlite();
    let app = QueueTasks::builder().store(&place.url).around(Door).provides::<Tenant>().build().await.unwrap();
    let path = place.url.strip_prefix("sqlite:").unwrap();
    let mut database = Connection::open(path).unwrap();
    let of = |of: &str| calls_at_the_door(of.to_owned());
    let job = app.enqueue(of("slow")).await.unwrap();
    let tx = database.transaction().unwrap();
    assert_eq!(app.enqueue_in(&tx, of("acme")).unwrap_err().to_string(), REFUSED);
    let in_tx = app.enqueue_in(&tx, of("slow")).unwrap();
    tx.commit().unwrap();
    assert_eq!(app.statement(of("acme")).unwrap_err().to_string(), REFUSED);
    let statement = app.statement(of("slow")).unwrap();
    database.execute(&statement.sql, statement.parameters()).unwrap();
    let jobs = app.find(Find::default().oldest_first()).budget(Budget::jobs(9)).await.unwrap().jobs;
    assert_eq!(jobs.len(), 3);
    for id in [job.id(), in_tx.id(), statement.id] {
        let call = &jobs.iter().find(|job| job.call.id == id).unwrap().call;
        assert_eq!((&*call.queue, call.priority, call.max_time), ("slow", -5, Some(HOUR)));
    }
}

#[tokio::test]
async fn an_argument_is_read_by_its_name_and_never_shown() {
    let stage = stage(|builder, _| builder).await;
    let job = stage.app.enqueue(calls_at_the_door("hunter2".to_owned())).await.unwrap();
    let call = stage.store.job(job.id()).await.unwrap().unwrap().call;
    assert_eq!(call.arg::<String>("of").unwrap(), "hunter2");
    let [number, other] = [call.arg::<u32>("of"), call.arg::<u32>("nothing")].map(|arg| arg.unwrap_err().to_string());
    assert!(number.starts_with("the argument `of` of `calls_at_the_door` cannot be read as `u32`: "), "{number}");
    assert!(!number.contains("hunter2"), "{number}");
    assert!(other.ends_with("the call has no argument of this name"), "{other}");
}
