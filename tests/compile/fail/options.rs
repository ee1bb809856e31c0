use qtasks::prelude::*;

#[qtask(prio = 1)]
fn unknown() {}

#[qtask(handler = handle)]
async fn did_you_mean() {}

#[qtask(ecko = true)]
async fn no_second_error_for_the_missing_echo(_ctx: TaskContext) {}

#[qtask(shedule = "@daily", timezone = "Europe/Berlin")]
fn no_second_error_for_the_missing_schedule() {}

#[qtask(handler = handle, on_error = "skip")]
fn no_second_error_for_the_missing_handler() -> Vec<i64> {
    yield_!(1);
}

#[qtask(retry = 1, retry = 2)]
fn twice() {}

#[qtask(queue)]
fn no_value() {}

#[qtask(retry = 1 priority = 2)]
fn no_comma() {}

#[qtask("emails.send")]
fn no_key() {}

#[qtask(name = emails)]
fn name_without_quotes() {}

#[qtask(name = "e mails", queue = "")]
fn wrong_names() {}

#[qtask(echo = "yes")]
fn wrong_echo() {}

#[qtask(priority = 40000, retry = -1)]
fn wrong_numbers() {}

#[qtask(priority = "high")]
fn priority_is_no_text() {}

#[qtask(max_time = 30)]
fn max_time_is_no_number() {}

#[qtask(max_time = "30 seconds", backoff = "1s-1h")]
fn wrong_durations() {}

#[qtask(max_time = "0s", backoff = "1h..1s")]
fn useless_durations() {}

#[qtask(tags = "nightly")]
fn wrong_tags() {}

#[qtask(tags = ["nightly", 1])]
fn wrong_tag() {}

#[qtask(generate_handler = |value: i64| value + 1)]
async fn handler_is_a_closure() {
    yield_!(1);
}

#[qtask(generate_handler = "handle", retry_on = handle())]
async fn handler_is_no_path() -> Result<(), TaskError> {
    yield_!(1);
    Ok(())
}

#[qtask(on_error = "ignore", checkpoint = "never")]
async fn wrong_words() {
    yield_!(1);
}

#[qtask(checkpoint = "within 2m")]
async fn long_checkpoint() {
    yield_!(1);
}

#[qtask(crate = 5)]
fn wrong_crate() {}

macro_rules! framework {
    ($item:item) => {
        #[qtask(crate = $crate::qtasks)]
        $item
    };
}

framework! {
    fn passed_on() {}
}

// Whatever is wrong with a task, its callers are not told of it.
fn main() {
    let _ = (unknown(), did_you_mean(), twice(), no_value(), no_comma(), no_key(), name_without_quotes());
    let _ = (wrong_names(), wrong_echo(), wrong_numbers(), priority_is_no_text(), max_time_is_no_number());
    let _ = (wrong_durations(), useless_durations(), wrong_tags(), wrong_tag(), handler_is_a_closure());
    let _ = (handler_is_no_path(), wrong_words(), long_checkpoint(), wrong_crate(), passed_on());
}
