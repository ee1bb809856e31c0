use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;

fn now() -> Timestamp {
    "2026-11-27T12:00:00Z".parse().unwrap()
}

fn find(text: &str) -> Find {
    Find::parse(text, now()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    Find::parse(text, now()).expect_err(text).to_string()
}

#[test]
fn words_are_read_as_what_they_say() {
    assert_eq!(find("  "), Find::default());
    let read =
        find("state:dead,waiting task:import,report queue:mail args.user.id:42 args.city:\"New York\",Rome mail");
    assert_eq!(read.states, [StateKind::Dead, StateKind::Waiting]);
    assert_eq!((&read.tasks[..], &read.queues[..]), (&["import".into(), "report".into()][..], &["mail".into()][..]));
    let arg = |path: &[&str], values: &[&str]| FindArg {
        path: path.iter().map(|name| (*name).into()).collect(),
        values: values.iter().map(|value| (*value).into()).collect(),
    };
    assert_eq!(read.args, [arg(&["user", "id"], &["42"]), arg(&["city"], &["New York", "Rome"])]);
    assert_eq!(read.words, ["mail"]);
    assert_eq!(find("error:\"a \\\"b\\\" \\\\c, d\"").error.as_deref(), Some("a \"b\" \\c, d"));
    assert_eq!(find("task:a task:b").tasks, ["a", "b"]);
    assert_eq!(find("order:oldest").order, Order::Oldest);
}

#[test]
fn a_word_alone_is_an_id_or_a_part_of_a_name() {
    assert_eq!(find("0193-2b2e").id, Some("01932b2e".parse().unwrap()));
    assert_eq!(find("id:f").id, Some("f".parse().unwrap()));
    for word in ["facade", "019", "0193x", "\"0193\"", "\"emails send\""] {
        let read = find(word);
        assert_eq!((read.id, read.words), (None, vec![word.replace('"', "")]));
    }
}

#[test]
fn times_are_so_long_ago_or_a_date_or_to_the_second() {
    let at = |text: &str| find(&format!("after:{text}")).after.unwrap().to_string();
    assert_eq!(at("90s"), "2026-11-27T11:58:30Z");
    assert_eq!(at("2h"), "2026-11-27T10:00:00Z");
    assert_eq!(at("3d"), "2026-11-24T12:00:00Z");
    assert_eq!(at("2026-11-01"), "2026-11-01T00:00:00Z");
    assert_eq!(at("2026-11-01T09:30:00"), "2026-11-01T09:30:00Z");
    assert_eq!(at("2026-11-01T09:30:00+03:00"), "2026-11-01T06:30:00Z");
}

#[test]
fn what_is_wrong_is_answered_with_what_is_right() {
    assert_eq!(
        refused("stat:dead"),
        "a search knows no `stat:`; there are `state:`, `task:`, `queue:`, `schedule:`, `id:`, `error:`, `after:`, `before:`, \
         `ended-after:`, `ended-before:`, `order:`, and `args.NAME:`"
    );
    assert_eq!(refused("args:1"), refused("stat:1").replace("stat:", "args:"));
    assert_eq!(refused("args..x:1"), refused("stat:1").replace("stat:", "args..x:"));
    assert_eq!(
        refused("state:failed"),
        "no job is ever `failed`; the states are waiting, running, done, dead and cancelled"
    );
    assert_eq!(refused("task:"), "`task:` lacks a value");
    assert_eq!(refused("task:a,,b"), "`task:` lacks a value");
    assert_eq!(refused("error:a,b"), "`error:` takes one value; put one that has a comma in quotes");
    assert_eq!(refused("a,b"), "a word alone takes one value; put one that has a comma in quotes");
    assert_eq!(refused("order:random"), "`order:` is newest or oldest, not `random`");
    assert_eq!(
        refused("before:yesterday"),
        "`yesterday` is no time; write `2h` or `3d` for so long ago, a date like 2026-11-01, or 2026-11-01T09:00:00Z"
    );
    assert_eq!(refused("id:xyz"), "no id begins with `xyz`; an id looks like 01932b2e-7c5d-7b54-8f3c-0b7c6a2f9d10");
    assert_eq!(refused("error:\"no end"), "a quote has no end: no end");
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[a-z0-9:._-]{1,9}", 1 => "[ -~äß\u{3000},\"\\\\]{1,9}"]
}

fn time() -> impl Strategy<Value = Timestamp> {
    (-1_000_000_000_000_i64..4_000_000_000_000).prop_map(|millis| Timestamp::from_millisecond(millis).unwrap())
}

prop_compose! {
    fn any_find()(
        tasks in vec(text(), 0..3),
        queues in vec(text(), 0..3),
        schedules in vec(text(), 0..3),
        states in vec(select(vec![StateKind::Waiting, StateKind::Dead, StateKind::Done]), 0..3),
        id in option::of("[0-9a-f]{1,32}"),
        words in vec(text(), 0..3),
        args in vec((vec("[a-z0-9]{1,5}", 1..4), vec(text(), 1..3)), 0..3),
        error in option::of(text()),
        times in [option::of(time()), option::of(time()), option::of(time()), option::of(time())],
        order in select(vec![Order::Newest, Order::Oldest]),
    ) -> Find {
        let [after, before, ended_after, ended_before] = times;
        let args = args.into_iter().map(|(path, values)| FindArg { path, values }).collect();
        let id = id.map(|id| id.parse().unwrap());
        Find { tasks, queues, schedules, states, id, after, before, ended_after, ended_before, words, args, error, order }
    }
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_what_it_was(find in any_find()) {
        let text = find.to_string();
        prop_assert_eq!(Find::parse(&text, now()).unwrap(), find, "{}", text);
    }

    #[test]
    fn no_text_breaks_the_reader(text in "\\PC{0,40}") {
        _ = Find::parse(&text, now());
    }
}
