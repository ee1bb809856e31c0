#![deny(warnings)]

use std::fmt::Display;

use renamed::prelude::*;

mod reexports {
    pub use ::renamed;
}

mod nested {
    pub mod deeper {
        use qtasks::{qtask, yield_};

        use super::super::text;

        #[qtask(generate_handler = super::super::text)]
        pub async fn far(n: i64) -> Vec<String> {
            yield_!(n);
        }

        #[qtask(generate_handler = text)]
        pub async fn near(n: i64) -> Vec<String> {
            yield_!(n);
        }

        #[qtask(generate_handler = crate::placement::generic::<i64>)]
        pub async fn turbofish(n: i64) -> Vec<String> {
            yield_!(n);
        }
    }
}

fn text(n: i64) -> String {
    n.to_string()
}

fn generic<T: Display>(value: T) -> String {
    value.to_string()
}

struct Handlers;

impl Handlers {
    async fn handle(n: i64) -> i64 {
        n
    }
}

#[qtask(generate_handler = Handlers::handle)]
async fn associated() -> Vec<i64> {
    yield_!(1);
}

#[qtask(crate = renamed)]
async fn by_path() -> Vec<i64> {
    yield_!(1);
}

#[qtask(crate = "crate::placement::reexports::renamed")]
fn by_text(n: i64) -> i64 {
    n
}

// What a macro of the user's makes, from what it is given and from what it has itself.
macro_rules! task {
    (state $name:ident $ty:ty, $context:ty, $value:expr) => {
        #[qtask(echo = true)]
        async fn $name(context: $context, state: $ty, co: Co<i64, i64>) {
            let value = $value;
            yield_!(value + *state + i64::from(context.attempt()));
            $value;
            let _ = co;
        }
    };
    (plain $vis:vis $name:ident $body:expr) => {
        #[qtask]
        $vis fn $name() -> i64 { $body }
    };
}

task!(state with_state State<i64>, TaskContext, yield_!(5));
task!(plain pub(crate) made_plain 5);

macro_rules! made {
    ($name:ident, $n:ident: $ty:ty, $output:ty, $handler:path, $label:literal, $level:expr, $yields:block, $end:expr) => {
        #[qtask(generate_handler = $handler, description = $label, tags = [$label], priority = $level)]
        async fn $name($n: $ty) -> $output {
            $yields
            let own: i64 = $n;
            yield_!(own);
            $end
        }
    };
}

made!(made_task, n: i64, Vec<String>, text, "Made.", -5, {
    for i in 0..3 {
        yield_!(i);
    }
}, ());
made!(made_result, n: i64, anyhow::Result<Vec<String>>, text, "Made.", 5, {
    let text: String = yield_!(1);
    if text.is_empty() {
        return Ok(());
    }
}, Ok(()));

fn in_a_function() {
    fn handle(n: i64) -> i64 {
        n
    }

    #[qtask(generate_handler = handle)]
    async fn local(n: i64) -> Vec<i64> {
        yield_!(n);
    }

    #[qtask]
    fn plain_local(n: i64) -> i64 {
        n
    }

    let _ = (local(1), plain_local(2));
}

type Res<T> = Result<T, std::io::Error>;

mod aliases {
    pub type Result<T> = std::result::Result<T, std::io::Error>;
}

#[qtask]
async fn alias() -> Res<Vec<i64>> {
    yield_!(1);
    Ok(())
}

#[qtask]
async fn plain_alias() -> aliases::Result<i64> {
    Ok(1)
}

#[qtask]
fn anyhow_alias() -> anyhow::Result<i64> {
    Ok(1)
}

fn can_mend(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::TimedOut
}

#[qtask(retry_on = can_mend)]
fn retried() -> aliases::Result<()> {
    Ok(())
}

#[qtask(retry_on = can_mend)]
async fn retried_async() -> aliases::Result<()> {
    Ok(())
}

#[qtask(retry_on = can_mend)]
fn retried_values() -> aliases::Result<Vec<i64>> {
    yield_!(1);
    Ok(())
}

#[qtask(echo)]
fn injected(_context: TaskContext, db: State<String>, n: usize, cache: State<Vec<u8>>) -> usize {
    db.len() + n + cache.len()
}

#[qtask(echo = true)]
#[allow(deprecated)]
async fn echo_without_a_parameter(n: i64) -> i64 {
    n
}

#[qtask(echo = true, generate_handler = text)]
async fn echo_for_the_handler(n: i64) -> Vec<String> {
    yield_!(n);
}

#[qtask(name = "имя:1", echo = false)]
#[cfg(any())]
fn absent() {}

#[qtask(name = "not.ascii")]
fn задача(число: i64) -> i64 {
    число
}

#[test]
fn they_are_made() {
    in_a_function();
    let _ = (nested::deeper::far(1), nested::deeper::near(1), nested::deeper::turbofish(1), associated(), by_path());
    let _ = (by_text(1), with_state(), made_plain(), made_task(1), made_result(1), alias(), plain_alias());
    let _ = (anyhow_alias(), retried(), retried_async(), retried_values(), injected(1), echo_without_a_parameter(2));
    let _ = задача(1);
}
