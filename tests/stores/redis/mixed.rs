//! Programs of format 3 that still run on a store, and programs that take over its jobs.

use std::collections::BTreeSet;

use qtasks::{
    prelude::*,
    store::{Ask, Budget, Find},
};
use qtasks_tests::in_time;

use crate::{
    ask, new_job,
    old::{LANE, Old, WORKER, WithJobs, time},
    open,
};

/// The scripts of format 3, as its programs called them.
const SCRIPTS_OF_FORMAT_3: [(&str, &str); 5] = [
    ("enqueue", include_str!("format_3/enqueue.lua")),
    ("lease", include_str!("format_3/lease.lua")),
    ("record", include_str!("format_3/record.lua")),
    ("settle", include_str!("format_3/settle.lua")),
    ("prune", include_str!("format_3/prune.lua")),
];

impl Old {
    /// Calls a script of format 3; gives its answer as JSON, or the error.
    fn call(&self, name: &str, values: &[&[u8]]) -> String {
        let script = SCRIPTS_OF_FORMAT_3.iter().find(|script| script.0 == name).unwrap().1;
        let script = format!("return cjson.encode({{(function() {script}\nend)()}})");
        let script = script.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let quoted =
            |bytes: &&[u8]| format!("\"{}\"", bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>());
        let values = values.iter().map(quoted).collect::<Vec<_>>().join(" ");
        self.server.tell(&format!("EVAL \"{script}\" 1 {{old}}: 12345678 {values}")).unwrap()
    }

    /// Enqueues a job as a program of format 3; gives the answer.
    fn enqueue(&self, is_due: bool) -> String {
        let (id, due) = (JobId::new(), if is_due { 7_i64 } else { 900 });
        let times = [due, 7, -1].map(i64::to_be_bytes).concat();
        let job = [&[0xff, 0xff], &times[..], &(LANE.len() as u32).to_be_bytes(), LANE, b"{}"].concat();
        let (id, key) = (id.to_bytes(), [b"{old}:j:", &id.to_bytes()[..]].concat());
        let [reach, kind] = if is_due { ["7", "line:"] } else { ["", "later:"] };
        let mut values = vec![reach.as_bytes(), b"1", &id, &key, &job, kind.as_bytes(), LANE];
        values.extend(if is_due { vec![&b"0"[..]] } else { vec![&b"1"[..], b"900", &id] });
        self.call("enqueue", &values)
    }

    /// Settles a job as a program of format 3, by the right that it says it has; gives the answer.
    fn settle(&self, hold: &[u8], id: JobId, attempt: u32) -> String {
        let (id, lease) = (id.to_bytes(), [&id.to_bytes()[..], &attempt.to_be_bytes()].concat());
        let standing = [&[4, 0], &attempt.to_be_bytes()[..], &[0; 33], b"enough"].concat();
        self.call("settle", &[hold, b"finished", b"40", b"1", &id, &lease, &[b"{old}:p:", &id[..]].concat(), &standing])
    }
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn programs_of_format_3_that_still_run_change_no_job() {
    let with_jobs = WithJobs::of_format(b"3");
    let old = &with_jobs.old;
    for is_due in [true, false] {
        assert_eq!(old.enqueue(is_due), "{}", "as long as the format is theirs");
    }
    let store = open(&old.url()).await;
    let jobs = store.find(Find::default().oldest_first(), None, Budget::PAGE).await.unwrap().jobs;
    assert_eq!(jobs.len(), with_jobs.jobs().len() + 2);
    for is_due in [true, false] {
        assert!(old.enqueue(is_due).starts_with("-WRONGTYPE"), "{}", old.enqueue(is_due));
    }
    let asked = [&WORKER.to_bytes()[..], b"9", b"2", b"1000", LANE];
    assert_eq!(old.call("lease", &asked), r#"[[false,0,0,{},{},{}]]"#);
    let lease = [&with_jobs.runs.to_bytes()[..], &2_u32.to_be_bytes()].concat();
    let step = [&[0], &9_u64.to_be_bytes()[..], b"82"].concat();
    assert_eq!(old.call("record", &[&WORKER.to_bytes(), &lease, b"", b"1", b"0", b"0", b"1", &step]), "[[0]]");
    let by_lease = [b"L", &WORKER.to_bytes()[..]].concat();
    for (hold, id, attempt) in
        [(&by_lease[..], with_jobs.runs, 2), (b"S\0", with_jobs.in_line, 0), (b"S\x03", with_jobs.dead, 1)]
    {
        assert_eq!(old.settle(hold, id, attempt), "[[0]]");
    }
    assert_eq!(old.call("prune", &[b"99999", b"99999", b"9"]), "[[0,0]]");
    assert_eq!(store.find(Find::default().oldest_first(), None, Budget::PAGE).await.unwrap().jobs, jobs);
    assert_eq!(store.recount().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn programs_that_open_an_old_store_at_once_take_over_each_of_thousands_of_jobs_once() {
    const JOBS: usize = 5_000;
    let old = Old::of_format(b"3");
    let add = "for i = 1, 5000 do local id = struct.pack('>I8I8', 7, i) \
               redis.call('RPUSH', '{old}:ids', id) redis.call('RPUSH', '{old}:line:7:default:task', id) \
               redis.call('SET', '{old}:j:' .. id, struct.pack('>hi8i8i8I4', -1, 7, 7, -1, 14) .. '7:default:task{}') end \
               redis.call('SADD', '{old}:lanes', '7:default:task')";
    assert_eq!(old.server.tell(&format!("EVAL \"{add}\" 0")).unwrap(), "", "it answers with nothing");
    let url = old.url();
    let opened = futures::future::join_all((0..4).map(|_| open(&url))).await;
    for store in &opened {
        let counts = store.counts(time(7)).await.unwrap();
        assert_eq!((counts[0].jobs.waiting, counts[0].jobs.total(), counts.len()), (JOBS as u64, JOBS as u64, 1));
    }
    assert_eq!(opened[0].recount().await.unwrap(), 0);
    let leased = opened[0].lease(Ask { limit: 2 * JOBS, ..ask() }).await.unwrap().jobs;
    assert!(leased.iter().map(|job| job.call.id).eq(leased.iter().map(|job| job.call.id).collect::<BTreeSet<_>>()));
    assert_eq!(leased.len(), JOBS);
}

#[tokio::test]
#[cfg_attr(missing = "redis", ignore = "redis-server is not installed")]
async fn a_store_that_a_crash_has_taken_back_to_format_3_is_brought_up_again() {
    let old = Old::of_format(b"4");
    let store = open(&old.url()).await;
    let job = new_job();
    store.enqueue(vec![job.clone()]).await.unwrap();
    old.tell("SET", "format", b"", &[b"3"]);
    let id = old.job(1, 0);
    old.tell("RPUSH", "line:", LANE, &[&id.to_bytes()]);
    let mut work = store.notifier().work();
    assert_eq!(old.server.tell("CLIENT KILL TYPE pubsub").unwrap(), ":1");
    in_time(work.notification()).await;
    let leased = store.lease(ask()).await.unwrap().jobs;
    assert_eq!(leased.iter().map(|job| job.call.id).collect::<Vec<_>>(), [id, job.call.id]);
    assert_eq!(store.recount().await.unwrap(), 0);
}
