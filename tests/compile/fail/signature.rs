use std::borrow::Cow;

use qtasks::prelude::*;

#[qtask]
fn generic<T: Clone>(value: T) {}

#[qtask]
fn borrowing<'a>(value: &'a str) -> &'a str {
    value
}

#[qtask]
fn with_where()
where
    String: Clone,
{
}

#[qtask]
const fn constant() {}

#[qtask]
unsafe fn not_safe() {}

#[qtask]
extern "C" fn foreign() {}

#[qtask]
fn references(text: &str, slice: &[u8], inner: Option<&String>, dynamic: &dyn Send, path: &std::path::Path) {}

#[qtask]
fn lifetimes(text: Cow<'_, str>) {}

#[qtask]
fn opaque(value: impl Clone) -> impl Clone {
    value
}

#[qtask]
fn opaque_inside(value: Vec<impl Clone>) {}

#[qtask]
fn patterns((a, b): (i32, i32), [c, d]: [i32; 2], ref e: i32, f @ 1..: i32, Wrapper(g): Wrapper) {}

struct Wrapper(i32);

#[qtask]
fn nameless(_: i32) {}

#[qtask]
fn conditional(#[cfg(unix)] n: i64) {}

#[qtask]
fn задача() {}

#[qtask]
fn state_of_nothing(state: State) {}

fn main() {
    let _ = (generic("text"), borrowing("text"), with_where(), constant(), not_safe(), foreign());
    let _ = (references("", &[], None, &1, "".as_ref()), lifetimes("".into()), opaque(1), opaque_inside(vec![1]));
    let _ = (patterns((1, 2), [3, 4], 5, 6, Wrapper(7)), nameless(1), conditional(1), задача());
}
