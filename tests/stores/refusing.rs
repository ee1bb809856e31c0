//! What a store will never carry out fails the job that asks for it, and nothing else.

use std::sync::Arc;

use futures::future::join_all;
use qtasks::{
    Budget, Find, JobHandle, Limits, QueueTasks,
    job::{Ending, WorkerId},
    prelude::*,
    sqlite::rusqlite,
    store::{Ask, Suspects},
};
use qtasks_tests::{
    Diary, Place, in_time,
    servers::{postgres, redis},
    whole,
};

/// A text that the store refuses to keep.
#[derive(Clone)]
struct Poison(Arc<str>);

/// An application on a store that refuses a text.
struct Scene {
    app: QueueTasks,
    diary: Diary,
    poison: Poison,
    /// What the store says of it.
    cause: &'static str,
    _server: Option<redis::Redis>,
    place: Place,
}

impl Scene {
    async fn new(place: Place, server: Option<redis::Redis>, poison: &str, cause: &'static str) -> Self {
        let (diary, poison) = (Diary::default(), Poison(poison.into()));
        let mut limits = Limits::DEFAULT;
        (limits.args, limits.step) = (8 << 20, 8 << 20);
        let builder = QueueTasks::builder().store(&place.url).state(diary.clone()).state(poison.clone());
        let app = builder.limits(limits).build().await.unwrap();
        Self { app, diary, poison, cause, _server: server, place }
    }

    /// Another connection to its SQLite file.
    fn file(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.place.url.strip_prefix("sqlite:").unwrap()).unwrap()
    }

    async fn sqlite() -> Self {
        let scene = Self::new(Place::sqlite(), None, "poison", "no such text here").await;
        let file = scene.file();
        for (table, change, text) in [
            ("jobs", "INSERT", "NEW.args"),
            ("jobs", "UPDATE", "NEW.detail"),
            ("attempts", "INSERT", "NEW.error"),
            ("memos", "INSERT", "NEW.value"),
            ("new_steps", "INSERT", "NEW.steps"),
            ("strips", "INSERT", "NEW.steps"),
        ] {
            let trigger = format!(
                "CREATE TRIGGER refuse_{table}_{change} BEFORE {change} ON qtasks_{table}
                 WHEN instr(CAST({text} AS BLOB), CAST('poison' AS BLOB))
                 BEGIN SELECT raise(ABORT, 'no such text here'); END"
            );
            file.execute_batch(&trigger).unwrap();
        }
        scene
    }

    async fn postgres() -> Self {
        let url = postgres::shared().new_database();
        let scene = Self::new(Place::at(url.clone()), None, "poison", "no such text here").await;
        let raise = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN RAISE EXCEPTION 'no such text here'; END $$";
        postgres::tell(&url, raise).unwrap();
        for (table, change, text) in [
            ("jobs", "UPDATE", "NEW.outcome"),
            ("attempts", "INSERT", "NEW.ending"),
            ("memos", "INSERT", "NEW.value"),
            ("steps", "INSERT", "NEW.reply"),
        ] {
            let trigger = format!(
                "CREATE TRIGGER refuse_{change} BEFORE {change} ON qtasks.{table} FOR EACH ROW
                 WHEN ({text} LIKE '%poison%') EXECUTE FUNCTION refuse()"
            );
            postgres::tell(&url, &trigger).unwrap();
        }
        // A constraint is another kind of refusal.
        let check = "ALTER TABLE qtasks.jobs ADD CONSTRAINT \"no such text here\" CHECK (args NOT LIKE '%poison%')";
        postgres::tell(&url, check).unwrap();
        scene
    }

    async fn redis(arguments: &[&str], cause: &'static str) -> Self {
        let server = redis::Redis::start(arguments);
        let poison = "poison".repeat((1 << 20) / "poison".len() + 10_000);
        Self::new(Place::at(server.url()), Some(server), &poison, cause).await
    }

    fn takes_poison(&self) -> takes {
        takes(self.poison.0.to_string())
    }

    /// Where the tries of this task end, with the words of the store for each.
    async fn ends_refused<C: serde::de::DeserializeOwned + std::fmt::Debug>(&self, name: &str, job: &JobHandle<C>) {
        let error = in_time(job.result()).await.unwrap_err();
        assert!(whole(&error).contains("is dead: the store refuses to "), "{name}: {}", whole(&error));
        assert!(whole(&error).contains(self.cause), "{name}: {}", whole(&error));
        let status = job.status().await.unwrap();
        assert_eq!((status.attempt, status.failures, self.diary.count(name)), (2, 2, 2), "{name}");
        for attempt in &status.attempts {
            assert!(matches!(&attempt.ending, Ending::Failed { error } if error.contains(self.cause)), "{attempt:?}");
        }
        assert_eq!(status.attempts.len(), 2);
    }
}

#[qtask]
async fn takes(text: String) {
    drop(text);
}

#[qtask]
async fn adds(n: i64) -> Vec<i64> {
    for value in 0..n {
        yield_!(value);
    }
}

#[qtask]
async fn doubles(n: i64) -> i64 {
    2 * n
}

#[qtask(retry = 1, backoff = "1ms..1ms")]
async fn yields_poison(diary: State<Diary>, poison: State<Poison>) -> Vec<String> {
    diary.note("yields");
    for value in ["a", "b", &*poison.0, "c"] {
        yield_!(value.to_owned());
    }
}

#[qtask(retry = 1, backoff = "1ms..1ms")]
fn yields_poison_blocking(diary: State<Diary>, poison: State<Poison>) -> Vec<String> {
    diary.note("yields blocking");
    for value in ["a", "b", &*poison.0, "c"] {
        yield_!(value.to_owned());
    }
}

#[qtask(retry = 1, backoff = "1ms..1ms", echo = true)]
async fn notes_poison(ctx: TaskContext, diary: State<Diary>, poison: State<Poison>) -> usize {
    diary.note("notes");
    ctx.once("text", || async { poison.0.to_string() }).await.len()
}

#[qtask(retry = 1, backoff = "1ms..1ms", echo = true)]
async fn enqueues_poison(ctx: TaskContext, diary: State<Diary>, poison: State<Poison>) -> Result<(), qtasks::Error> {
    diary.note("enqueues");
    ctx.enqueue(takes(poison.0.to_string())).await.map(drop)
}

#[qtask(retry = 1, backoff = "1ms..1ms")]
async fn returns_poison(diary: State<Diary>, poison: State<Poison>) -> String {
    diary.note("returns");
    poison.0.to_string()
}

#[qtask(retry = 1, backoff = "1ms..1ms")]
async fn fails_by_poison(diary: State<Diary>, poison: State<Poison>) -> Result<(), String> {
    diary.note("fails");
    Err(poison.0.to_string())
}

/// Its handler fails by what the store refuses, and the task goes on without the value.
#[qtask(generate_handler = refuses, on_error = "skip", retry = 1, backoff = "1ms..1ms")]
async fn skips_poison(diary: State<Diary>) -> Vec<i64> {
    diary.note("skips");
    for value in 0..3 {
        yield_!(value);
    }
}

fn refuses(value: i64, poison: State<Poison>) -> Result<i64, String> {
    if value == 1 { Err(poison.0.to_string()) } else { Ok(value) }
}

async fn a_skipped_value_whose_error_is_refused_fails_its_job(scene: Scene) {
    let job = scene.app.enqueue(skips_poison()).await.unwrap();
    let worker = scene.app.worker().start().await.unwrap();
    scene.ends_refused("skips", &job).await;
    worker.shutdown().await.unwrap();
}

/// One of each kind among many that are fine.
async fn only_the_jobs_that_ask_for_it_fail(scene: Scene) {
    let app = &scene.app;
    let yields = app.enqueue(yields_poison()).await.unwrap();
    let blocking = app.enqueue(yields_poison_blocking()).await.unwrap();
    let notes = app.enqueue(notes_poison()).await.unwrap();
    let enqueues = app.enqueue(enqueues_poison()).await.unwrap();
    let returns = app.enqueue(returns_poison()).await.unwrap();
    let lists = app.enqueue_all((0..30).map(adds)).await.unwrap();
    let numbers = app.enqueue_all((0..30).map(doubles)).await.unwrap();
    let worker = app.worker().concurrency(100).start().await.unwrap();
    // Nothing that goes on beside it is hurt.
    for n in 0..100 {
        app.enqueue(doubles(n)).await.unwrap();
    }
    for (n, job) in (0..30).zip(&lists) {
        assert_eq!(in_time(job.result()).await.unwrap(), (0..n).collect::<Vec<_>>());
    }
    for (n, job) in (0..30).zip(&numbers) {
        assert_eq!(in_time(job.result()).await.unwrap(), 2 * n);
    }
    scene.ends_refused("yields", &yields).await;
    scene.ends_refused("yields blocking", &blocking).await;
    scene.ends_refused("notes", &notes).await;
    scene.ends_refused("enqueues", &enqueues).await;
    scene.ends_refused("returns", &returns).await;
    for job in [yields.id(), blocking.id()] {
        assert_eq!(app.any_job(job).await.unwrap().status().await.unwrap().steps, 2, "what came before is kept");
    }
    for job in lists.iter().map(JobHandle::id).chain(numbers.iter().map(JobHandle::id)) {
        assert_eq!(app.any_job(job).await.unwrap().status().await.unwrap().attempt, 1);
    }
    worker.shutdown().await.unwrap();
}

async fn an_error_is_told_in_the_words_of_the_store(scene: Scene) {
    let job = scene.app.enqueue(fails_by_poison()).await.unwrap();
    let worker = scene.app.worker().start().await.unwrap();
    scene.ends_refused("fails", &job).await;
    worker.shutdown().await.unwrap();
}

async fn only_the_call_that_enqueues_it_fails(scene: Scene) {
    let app = &scene.app;
    let good = join_all((0..50).map(|n| app.enqueue(doubles(n))));
    let bad = join_all((0..5).map(|_| app.enqueue(scene.takes_poison())));
    let more = join_all((0..50).map(|n| app.enqueue(doubles(n))));
    let (good, bad, more) = in_time(async { tokio::join!(good, bad, more) }).await;
    for enqueued in good.into_iter().chain(more) {
        enqueued.unwrap();
    }
    for refused in bad {
        let error = refused.unwrap_err();
        assert!(!error.is_store_trouble(), "{error:?}");
        assert!(whole(&error).starts_with("the store refuses to enqueue jobs: "), "{}", whole(&error));
        assert!(whole(&error).contains(scene.cause), "{}", whole(&error));
    }
    let mixed = app.enqueue_all([takes("good".into()), scene.takes_poison()]).await;
    assert!(!mixed.unwrap_err().is_store_trouble());
    assert_eq!(
        app.find(Find::default().oldest_first()).budget(Budget::jobs(999)).await.unwrap().jobs.len(),
        100,
        "of a call all or nothing"
    );
}

mod sqlite {
    use super::*;

    /// Not even the words in which the store refuses it.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_cannot_be_said_of_an_attempt_is_left_out() {
        for (table, change, column) in [("jobs", "UPDATE", "detail"), ("attempts", "INSERT", "error")] {
            let scene = Scene::new(Place::sqlite(), None, "poison", "").await;
            let trigger = format!(
                "CREATE TRIGGER refuse BEFORE {change} ON qtasks_{table} WHEN instr(NEW.{column}, 'poison')
                 BEGIN SELECT raise(ABORT, 'no poison here'); END"
            );
            scene.file().execute_batch(&trigger).unwrap();
            let job = scene.app.enqueue(fails_by_poison()).await.unwrap();
            let worker = scene.app.worker().start().await.unwrap();
            let error = in_time(job.result()).await.unwrap_err();
            worker.shutdown().await.unwrap();
            let said = "the store refuses what the attempt came to, and the text that says why";
            assert_eq!(error.to_string(), format!("job {} is dead: {said}", job.id()));
            assert_eq!((job.status().await.unwrap().attempt, scene.diary.count("fails")), (2, 2));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_attempt_that_leaves_no_trace_has_failed_all_the_same() {
        let scene = Scene::new(Place::sqlite(), None, "", "").await;
        let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON qtasks_attempts BEGIN SELECT raise(ABORT, 'none'); END";
        scene.file().execute_batch(trigger).unwrap();
        let job = scene.app.enqueue(fails_by_poison()).await.unwrap();
        let worker = scene.app.worker().start().await.unwrap();
        in_time(job.result()).await.unwrap_err();
        worker.shutdown().await.unwrap();
        let status = job.status().await.unwrap();
        assert_eq!((status.attempt, status.attempts_ended, status.attempts.len()), (2, 2, 0));
        assert_eq!(scene.diary.count("fails"), 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_lost_job_that_cannot_be_taken_over_holds_up_no_other() {
        let scene = Scene::new(Place::sqlite(), None, "", "").await;
        let jobs = scene.app.enqueue_all((0..5).map(doubles)).await.unwrap();
        let store = qtasks::store::open(&scene.place.url).await.unwrap();
        let lost = WorkerId::new();
        let ask = Ask {
            worker: lost,
            queues: ["default".to_owned()].into(),
            tasks: ["doubles"].into(),
            limit: 9,
            suspects: Suspects::PassOver,
            now: jiff::Timestamp::now(),
        };
        assert_eq!(store.lease(ask).await.unwrap().jobs.len(), 5);
        let bad = jobs[2].id().to_string().replace('-', "");
        let trigger = format!(
            "CREATE TRIGGER refuse BEFORE UPDATE ON qtasks_jobs WHEN OLD.id = x'{bad}'
             BEGIN SELECT raise(ABORT, 'no'); END"
        );
        scene.file().execute_batch(&trigger).unwrap();
        store.leave(lost).await.unwrap();
        let worker = scene.app.worker().start().await.unwrap();
        for (n, job) in [0, 1, 3, 4].into_iter().map(|n: usize| (n as i64, &jobs[n])) {
            assert_eq!(in_time(job.result()).await.unwrap(), 2 * n);
        }
        assert_eq!(jobs[2].status().await.unwrap().state.name(), "running");
        worker.shutdown().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn only_the_jobs_that_ask_for_it_fail() {
        super::only_the_jobs_that_ask_for_it_fail(Scene::sqlite().await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_error_is_told_in_the_words_of_the_store() {
        super::an_error_is_told_in_the_words_of_the_store(Scene::sqlite().await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_skipped_value_whose_error_is_refused_fails_its_job() {
        super::a_skipped_value_whose_error_is_refused_fails_its_job(Scene::sqlite().await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn only_the_call_that_enqueues_it_fails() {
        super::only_the_call_that_enqueues_it_fails(Scene::sqlite().await).await;
    }
}

mod postgresql {
    use super::*;

    #[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
    #[tokio::test(flavor = "multi_thread")]
    async fn what_no_repetition_mends_is_refused_and_what_may_pass_is_trouble() {
        let url = postgres::shared().new_database();
        // So long a call goes on in the face of trouble.
        let scene = Scene::new(Place::at(format!("{url}?timeout=1")), None, "", "").await;
        let raise = "CREATE FUNCTION raise_code() RETURNS trigger LANGUAGE plpgsql AS
                     $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = NEW.args::json ->> 'text'; END $$;
                     CREATE TRIGGER raise_code BEFORE INSERT ON qtasks.jobs FOR EACH ROW EXECUTE FUNCTION raise_code()";
        postgres::tell(&url, raise).unwrap();
        for code in ["22001", "22P05", "23505", "23514", "44000", "54000", "P0001"] {
            let error = scene.app.enqueue(takes(code.into())).await.unwrap_err();
            assert_eq!(whole(&error), format!("the store refuses to enqueue jobs: no (SQLSTATE {code})"));
            assert!(matches!(error, qtasks::Error::Refused { .. }) && !error.is_store_trouble());
        }
        let may_pass =
            ["08006", "25006", "40001", "40P01", "42501", "42P01", "53100", "53200", "55P03", "57014", "58030"];
        let errors = join_all(may_pass.map(|code| scene.app.enqueue(takes(code.into())))).await;
        for (code, error) in may_pass.into_iter().zip(errors) {
            let error = error.unwrap_err();
            assert!(error.is_store_trouble(), "{code}: {error:?}");
        }
    }

    /// The text of a constraint's error holds the row, and what the store keeps of it is refused too.
    #[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
    #[tokio::test(flavor = "multi_thread")]
    async fn an_outcome_that_breaks_a_constraint_fails_its_job() {
        let url = postgres::shared().new_database();
        let scene = Scene::new(Place::at(url.clone()), None, "poison", "violates check constraint \"clean\"").await;
        let check = "ALTER TABLE qtasks.jobs ADD CONSTRAINT clean CHECK (outcome NOT LIKE '%poison%')";
        postgres::tell(&url, check).unwrap();
        let job = scene.app.enqueue(returns_poison()).await.unwrap();
        let worker = scene.app.worker().start().await.unwrap();
        scene.ends_refused("returns", &job).await;
        worker.shutdown().await.unwrap();
    }

    #[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
    #[tokio::test(flavor = "multi_thread")]
    async fn only_the_jobs_that_ask_for_it_fail() {
        super::only_the_jobs_that_ask_for_it_fail(Scene::postgres().await).await;
    }

    #[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
    #[tokio::test(flavor = "multi_thread")]
    async fn an_error_is_told_in_the_words_of_the_store() {
        super::an_error_is_told_in_the_words_of_the_store(Scene::postgres().await).await;
    }

    #[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
    #[tokio::test(flavor = "multi_thread")]
    async fn a_skipped_value_whose_error_is_refused_fails_its_job() {
        super::a_skipped_value_whose_error_is_refused_fails_its_job(Scene::postgres().await).await;
    }

    #[cfg_attr(missing = "postgres", ignore = "Postgres is not installed")]
    #[tokio::test(flavor = "multi_thread")]
    async fn only_the_call_that_enqueues_it_fails() {
        super::only_the_call_that_enqueues_it_fails(Scene::postgres().await).await;
    }
}

/// Servers that take less than the application: those that tell how much, and those that only cut the connection.
mod redis_server {
    use super::*;

    const VALUE: &[&str] = &["--proto-max-bulk-len", "1mb"];
    const CALL: &[&str] = &["--client-query-buffer-limit", "1mb"];
    const SILENT: &[&str] = &["--proto-max-bulk-len", "1mb", "--rename-command", "CONFIG", ""];
    const SILENT_CALL: &[&str] = &["--client-query-buffer-limit", "1mb", "--rename-command", "CONFIG", ""];

    macro_rules! of_each_server {
        ($($name:ident: $arguments:ident, $cause:literal;)*) => {
            $(mod $name {
                use super::*;

                #[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
                #[tokio::test(flavor = "multi_thread")]
                async fn only_the_jobs_that_ask_for_it_fail() {
                    crate::only_the_jobs_that_ask_for_it_fail(Scene::redis($arguments, $cause).await).await;
                }

                #[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
                #[tokio::test(flavor = "multi_thread")]
                async fn only_the_call_that_enqueues_it_fails() {
                    crate::only_the_call_that_enqueues_it_fails(Scene::redis($arguments, $cause).await).await;
                }
            })*
        };
    }

    of_each_server! {
        that_tells_how_large_a_value_may_be: VALUE, "more than the 1048576 of its `proto-max-bulk-len`";
        that_tells_how_large_a_call_may_be: CALL, "more than the 1048576 of its `client-query-buffer-limit`";
        that_cuts_a_large_value: SILENT, "`proto-max-bulk-len`";
        that_cuts_a_large_call: SILENT_CALL, "`client-query-buffer-limit`";
    }
}
