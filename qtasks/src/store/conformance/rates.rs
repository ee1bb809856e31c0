//! What happened in a lane in a minute or an hour adds up, and is forgotten in time.

use std::sync::Arc;

use super::harness::*;
use crate::store::{Lane, Rate, RateNumbers, RateSpan, Store};

fn rate(span: RateSpan, minute: i64, queue: &str, first: u64) -> Rate {
    let lane = Lane { queue: queue.into(), task: "task:x".into() };
    let from = span.start(at(minute * 60_000));
    Rate { span, from, lane, numbers: RateNumbers::from_row(first..) }
}

fn sorted(mut rates: Vec<Rate>) -> Vec<Rate> {
    rates.sort_by(|one, other| (one.from, &one.lane).cmp(&(other.from, &other.lane)));
    rates
}

/// Numbers of one span, time and lane are added up, those of others stay apart; they are read by the time of their beginning.
pub async fn rates_add_up(store: Arc<dyn Store>) {
    use RateSpan::{Hour, Minute};
    let day = 24 * 60;
    let of = async |span, from: i64, to: i64| {
        let (from, to) = (Minute.start(at(from * 60_000)), Minute.start(at(to * 60_000)));
        sorted(answer(store.rates(span, from, to).await))
    };
    assert_eq!(of(Minute, -day, day).await, []);
    let first = vec![rate(Minute, 0, "a", 1), rate(Minute, 1, "a", 5), rate(Minute, 0, "b", 7), rate(Hour, 0, "a", 9)];
    answer(store.add_rates(first.clone()).await);
    answer(store.add_rates(vec![rate(Minute, 0, "a", 100), rate(Minute, 0, "a", 1_000), rate(Hour, 60, "a", 2)]).await);
    let mut sum = first[0].clone();
    sum.numbers += rate(Minute, 0, "a", 100).numbers;
    sum.numbers += rate(Minute, 0, "a", 1_000).numbers;
    assert_eq!(of(Minute, 0, 2).await, [sum.clone(), first[2].clone(), first[1].clone()]);
    assert_eq!(of(Minute, 0, 1).await, [sum, first[2].clone()], "up to the end, without it");
    assert_eq!(of(Minute, 1, 2).await, [first[1].clone()]);
    assert_eq!(of(Hour, -60, 121).await, [first[3].clone(), rate(Hour, 60, "a", 2)]);
    let largest = Rate { numbers: RateNumbers::from_row(std::iter::repeat(1 << 60)), ..rate(Minute, 9, "c", 0) };
    answer(store.add_rates(vec![largest.clone()]).await);
    assert_eq!(of(Minute, 9, 10).await, [largest]);
    answer(store.add_rates(vec![]).await);
}

/// Old minutes and old hours are deleted, each with an age of its own.
pub async fn old_rates_are_deleted(store: Arc<dyn Store>) {
    use RateSpan::{Hour, Minute};
    let rates = [0, 60, 120].map(|minute| [rate(Minute, minute, "a", 1), rate(Hour, minute, "a", 1)]);
    answer(store.add_rates(rates.iter().flatten().cloned().collect()).await);
    answer(store.prune_rates(rates[1][0].from, rates[2][1].from).await);
    let of = async |span| sorted(answer(store.rates(span, at(-99_000_000), at(99_000_000)).await));
    assert_eq!(of(Minute).await, [rates[1][0].clone(), rates[2][0].clone()]);
    assert_eq!(of(Hour).await, [rates[2][1].clone()]);
}
