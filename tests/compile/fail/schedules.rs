use qtasks::prelude::*;

#[qtask(schedule = "0 25 * * *")]
async fn hour() {}

#[qtask(schedule = "60 * * * *")]
async fn minute() {}

#[qtask(schedule = "0 9 * * MO-FRI")]
async fn weekday() {}

#[qtask(schedule = "0 9 32 * *")]
async fn day() {}

#[qtask(schedule = "0 9 * JANUARY *")]
async fn month() {}

#[qtask(schedule = "90 * * * * *")]
async fn second() {}

#[qtask(schedule = "0 22-2 * * *")]
async fn backwards() {}

#[qtask(schedule = "*/90 * * * *")]
async fn step() {}

#[qtask(schedule = "0 9,,17 * * *")]
async fn comma() {}

#[qtask(schedule = "0 9 * *")]
async fn four_fields() {}

#[qtask(schedule = "0 0 31 2 *")]
async fn never() {}

#[qtask(schedule = "@nightly")]
async fn shorthand() {}

#[qtask(schedule = "every 15 minutes")]
async fn every() {}

#[qtask(schedule = 15)]
async fn no_text() {}

#[qtask(schedule = "@daily", timezone = "UTC+3 Moscow", missed = "twice", overlap = "queue", jitter = "30")]
async fn wrong_options() {}

#[qtask(timezone = "Europe/Moscow", missed = "once", overlap = "skip", jitter = "30s")]
async fn no_schedule() {}

#[qtask(schedule = "@daily")]
async fn arguments(region: String, day: State<u8>) {}

#[qtask(cron = "@daily", schedule = "@daily", tz = "UTC")]
async fn other_words() {}

fn main() {}
