//! What an operator sees of an application from outside of it: its workers and tasks, counts, searches, and why a job waits.

use std::time::Duration;

use qtasks::{Error, Result, Scope, Why, job::StateKind, prelude::*, store::Budget};
use qtasks_tests::{Diary, Stage, eventually, in_time, on_every_store};
use serde_json::json;

on_every_store![
    a_worker_and_its_tasks_are_known_while_it_runs,
    a_call_by_name_goes_where_the_card_of_its_task_says,
    jobs_are_counted_by_lane,
    jobs_are_found_by_a_text,
    a_job_that_never_started_can_be_edited,
    a_job_says_why_it_waits,
    what_a_worker_has_done_is_added_up,
];

#[qtask(queue = "mail", priority = 3, description = "sends a letter", tags = ["post"])]
async fn letter(to: String, diary: State<Diary>) -> Result<(), String> {
    diary.note(&to);
    if to == "nobody" { Err("no address".to_owned()) } else { Ok(()) }
}

#[qtask]
async fn parcel(to: String, diary: State<Diary>) {
    diary.told(&to).await;
}

async fn a_worker_and_its_tasks_are_known_while_it_runs(stage: Stage) {
    let other = stage.neighbour().await;
    assert_eq!(other.workers().await.unwrap(), []);
    assert_eq!(other.tasks_known().await.unwrap(), []);
    let worker = stage.app.worker().queues(["mail", "default"]).concurrency(3).start().await.unwrap();
    let seen = other.workers().await.unwrap();
    assert_eq!(seen.iter().map(|worker| worker.id).collect::<Vec<_>>(), [worker.id()]);
    let card = seen[0].card.as_ref().unwrap();
    assert_eq!((card.process, card.concurrency), (std::process::id(), 3));
    assert_eq!(card.queues, ["mail", "default"]);
    assert!(card.tasks.contains(&"letter".to_owned()) && !seen[0].gone && !seen[0].holds);
    let tasks = other.tasks_known().await.unwrap();
    let letter = tasks.iter().find(|task| task.name == "letter").unwrap();
    assert_eq!((&*letter.queue, letter.priority, &letter.tags[..]), ("mail", 3, &["post".to_owned()][..]));
    assert_eq!(letter.description.as_deref(), Some("sends a letter"));
    let second = other.worker().start().await.unwrap();
    assert_eq!(stage.app.workers().await.unwrap().len(), 2);
    in_time(worker.shutdown()).await.unwrap();
    let rest = stage.app.workers().await.unwrap();
    assert_eq!(rest.iter().map(|worker| worker.id).collect::<Vec<_>>(), [second.id()]);
    in_time(second.shutdown()).await.unwrap();
    assert_eq!(stage.store.notes("worker").await.unwrap(), []);
    assert_eq!(stage.app.tasks_known().await.unwrap(), tasks, "tasks are known for good");
}

/// The card of a task that this program does not know.
async fn a_call_by_name_goes_where_the_card_of_its_task_says(stage: Stage) {
    use qtasks::{
        job::Version,
        json::Json,
        store::{Note, NoteChange, Written},
    };
    let value = Json::from_stored(r#"{"queue":"elsewhere","priority":-4,"later":true}"#);
    let note = Note { kind: "task".into(), name: "unknown.task".into(), version: Version::new(), value, until: None };
    let written = stage.store.note(vec![NoteChange::Write { note, seen: None }], vec![]).await.unwrap();
    assert_eq!(written, Written::Yes);
    let job = stage.app.enqueue_json("unknown.task", &json!({})).await.unwrap();
    let found = stage.app.find_job(job.id()).await.unwrap().unwrap();
    assert_eq!((&*found.call.queue, found.call.priority), ("elsewhere", -4));
    let job = stage.app.enqueue_json("without.card", &json!({})).await.unwrap();
    let found = stage.app.find_job(job.id()).await.unwrap().unwrap();
    assert_eq!((&*found.call.queue, found.call.priority), ("default", 0));
}

async fn jobs_are_counted_by_lane(stage: Stage) {
    assert_eq!(stage.app.counts().await.unwrap(), []);
    for to in ["ann", "bob", "nobody"] {
        stage.app.enqueue(letter(to.into())).await.unwrap();
    }
    stage.app.enqueue(parcel("ann".into()).delay(Duration::from_secs(3_600))).await.unwrap();
    stage.work().await;
    let counts = stage.neighbour().await.counts().await.unwrap();
    let counts: Vec<_> = counts.iter().map(|counts| (&*counts.lane.queue, &*counts.lane.task, counts.jobs)).collect();
    let [("default", "parcel", parcels), ("mail", "letter", letters)] = counts[..] else { panic!("{counts:?}") };
    assert_eq!((parcels.waiting, parcels.total(), letters.done, letters.waiting, letters.total()), (1, 1, 2, 1, 3));
}

async fn jobs_are_found_by_a_text(stage: Stage) {
    for to in ["ann", "bob", "nobody"] {
        stage.app.enqueue(letter(to.into())).await.unwrap();
    }
    let parcel = stage.app.enqueue(parcel("ann".into())).await.unwrap();
    let found = async |text: &str| {
        let page = stage.app.find(text).await.unwrap();
        page.jobs.into_iter().map(|job| job.call.id).collect::<Vec<_>>()
    };
    let all = found("order:oldest").await;
    assert_eq!(all.len(), 4);
    assert_eq!(found("task:letter").await, [all[2], all[1], all[0]]);
    assert_eq!(found("args.to:ann queue:mail").await, [all[0]]);
    assert_eq!(found("parc").await, [parcel.id()]);
    assert_eq!(found(&parcel.id().to_string()).await, [parcel.id()]);
    assert_eq!(found("state:dead,done").await, []);
    assert_eq!(found("after:1h before:2100-01-01").await.len(), 4);
    let first = stage.app.find("order:oldest").budget(Budget::jobs(3)).await.unwrap();
    let rest = stage.app.find("order:oldest").after(first.next).await.unwrap();
    assert_eq!((first.jobs.len(), rest.jobs.len(), rest.next), (3, 1, None));
    let error = stage.app.find("stat:dead").await.unwrap_err();
    assert!(matches!(error, Error::Search(_)) && error.to_string().starts_with("a search knows no `stat:`"), "{error}");
}

async fn a_job_that_never_started_can_be_edited(stage: Stage) {
    let job = stage.app.enqueue(parcel("ann".into())).await.unwrap();
    job.edit().queue("nightly").priority(7).delay(Duration::from_secs(3_600)).await.unwrap();
    let found = stage.app.find_job(job.id()).await.unwrap().unwrap();
    assert_eq!((&*found.call.queue, found.call.priority), ("nightly", 7));
    assert!(matches!(job.why().await.unwrap(), Why::NotDue { .. }));
    job.edit().queue("default").at(found.call.enqueued).await.unwrap();
    stage.diary.note("ann");
    stage.work().await;
    job.result().await.unwrap();
    let error = job.edit().priority(1).await.unwrap_err();
    assert_eq!(error.to_string(), format!("job {} is done, so it cannot be edited", job.id()));
    let failed = stage.app.enqueue(letter("nobody".into())).await.unwrap();
    stage.work().await;
    let error = failed.edit().priority(1).await.unwrap_err();
    assert_eq!(error.to_string(), format!("job {} is between two attempts, so it cannot be edited", failed.id()));
    let error = failed.edit().queue("no such").await.unwrap_err();
    assert_eq!(error.to_string(), "`no such` cannot name a queue: a name is 1 to 128 letters, digits and `_.:-`");
}

async fn a_job_says_why_it_waits(stage: Stage) {
    let first = stage.app.enqueue(parcel("ann".into())).await.unwrap();
    assert_eq!(first.why().await.unwrap(), Why::NoWorker);
    let worker = stage.app.worker().queues(["default"]).concurrency(1).start().await.unwrap();
    eventually("it runs", async || first.why().await.unwrap() == Why::Running).await;
    let unheard = stage.app.enqueue(letter("bob".into())).await.unwrap();
    assert_eq!(unheard.why().await.unwrap(), Why::NoListener { queue: "mail".into() });
    let unknown = stage.app.enqueue_json("parcell", &json!({})).await.unwrap();
    let expected = Why::UnknownTask { task: "parcell".into(), queue: "default".into() };
    assert_eq!(unknown.why().await.unwrap(), expected);
    let behind = stage.app.enqueue_all(["cy", "di"].map(|to| parcel(to.into()))).await.unwrap();
    let expected = Why::InLine { waiting: 2, running: 1, slots: 1 };
    eventually("it is in line", async || behind[1].why().await.unwrap() == expected).await;
    stage.app.pause(Scope::Task("parcel")).because("it rains").await.unwrap();
    let why = behind[1].why().await.unwrap().to_string();
    assert!(why.starts_with("the task `parcel` is paused since ") && why.ends_with(": it rains"), "{why}");
    stage.diary.note("ann");
    first.result().await.unwrap();
    assert!(matches!(first.why().await.unwrap(), Why::Ended { state: StateKind::Done, at: Some(_) }));
    in_time(worker.shutdown()).await.unwrap();
}

async fn what_a_worker_has_done_is_added_up(stage: Stage) {
    use qtasks::store::RateSpan;
    let now = stage.app.enqueue(letter("ann".into())).await.unwrap();
    let began = stage.app.find_job(now.id()).await.unwrap().unwrap().call.enqueued;
    stage.app.enqueue(letter("nobody".into())).await.unwrap();
    stage.work().await;
    let last = stage.app.enqueue(letter("bob".into())).await.unwrap();
    stage.work().await;
    let ended = stage.app.find_job(last.id()).await.unwrap().unwrap().ended.unwrap();
    for span in [RateSpan::Minute, RateSpan::Hour] {
        let to = ended + span.duration();
        let rates = stage.neighbour().await.rates(span, span.start(began), to).await.unwrap();
        let letters = rates.iter().filter(|rate| rate.lane.task == "letter" && rate.lane.queue == "mail");
        let sum = letters.fold([0; 3], |sum, rate| {
            [sum[0] + rate.numbers.attempts, sum[1] + rate.numbers.done, sum[2] + rate.numbers.run.iter().sum::<u64>()]
        });
        let failed: u64 = rates.iter().map(|rate| rate.numbers.failed).sum();
        assert!(sum[0] >= 3 && sum[1] == 2 && sum[2] == sum[0] && failed == sum[0] - 2, "{rates:?}");
    }
}
