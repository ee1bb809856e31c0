use qtasks::prelude::*;

#[qtask(retries = 5)]
fn a() {}

#[qtask(max_retries = 5)]
fn b() {}

#[qtask(timeout = "30s")]
fn c() {}

#[qtask(generator_handler = handle)]
fn d() {}

#[qtask(genrate_handler = handle)]
fn e() {}

#[qtask(delay = "30s")]
fn f() {}

#[qtask(cron = "* * * * *")]
fn g() {}

#[qtask(tag = "nightly")]
fn h() {}

#[qtask(onerror = "skip")]
fn i() {}

#[qtask(concurrency = 5)]
fn j() {}

fn main() {}
