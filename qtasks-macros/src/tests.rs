//! What the attribute makes of a task, and what it says of a wrong one.

use proc_macro2::TokenStream;
use quote::quote;
use syn::ItemFn;

use crate::{Errors, args::Options, expand, task::Task};

/// What `#[qtask(options)] item` becomes, as a formatted file.
fn expanded(options: &str, item: &str) -> String {
    let tokens = expand::qtask(tokens(options), tokens(item), false);
    prettyplease::unparse(&syn::parse2(tokens).expect("what the attribute makes is Rust"))
}

/// What is wrong with `#[qtask(options)] item`: the tokens that each message points at, and the message.
fn wrong(options: &str, item: &str) -> Vec<(String, String)> {
    let mut errors = Errors::default();
    let options = Options::parse(tokens(options), &mut errors);
    let function = syn::parse_str::<ItemFn>(item).expect("a function");
    Task::new(options, function, &mut errors);
    let shown = |error: syn::Error| (error.span().source_text().unwrap_or_default(), error.to_string());
    errors.0.into_iter().map(shown).collect()
}

fn tokens(text: &str) -> TokenStream {
    text.parse().expect("tokens")
}

macro_rules! expansions {
    ($($name:ident: #[qtask($($options:tt)*)] $($item:literal)+;)*) => {$(
        #[test]
        fn $name() {
            let shown = expanded(stringify!($($options)*), concat!($($item, "\n"),+));
            insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(shown) });
        }
    )*};
}

expansions! {
    an_async_generator: #[qtask(generate_handler = handle)]
        "async fn numbers(mut n: i64) -> Vec<i64> { for i in 0..n { n += 1; yield_!(i + n); } }";

    a_blocking_generator: #[qtask(generate_handler = handlers::handle::<i64>)]
        "fn numbers(n: i64) -> Vec<i64> { for i in 0..n { yield_!(i); } }";

    a_generator_without_a_handler: #[qtask()]
        "async fn numbers() -> Result<Vec<i64>, Error> { yield_!(parse()?); Ok(()) }";

    a_generator_without_a_return_type: #[qtask(generate_handler = handle)]
        "fn numbers() { yield_!(1); }";

    a_generator_that_fixes_no_reply: #[qtask(generate_handler = handle)]
        "async fn numbers() -> anyhow::Result<qtasks::Count> { yield_!(1); Ok(()) }";

    a_generator_that_takes_its_co: #[qtask(generate_handler = handle, on_error = "skip")]
        "async fn numbers(n: i64, mut co: qtasks::Co<i64, qtasks::Result<i64>>) -> Vec<i64> {"
        "    yield_!(n);"
        "    descend(&co).await;"
        "}";

    a_plain_async_task: #[qtask()]
        "async fn add(a: i64, b: i64) -> i64 { a + b }";

    a_plain_blocking_task: #[qtask()]
        "fn add() { println!(); }";

    a_fallible_async_task: #[qtask(retry_on = can_mend)]
        "async fn add(a: i64) -> std::io::Result<i64> { Ok(a) }";

    a_fallible_blocking_task: #[qtask()]
        "fn add(a: i64) -> Result<i64, String> { Ok(a) }";

    injected_parameters: #[qtask(echo = true)]
        "fn add(context: TaskContext, a: i64, db: State<Db>, mut b: i64, cache: qtasks::State<Cache>) -> i64 { a + b }";

    all_options: #[qtask(
        name = "emails.send", generate_handler = handle, echo, queue = "mail", priority = -3, retry = 5, backoff = "1s..1h",
        retry_on = can_mend, max_time = "30s", expires = "10m", unique = "args", unique_for = "1h", on_duplicate = "refuse", tags = ["a", "b"], description = "Sends.", on_error = "fail",
        checkpoint = "within 10ms", resume = "cursor", crate = renamed::qtasks
    )]
        "async fn send(to: String) -> Result<Vec<i64>, Error> { yield_!(to); Ok(()) }";

    a_schedule: #[qtask(schedule = "0 9 * * MON-FRI", timezone = "Europe/Moscow", missed = "once", overlap = "skip", jitter = "30s")]
        "async fn digest(mailer: State<Mailer>) {}";

    one_half_of_the_retry_policy: #[qtask(backoff = "5s", checkpoint = "each")]
        "async fn send() { yield_!(1); }";

    attributes_and_visibility: #[qtask()]
        "/// Adds."
        "#[cfg(unix)]"
        "#[deprecated]"
        "#[allow(unused)]"
        "#[tracing::instrument]"
        "#[inline]"
        "pub(crate) fn r#type("
        "    /// The first."
        "    #[serde(default)] r#fn: i64,"
        "    #[allow(unused_variables)] b: i64,"
        "    /// Not stored."
        "    #[allow(unused_variables)] db: State<Db>,"
        ") -> i64 { r#fn }";

    yields_wherever_they_may_be: #[qtask()]
        "async fn numbers() {"
        "    yield_!(1,);"
        "    let reply = yield_!(yield_!(2));"
        "    'outer: for i in items { match yield_!(3) { 4 => yield_!(5), _ => { yield_![6]; break 'outer; } }; }"
        "    #[cfg(unix)] yield_!(7);"
        "    println!(\"{} {x}\", yield_!(8), x = yield_!(9));"
        "    let all = vec![yield_!(10), yield_!(11)];"
        "    let same = vec![yield_!(12); 3];"
        "    tokio::select! { Some(v) = next(), if yield_!(13) => { yield_!(14); yield_!(15) } else => yield_!(16), }"
        "    let json = json!({ \"a\": yield_!(17) });"
        "    macro_rules! twice { ($e:expr) => { yield_!($e); yield_!($e); }; }"
        "    #[qtask] async fn inner() { yield_!(18); }"
        "    qtasks::yield_!(19);"
        "    yield_! { 21 }"
        "    loop { yield_!(20) }"
        "}";

    a_wrong_task: #[qtask(retry = "often")]
        "pub async fn wrong(text: &str, n: i64, (a, b): (u8, u8), db: State<Db>) -> Vec<i64> { yield_!(n); }";

    a_wrong_method: #[qtask()]
        "fn method(&self) {}";
}

macro_rules! errors {
    ($($name:ident: #[qtask($($options:tt)*)] $item:literal => [$($at:literal: $message:literal),+ $(,)?];)*) => {$(
        #[test]
        fn $name() {
            let shown = wrong(stringify!($($options)*), $item);
            let shown: Vec<_> = shown.iter().map(|(at, message)| (&**at, &**message)).collect();
            assert_eq!(shown, [$(($at, $message)),+]);
        }
    )*};
}

errors! {
    an_unknown_option_lists_the_right_ones: #[qtask(prio = 1)] "fn t() {}" => [
        "prio": "unknown option `prio`: did you mean `priority`? the options are name, generate_handler, echo, queue, priority, \
                 retry, backoff, retry_on, max_time, expires, unique, unique_for, on_duplicate, debounce, tags, description, on_error, checkpoint, resume, schedule, timezone, missed, overlap, jitter, crate",
    ];

    another_word_for_an_option_is_understood: #[qtask(max_retries = 1, genrate_handler = f, delay = "1s", echo(true))] "fn t() {}" => [
        "max_retries": "unknown option `max_retries`: did you mean `retry`? the options are name, generate_handler, echo, queue, \
                        priority, retry, backoff, retry_on, max_time, expires, unique, unique_for, on_duplicate, debounce, tags, description, on_error, checkpoint, resume, schedule, timezone, missed, overlap, jitter, crate",
        "genrate_handler": "unknown option `genrate_handler`: did you mean `generate_handler`? the options are name, \
                            generate_handler, echo, queue, priority, retry, backoff, retry_on, max_time, expires, unique, unique_for, on_duplicate, debounce, tags, description, \
                            on_error, checkpoint, resume, schedule, timezone, missed, overlap, jitter, crate",
        "delay": "unknown option `delay`: a call has it: `my_task(5).delay(Duration::from_secs(60))`; the options are name, \
                  generate_handler, echo, queue, priority, retry, backoff, retry_on, max_time, expires, unique, unique_for, on_duplicate, debounce, tags, description, on_error, \
                  checkpoint, resume, schedule, timezone, missed, overlap, jitter, crate",
        "echo": "the value of `echo` stands after `=`: `echo = true`",
    ];

    an_option_is_given_once: #[qtask(retry = 1, queue = "a", retry = 2)] "fn t() {}" => [
        "retry": "`retry` is given twice; leave one of the two",
    ];

    each_wrong_option_is_told_of: #[qtask(name = "e mail", priority = 40000, queue, max_time = "soon", retry = 1)] "fn t() {}" => [
        "\"e mail\"": "`e mail` is not a name: names are made of `A-Z a-z 0-9 _ . : -`",
        "40000": "expected a whole number from -32768 to 32767, as in `priority = 10`",
        "queue": "`queue` takes a value: `queue = \"mail\"`",
        "\"soon\"": "expected a duration (a whole number above 0 and `ms`, `s`, `m`, `h` or `d`), as in `max_time = \"30s\"`",
    ];

    a_closure_is_no_handler: #[qtask(generate_handler = |n: i64| n)] "async fn t() { yield_!(1); }" => [
        "|n: i64| n": "expected the path of a function, since a closure has no name, as in `generate_handler = handle`",
    ];

    everything_is_said_in_one_go: #[qtask(echo = 1, retry_on = judge, on_error = "skip")]
        "unsafe fn t<T>(a: &str, (b, c): (u8, u8), d: impl Clone, e: TaskContext, f: Co<u8>, _: u8) -> &str { g().await; }" => [
        "1": "expected `true` or `false`, as in `echo = true`",
        "T": "a task cannot be generic, since its arguments are stored: write a task for each type",
        "unsafe": "a task cannot be `unsafe`, since a worker calls it: use an `unsafe` block in its body",
        "&str": "a task cannot borrow its arguments, since they are stored: take `String`",
        "(b, c)": "arguments are stored by name: write one, and take the value apart in the body with `let`",
        "impl Clone": "the arguments of a task are stored, and their types need names: write one for `impl Trait`",
        "Co<u8>": "`Co` needs what is yielded and what the handler replies: `Co<i64, String>`",
        "_": "arguments are stored by name: write one, as in `_unused`",
        "&str": "a task cannot return what it borrows, since its result is stored: return `String`",
        "await": "`.await` in a `fn` task: make it `async fn`",
        "Co<u8>": "a `fn` task cannot take a `Co`: make it `async fn`, or use `yield_!`",
        "TaskContext": "a `TaskContext` parameter needs `#[qtask(echo = true)]`: add `echo = true`",
        "on_error": "`on_error = \"skip\"` is about the handler's errors: add `generate_handler = path`, or leave it out",
        "retry_on": "`retry_on` judges the error of the body: let the task return a `Result<T, E>`, or leave it out",
    ];

    a_skipped_value_is_no_cursor: #[qtask(generate_handler = handle, on_error = "skip", resume = "cursor")]
        "fn t() { yield_!(1); }" => [
        "resume": "`resume = \"cursor\"` goes on from the last reply, and a value that is skipped has none: leave out one of \
                   `resume` and `on_error`",
    ];

    options_of_generators_need_one: #[qtask(generate_handler = handle, checkpoint = "each", resume = "now")] "fn t() {}" => [
        "\"now\"": "expected `\"replay\"` or `\"cursor\"`, as in `resume = \"cursor\"`",
        "generate_handler": "`generate_handler` is for a task that yields: say `yield_!(value);` in the body, or take \
                             `co: Co<Y, R>`",
        "checkpoint": "`checkpoint` is for a task that yields: say `yield_!(value);` in the body, or take `co: Co<Y, R>`",
    ];

    a_parameter_does_not_hide_the_handler: #[qtask(generate_handler = handle)] "fn t(handle: u8) { yield_!(handle); }" => [
        "handle": "the parameter `handle` hides the function of `generate_handler = handle`: rename the parameter",
    ];

    a_skipped_value_has_no_reply: #[qtask(generate_handler = handle, on_error = "skip")]
        "async fn t() { yield_!(1); select! { _ = f() => { yield_!(2); } } g!(yield_!(3)); }" => [
        "yield_": "a value that is skipped has no reply: under `on_error = \"skip\"` write `yield_!(..);` as a statement, or \
                   take `co: Co<Y, R>`, whose `yield_` gives a `Result`",
    ];

    forms_that_no_worker_can_call_are_refused: #[qtask()] "const extern \"C\" fn t(a: u8, ...) where u8: Copy {}" => [
        "where u8: Copy": "a task cannot have a `where` clause, since it cannot be generic: leave it out",
        "const": "a task cannot be `const`: leave it out",
        "extern \"C\"": "a task cannot be `extern`: leave it out",
        "...": "a task has a fixed number of parameters: take a `Vec<T>`",
    ];

    the_keyword_is_no_yield: #[qtask()] "fn t() { yield 1; }" => [
        "yield": "in a task, `yield value` is written `yield_!(value)`",
    ];

    a_body_that_yields_ends_without_a_value: #[qtask()] "fn t() -> Vec<u8> { if a { return vec![]; } yield_!(1); all }" => [
        "all": "the values that the body yields are the result: end it without a value, and early with `return;`",
        "vec![]": "the values that the body yields are the result: end it without a value, and early with `return;`",
    ];

    a_body_that_yields_ends_with_ok: #[qtask()]
        "fn t() -> Result<Vec<u8>, E> { if a { return Ok(all); } for i in b { yield_!(i); } }" => [
        "}": "the body must end with `Ok(())`: the values that it yields are the result",
        "all": "the values that the body yields are the result: end it with `Ok(())`, not with a value",
    ];

    values_are_collected_into_a_collection: #[qtask()] "fn t() -> Result<Option<u8>, E> { yield_!(1); Ok(()) }" => [
        "Option<u8>": "a task that yields returns what its values are collected into: `Vec<Option<u8>>`, say, or `Count`",
    ];

    a_key_is_made_of_arguments: #[qtask(unique = "userr, mailer, month", unique_for = "1h")]
        "fn t(user: u8, mailer: State<Mailer>, #[serde(rename = \"m\")] month: u8) {}" => [
        "\"userr, mailer, month\"": "`userr` is no parameter of `t`: they are `user`, `month`, or `\"args\"` for all",
        "\"userr, mailer, month\"": "`mailer` is no argument of a call, which a job could be told by",
        "\"userr, mailer, month\"": "`month` is not stored under its own name: give the calls a `unique_key`, or say `unique = \"args\"`",
    ];

    a_key_of_no_parameters_is_all: #[qtask(unique = "user")] "fn t() {}" => [
        "\"user\"": "`user` is no parameter of `t`: it has none; say `unique = \"args\"`",
    ];

    what_is_about_a_key_needs_one: #[qtask(unique_for = "1h", on_duplicate = "replace", debounce = "1s..5s")] "fn t() {}" => [
        "unique_for": "`unique_for` is for a task that is `unique`: add `unique = \"args\"`, or leave it out",
        "on_duplicate": "`on_duplicate` is for a task that is `unique`: add `unique = \"args\"`, or leave it out",
        "debounce": "`debounce` is for a task that is `unique`: add `unique = \"args\"`, or leave it out",
    ];

    a_debounced_call_replaces: #[qtask(unique = "args", debounce = "1s..5s", on_duplicate = "join")] "fn t(a: u8) {}" => [
        "debounce": "a call of a task with `debounce` replaces the job that waits: leave `on_duplicate` out",
    ];

    wrong_values_about_keys: #[qtask(unique = 5, on_duplicate = "ignore", debounce = "5s", unique_for = "0s")] "fn t(a: u8) {}" => [
        "5": "expected a text in quotes, as in `unique = \"user, month\"`",
        "\"ignore\"": "expected `\"join\"`, `\"replace\"` or `\"refuse\"`, as in `on_duplicate = \"replace\"`",
        "\"5s\"": "expected two durations, the quiet that is waited for and how long at most, as in `debounce = \"5s..1m\"`",
        "\"0s\"": "expected a duration (a whole number above 0 and `ms`, `s`, `m`, `h` or `d`), as in `unique_for = \"1h\"`",
    ];

    a_name_outside_ascii_needs_another: #[qtask()] "fn задача() {}" => [
        "задача": "a task's name is in ASCII: add `name = \"..\"` to `#[qtask]`, or rename the function",
    ];
}

/// The number of errors in a body, each of which is about a `yield_` or an `await`.
fn wrong_in(body: &str) -> usize {
    let wrong = wrong("", &format!("fn t() {{ {body} }}"));
    assert!(wrong.iter().all(|(at, _)| at == "yield_" || at == "await"), "{wrong:?}");
    wrong.len()
}

#[test]
fn a_yield_that_another_function_would_make_is_found() {
    for body in [
        "|| yield_!(1);",
        "async { yield_!(1); };",
        "fn f() { yield_!(1); }",
        "impl T { fn f() { yield_!(1); } }",
        "const { yield_!(1) };",
        "vec![|| yield_!(1)];",
        "println!(\"{}\", (|| yield_!(1))());",
        "join!(async move { yield_!(1) });",
        "select! { v = async { yield_!(1) } => {} }",
        "select! { v = f() => { (|| yield_!(1))(); } }",
        "unknown! { @ async move { yield_!(1) } @ }",
        "unknown! { @ fn f(n: i64) -> i64 { yield_!(1) } }",
    ] {
        assert_eq!(wrong_in(body), 1, "{body}");
    }
}

#[test]
fn an_end_that_may_be_right_is_left_to_the_compiler() {
    for end in [
        "Ok(())",
        "Ok(f()?)",
        "Ok(f(&co).await)",
        "loop { yield_!(2); }",
        "bail!(\"no\")",
        "bail!(\"no\");",
        "return Ok(());",
        "std::process::exit(1);",
        "if a { Ok(()) } else { Err(b) }",
        "match a { 1 => Ok(()), _ => return f() }",
        "let all = || { return vec![1]; }; f()",
        "unsafe { f() }",
    ] {
        let wrong = wrong("", &format!("async fn t() -> Result<Vec<u8>, E> {{ yield_!(1); {end} }}"));
        assert!(wrong.is_empty(), "{end}: {wrong:?}");
    }
    for end in ["f()", "()", "return;", "return ();", "for i in a { yield_!(i) }", "if a { return; }", "loop {}"] {
        let wrong = wrong("", &format!("fn t() -> Vec<u8> {{ yield_!(1); {end} }}"));
        assert!(wrong.is_empty(), "{end}: {wrong:?}");
    }
}

#[test]
fn an_end_without_ok_is_found() {
    for end in [
        "",
        "f().await;",
        "a = 1;",
        "let a = 1;",
        "while a {}",
        "if a { yield_!(2); } else { yield_!(3); }",
        "match a { 1 => yields(), _ => for i in b {} } println!();",
        "match a { 1 => { yield_!(2); } _ => {} }",
    ] {
        let wrong = wrong("", &format!("async fn t() -> anyhow::Result<Vec<u8>> {{ yield_!(1); {end} }}"));
        assert_eq!(wrong.len(), 1, "{end}: {wrong:?}");
    }
}

#[test]
fn a_task_in_an_impl_is_one_error_and_a_method_without_its_body() {
    let tokens = expand::qtask(
        quote!(),
        quote!(
            async fn numbers() -> Vec<u8> {
                yield_!(1);
            }
        ),
        true,
    );
    let file: syn::File = syn::parse2(tokens).expect("Rust");
    assert_eq!(file.items.len(), 2);
    assert!(!prettyplease::unparse(&file).contains("yield_"));
}

#[test]
fn an_await_in_a_blocking_body_is_found() {
    for body in ["f().await;", "vec![f().await];", "unknown! { @ f().await @ }", "select! { v = f() => { g().await } }"]
    {
        assert_eq!(wrong_in(body), 1, "{body}");
    }
    for body in
        ["async { f().await };", "async || f().await;", "async fn g() { f().await }", "vec![async { f().await }];"]
    {
        assert_eq!(wrong_in(body), 0, "{body}");
    }
}

#[test]
fn a_block_that_a_macro_passed_on_needs_no_semicolon() {
    let block = proc_macro2::Group::new(
        proc_macro2::Delimiter::None,
        quote!({
            yield_!(1);
        }),
    );
    let tokens = expand::qtask(quote!(), quote!(async fn numbers() { #block let n = 1; yield_!(n); }), false);
    assert!(syn::parse2::<syn::File>(tokens.clone()).is_ok());
    assert!(!tokens.to_string().contains("compile_error"), "{tokens}");
}

#[test]
fn the_expansion_of_a_wrong_task_can_still_be_called() {
    let shown = expanded("retry = 1, retry = 2", "pub async fn wrong(n: i64) -> Vec<i64> { yield_!(n); }");
    assert!(shown.contains("pub struct wrong"), "{shown}");
    assert!(shown.contains("pub fn wrong(_: i64) -> wrong"), "{shown}");
}
