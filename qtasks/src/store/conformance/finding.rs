//! Jobs are found by what they are, in order, a page at a time.

use std::sync::Arc;

use super::harness::*;
use crate::{
    model::{
        job::{Job, JobCall, JobId, NewJob, StateKind, WorkerId},
        schedule::tick,
    },
    store::{Ask, Budget, Find, FindArg, Order, Settlement, Store},
};

impl Subject {
    /// All jobs, oldest first.
    pub(super) async fn all_jobs(&self) -> Vec<Job> {
        self.find(Find::default().oldest_first()).await
    }

    /// All jobs that are found, in the order of the search.
    pub(super) async fn find(&self, find: Find) -> Vec<Job> {
        self.find_by(find, Budget::jobs(100_000)).await.0
    }

    /// All jobs that are found, and the number of pages on which they stood.
    async fn find_by(&self, find: Find, budget: Budget) -> (Vec<Job>, usize) {
        let (mut jobs, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = answer(self.0.find(find.clone(), after, budget).await);
            pages += 1;
            assert!(page.jobs.len() <= budget.jobs, "{} jobs on a page of {}", page.jobs.len(), budget.jobs);
            assert!(page.looked <= budget.looks as u64, "{} looks of {}", page.looked, budget.looks);
            assert!(page.looked >= page.jobs.len() as u64, "what is found was looked at");
            jobs.extend(page.jobs);
            let Some(next) = page.next else { return (jobs, pages) };
            assert!(after.is_none_or(|after| (next > after) == (find.order == Order::Oldest)), "the search goes on");
            assert!(pages < 10_000, "a search ends");
            after = Some(next);
        }
    }
}

fn arg(path: &str, values: &[&str]) -> FindArg {
    let [path, values] = [path.split('.').collect(), values.to_vec()]
        .map(|texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect());
    FindArg { path, values }
}

/// Jobs in three lanes, some in each state.
async fn seed(store: &Subject) -> Vec<Job> {
    for (number, next) in [waiting(0), done(), dead(), cancelled(), dead()].into_iter().enumerate() {
        let lease = store.running().await;
        store.settle(Settlement { now: at(number as i64 * 10), ..settlement(lease, next) }).await;
    }
    store.running().await;
    let jobs = [
        ("a", "x", "{\"user\":{\"id\":42},\"city\":\"New York\",\"list\":[1,2.50]}"),
        ("a", "y", "{\"user\":{\"id\":\"42\"},\"ok\":true,\"none\":null}"),
        ("b", "x", "{\"user\":7,\"id\":12345678901234567890}"),
        ("b", "mail.send", "[\"x\"]"),
    ];
    for (at_, (queue, task, args)) in jobs.into_iter().enumerate() {
        let (queue, task, args) = (queue.into(), task.into(), json(args));
        let call = JobCall { queue, task, args, enqueued: at(100 + at_ as i64), ..call().call };
        store.enqueue([NewJob::from(call)]).await;
    }
    store.all_jobs().await
}

/// Whatever is asked for, alone and together, those are found that pass; in both orders, on pages of any size.
pub async fn jobs_are_found_by_what_they_are(store: Arc<dyn Store>) {
    let store = Subject(store);
    let all = seed(&store).await;
    assert_eq!(all.len(), 10);
    let find = Find::default;
    let mut searches = vec![
        find(),
        find().task("x").task("y"),
        find().task("").queue("a"),
        find().state(StateKind::Dead).state(StateKind::Waiting),
        Find { words: vec!["MAIL".into(), "b".into()], ..find() },
        Find { words: vec!["nothing".into()], ..find() },
        Find { after: Some(at(101)), before: Some(at(103)), ..find() },
        Find { ended_after: Some(at(10)), ..find() },
        Find { ended_after: Some(at(20)), ended_before: Some(at(40)), ..find() },
        Find { error: Some("NO".into()), ..find() },
        Find { error: Some("enough".into()), ..find() },
        Find { args: vec![arg("user.id", &["42"])], ..find() },
        Find { args: vec![arg("user.id", &["42"]), arg("city", &["New York", "Rome"])], ..find() },
        Find { args: vec![arg("list.1", &["2.5"])], ..find() },
        Find { args: vec![arg("ok", &["true"]), arg("none", &["null"])], ..find() },
        Find { args: vec![arg("id", &["12345678901234567890"])], ..find() },
        Find { args: vec![arg("0", &["x"])], ..find() },
    ];
    for task in ["x", "none"] {
        for queue in ["a", "b"] {
            searches.extend(STATES.map(|state| find().task(task).queue(queue).state(state)));
        }
    }
    searches.extend(STATES.map(|state| find().state(state)));
    let mut found_some = 0;
    for search in searches {
        let passing: Vec<_> = all.iter().filter(|job| search.passes(job)).cloned().collect();
        found_some += usize::from(!passing.is_empty());
        assert_eq!(store.find(search.clone().oldest_first()).await, passing, "{search:?}");
        let newest_first: Vec<_> = passing.into_iter().rev().collect();
        for budget in [Budget::PAGE, Budget { jobs: 1, looks: 20_000 }, Budget { jobs: 3, looks: 2 }] {
            assert_eq!(store.find_by(search.clone(), budget).await.0, newest_first, "{search:?} by {budget:?}");
        }
    }
    assert!(found_some >= 18, "only {found_some} searches found anything");
}

/// A search goes on behind a job that is gone by then, and one without a limit gives all.
pub async fn a_search_goes_on_where_it_ended(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut jobs = calls(7);
    let ids: Vec<_> = jobs.iter().map(|job| job.call.id).collect();
    jobs.remove(3);
    jobs.reverse();
    store.enqueue(jobs).await;
    let page = async |order, after, jobs| {
        let budget = Budget { jobs, looks: usize::MAX };
        self::ids(&answer(store.0.find(Find { order, ..Find::default() }, after, budget).await).jobs)
    };
    assert_eq!(page(Order::Oldest, None, 3).await, ids[..3]);
    assert_eq!(page(Order::Oldest, Some(ids[3]), 2).await, ids[4..6]);
    assert_eq!(page(Order::Oldest, Some(ids[6]), 2).await, []);
    assert_eq!(page(Order::Newest, None, 2).await, [ids[6], ids[5]]);
    assert_eq!(page(Order::Newest, Some(ids[3]), 9).await, [ids[2], ids[1], ids[0]]);
    assert_eq!(page(Order::Newest, Some(ids[0]), usize::MAX).await, []);
    assert_eq!(page(Order::Newest, None, usize::MAX).await.len(), 6);
}

/// A search for nothing that is there stops when it has looked at as many jobs as it may, and says how many those were.
pub async fn a_search_stops_at_its_budget(store: Arc<dyn Store>) {
    let store = Subject(store);
    store.enqueue(calls(60)).await;
    let find = Find { args: vec![arg("x", &["1"])], ..Find::default() };
    let page = answer(store.0.find(find.clone(), None, Budget { jobs: 50, looks: 25 }).await);
    assert_eq!((page.jobs.len(), page.looked), (0, 25));
    let newest_first: Vec<_> = store.find(Find::default()).await;
    assert_eq!(page.next, Some(newest_first[24].call.id));
    let page = answer(store.0.find(find, page.next, Budget { jobs: 50, looks: 100 }).await);
    assert_eq!((page.jobs.len(), page.looked, page.next), (0, 35, None));
}

/// Dead jobs among many others are found at once, as is a job by the beginning of its id.
pub async fn dead_jobs_are_found_among_many_others(store: Arc<dyn Store>) {
    let store = Subject(store);
    let mut dead_ones: Vec<JobId> = Vec::new();
    for _ in 0..3 {
        store.enqueue(calls(40)).await;
        let lease = store.running().await;
        store.settle(settlement(lease, dead())).await;
        dead_ones.insert(0, lease.job);
        store.enqueue(calls(40)).await;
    }
    let budget = Budget { jobs: 50, looks: 10 };
    let page = answer(store.0.find(Find::default().state(StateKind::Dead), None, budget).await);
    assert_eq!(ids(&page.jobs), dead_ones);
    let rest = answer(store.0.find(Find::default().state(StateKind::Dead), Some(dead_ones[0]), budget).await);
    assert_eq!(ids(&rest.jobs), dead_ones[1..]);
    let lease =
        lease_of(&store.lease(crate::store::Ask { limit: 1, ..ask(crate::model::job::WorkerId::new()) }).await[0]);
    let retried = Settlement { hold: seen(dead_ones[0], StateKind::Dead), ..settlement(lease, waiting(0)) };
    store.settle(retried).await;
    let page = answer(store.0.find(Find::default().state(StateKind::Dead), None, budget).await);
    assert_eq!(ids(&page.jobs), dead_ones[1..], "one that is tried again is dead no more");
    for prefix in [lease.job.to_string(), lease.job.to_string().replace('-', "").to_uppercase()] {
        let id = Some(prefix.parse().expect("it is an id"));
        let page = answer(store.0.find(Find { id, ..Find::default() }, None, budget).await);
        assert_eq!(ids(&page.jobs), [lease.job]);
    }
    let id = Some("0".parse().expect("ids begin so"));
    assert_eq!(store.find(Find { id, ..Find::default() }).await, store.find(Find::default()).await);
    let id = Some("f".parse().expect("ids could begin so"));
    assert_eq!(store.find(Find { id, ..Find::default() }).await, []);
}

/// The ids of jobs that a schedule enqueues are made of its name and their ticks: by them they are found, sort, and are there once.
pub async fn jobs_of_a_schedule_are_found_by_its_name(store: Arc<dyn Store>) {
    let store = Subject(store);
    let of_tick = |name: &str, second| {
        let id = tick::id(name, at(second));
        NewJob::from(JobCall { id, enqueued: at(second), ..call().call })
    };
    let ticks = [("digest", 7), ("report", 7), ("digest", 5), ("digest", 7), ("digest", 9)];
    store.enqueue(ticks.map(|(name, second)| of_tick(name, second))).await;
    store.enqueue([of_tick("digest", 5), call()]).await;
    assert_eq!(store.all_jobs().await.len(), 5, "a tick has one job");
    let find = |schedules: &[&str]| Find {
        schedules: schedules.iter().map(|name| (*name).to_owned()).collect(),
        ..Find::default().oldest_first()
    };
    let found: Vec<_> = store.find(find(&["digest"])).await.iter().map(|job| job.call.tick()).collect();
    assert_eq!(found, [5, 7, 9].map(|second| Some(at(second))), "in the order of the ticks");
    assert_eq!(store.find(find(&["digest", "report"])).await.len(), 4);
    assert_eq!(store.find(find(&["other"])).await, []);
    let by_budget = store.find_by(find(&["report"]), Budget { jobs: 1, looks: 1 }).await;
    assert_eq!(by_budget.0.len(), 1);
    let leased = store.lease(Ask { limit: 10, now: at(1_000), ..ask(WorkerId::new()) }).await;
    assert_eq!(leased.len(), 5);
    assert!(leased.iter().map(|job| job.call.id).is_sorted(), "by their ticks, among all others");
}
