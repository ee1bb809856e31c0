//! Searches, of which the server passes over what cannot be found.

use jiff::Timestamp;
use qtasks::{
    job::{JobCall, NewJob, NextState, StateKind},
    json::Json,
    prelude::*,
    store::{Budget, Find, FindArg, Hold, Order, Settlement, Store, Written},
};
use qtasks_tests::servers::redis;

use crate::{new_job, open, settlement};

/// A search with the oldest jobs first.
fn oldest(change: impl FnOnce(&mut Find)) -> Find {
    let mut find = Find::default().oldest_first();
    change(&mut find);
    find
}

async fn all(store: &dyn Store) -> Vec<qtasks::job::Job> {
    let oldest_first = Find::default().oldest_first();
    store.find(oldest_first, None, Budget::jobs(usize::MAX)).await.unwrap().jobs
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn arguments_are_found_however_they_are_written() {
    let store = open(&redis::url()).await;
    let args = [
        r#"{"n":42}"#,
        r#"{"n" : 42.0 }"#,
        r#"{"n":4.2e1}"#,
        r#"{"n":-42,"m":[42,"42"]}"#,
        r#"{"n":"42"}"#,
        r#"{"\u006e":42}"#,
        r#"{"n":420}"#,
        r#"{"m":"\"n\":42"}"#,
        r#"{"n":"\u0034\u0032"}"#,
        r#"{"n":-0.0}"#,
        r#"{"n":12345678901234567890}"#,
        r#"{"n":true,"a.b%c":null,"é":"É"}"#,
        r#"{"o":{"n":42}}"#,
        "42",
    ];
    let job = |args: &str| NewJob::from(JobCall { args: Json::from_stored(args), ..new_job().call });
    store.enqueue(args.map(job).into()).await.unwrap();
    let jobs = all(&*store).await;
    let paths = ["n", "m.0", "m.1", "o.n", "é", ""].map(|path| path.split('.').map(str::to_owned).collect::<Vec<_>>());
    let values = ["42", "42.0", "-42", "4.2e1", "0", "true", "null", "É", "é", "12345678901234567890", "NaN", "\0"];
    let mut found = 0;
    for path in paths.into_iter().chain([vec!["a.b%c".to_owned()], vec![]]) {
        for value in values {
            let arg = FindArg { path: path.clone(), values: vec![value.to_owned()] };
            let find = oldest(|find| find.args.push(arg));
            let passing: Vec<_> = jobs.iter().filter(|job| find.passes(job)).cloned().collect();
            found += passing.len();
            assert_eq!(store.find(find.clone(), None, Budget::PAGE).await.unwrap().jobs, passing, "{find:?}");
        }
    }
    assert!(found >= 20, "only {found} were found");
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn texts_are_found_in_letters_of_either_case_beyond_ascii_too() {
    let store = open(&redis::url()).await;
    for (index, (task, error)) in
        [("Größe", "Übel: É"), ("klein", "no \u{212a}elvin"), ("Mail", "NO")].into_iter().enumerate()
    {
        let new = NewJob::from(JobCall { task: task.into(), ..new_job().call });
        store.enqueue(vec![new.clone()]).await.unwrap();
        let hold = Hold::Seen { job: new.call.id, state: StateKind::Waiting, attempt: 0 };
        let (error, reason) = (error.to_owned(), error.to_owned());
        let next = if index == 1 { NextState::Dead { error } } else { NextState::Cancelled { reason } };
        let settled = Settlement { hold, ..settlement(&new.into(), next, Timestamp::now()) };
        assert_eq!(store.settle([settled].into()).await.unwrap(), [Written::Yes]);
    }
    let jobs = all(&*store).await;
    for (text, count) in [("größe", 1), ("é", 1), ("k", 1), ("no", 2), ("mail", 0), ("n", 2)] {
        let error = oldest(|find| find.error = Some(text.into()));
        let words = oldest(|find| find.words.push(text.into()));
        let mut found = Vec::new();
        for find in [error, words] {
            let passing: Vec<_> = jobs.iter().filter(|job| find.passes(job)).cloned().collect();
            assert_eq!(store.find(find.clone(), None, Budget::PAGE).await.unwrap().jobs, passing, "{find:?}");
            found.push(passing.len());
        }
        assert!(found.contains(&count) || count == 0, "{text}: {found:?}");
    }
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn thousands_are_found_in_order_from_anywhere_though_they_came_in_another() {
    let store = open(&redis::url()).await;
    let mut jobs: Vec<_> = (0..5_000).map(|_| new_job()).collect();
    jobs.sort_by_key(|job| job.call.id);
    let ids: Vec<_> = jobs.iter().map(|job| job.call.id).collect();
    let mut rest = jobs.split_off(1_500);
    let last = rest.split_off(2_000);
    for jobs in [last, jobs, rest] {
        store.enqueue(jobs).await.unwrap();
    }
    let find = async |find: Find, after, jobs| -> Vec<JobId> {
        let page = store.find(find, after, Budget { jobs, looks: usize::MAX }).await.unwrap();
        page.jobs.iter().map(|job| job.call.id).collect()
    };
    let searches = |id: Option<&str>| {
        [Order::Oldest, Order::Newest].map(|order| {
            oldest(|find| {
                find.order = order;
                find.id = id.map(|id| id.parse().unwrap());
            })
        })
    };
    let [up, down] = searches(None);
    let downwards: Vec<_> = ids.iter().rev().copied().collect();
    assert_eq!(find(up.clone(), None, usize::MAX).await, ids);
    assert_eq!(find(down.clone(), None, usize::MAX).await, downwards);
    for at in [0, 1, 1_499, 1_500, 3_499, 3_500, 4_998, 4_999] {
        let (above, below) = (&ids[at + 1..], &downwards[5_000 - at..]);
        assert_eq!(find(up.clone(), Some(ids[at]), 1_200).await, above[..above.len().min(1_200)]);
        assert_eq!(find(down.clone(), Some(ids[at]), 1_200).await, below[..below.len().min(1_200)]);
        for (search, end) in searches(Some(&ids[at].to_string())).into_iter().zip([ids[0], ids[4_999]]) {
            assert_eq!(find(search.clone(), None, 9).await, [ids[at]]);
            assert_eq!(find(search, Some(end), 9).await.len(), usize::from(end != ids[at]));
        }
    }
    let [_, some] = searches(Some(&ids[0].to_string()[..6]));
    assert_eq!(find(some, None, usize::MAX).await, downwards);
}
