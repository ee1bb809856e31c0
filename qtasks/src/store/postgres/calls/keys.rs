//! Keys, and the jobs that have taken them last.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
};

use jiff::Timestamp;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use crate::{
    error::Error,
    model::{
        job::{JobCall, JobId, NewJob, StateKind},
        unique::{Claim, Holder, HolderState, Unique},
    },
    store::{
        Joined,
        more::more_of_replacing,
        postgres::{
            encoding::{self, get},
            error::Fault,
            pool::{Database, Parameter, Transaction},
        },
    },
};

/// What becomes of jobs of which some have keys.
pub(crate) struct Claimed<'j> {
    /// The jobs to be added, in order.
    pub(crate) new: Vec<Cow<'j, NewJob>>,
    /// Those that are not, for another one holds their key.
    pub(crate) joined: Vec<Joined>,
}

/// The connection on which keys are taken: the store's, or that of the application.
pub(crate) trait Keys {
    fn ask(
        &self,
        sql: &'static str,
        parameters: &[Parameter<'_>],
    ) -> impl Future<Output = Result<Vec<Row>, Fault>> + Send;
}

impl Keys for Transaction<'_> {
    async fn ask(&self, sql: &'static str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Fault> {
        self.query(sql, parameters).await
    }
}

/// Takes the keys of jobs, which come in the order of their call, or finds the jobs that hold them. Waits for transactions that have taken
/// one of them and are under way. Nothing is written where a job is refused, if the jobs `may_be` that: gives the error then.
pub(crate) async fn claim<'j>(
    keys: &impl Keys,
    jobs: &[&'j NewJob],
    may_be_refused: bool,
) -> Result<Result<Claimed<'j>, Error>, Fault> {
    let known = known(keys, jobs).await?;
    let is_new = |new: &&&NewJob| !known.contains(&new.call.id);
    let wanted: Wanted<'_> = jobs.iter().filter(is_new).filter_map(|new| Some(new.keyed()?.0)).collect();
    lock(keys, &wanted).await?;
    let mut holders = holders(keys, &wanted).await?;
    let mut claimed = Claimed { new: Vec::new(), joined: Vec::new() };
    let (mut takes, mut replaces) = (Vec::new(), BTreeMap::new());
    // The jobs of this call, and where in `claimed.new` those of them stand that take keys.
    let (mut seen, mut places) = (HashSet::new(), HashMap::new());
    for new in jobs {
        let is_first = seen.insert(new.call.id);
        let Some((key, unique)) = new.keyed().filter(|_| is_first && is_new(&new)) else {
            claimed.new.push(Cow::Borrowed(*new));
            continue;
        };
        let holder = holders.get(&key);
        match holder.map_or(Claim::Takes, |holder| unique.claim(new, holder)) {
            Claim::Takes => {
                takes.push((*new, unique.until));
                places.insert(new.call.id, claimed.new.len());
                claimed.new.push(Cow::Borrowed(*new));
                holders.insert(key, holder_of(new, unique));
                continue;
            }
            Claim::Refused if may_be_refused => {
                return Ok(Err(Error::duplicate(new, holder.map(|holder| holder.job).unwrap_or_default())));
            }
            Claim::Replaces(due) => _ = replaces.insert(holder.expect("there is one").job, (*new, due)),
            Claim::Joins | Claim::Refused => {}
        }
        let holder = holders[&key].job;
        claimed.joined.push(Joined { job: new.call.id, holder });
    }
    take(keys, &takes).await?;
    // It may be another job of the same call, which is not there yet.
    let (of_call, there): (Replaces<'_>, Replaces<'_>) =
        replaces.into_iter().partition(|(holder, _)| places.contains_key(holder));
    for (holder, (new, due)) in of_call {
        let other = &mut claimed.new[places[&holder]];
        let JobCall { queue, enqueued, after, .. } = other.call.clone();
        let call = JobCall { id: holder, queue, enqueued, after, ..new.call.clone() };
        *other = Cow::Owned(NewJob { call, due, unique: other.unique.clone() });
    }
    replace(keys, &there).await?;
    Ok(Ok(claimed))
}

/// The job that takes a key now, for those that come after it in the same call.
fn holder_of(new: &NewJob, unique: &Unique) -> Holder {
    let there = HolderState { state: StateKind::Waiting, attempt: 0, enqueued: new.call.enqueued };
    Holder { job: new.call.id, until: unique.until, there: Some(there) }
}

/// Which of the jobs are there already.
async fn known(keys: &impl Keys, jobs: &[&NewJob]) -> Result<HashSet<JobId>, Fault> {
    let ids: Vec<_> =
        jobs.iter().filter(|new| new.keyed().is_some()).map(|new| encoding::job_id(new.call.id)).collect();
    let rows = keys.ask("SELECT id FROM qtasks.jobs WHERE id = ANY ($1)", &[(&ids, Type::UUID_ARRAY)]).await?;
    rows.iter().map(|row| Ok(JobId::from_bytes(get::<Uuid>(row, 0)?.into_bytes()))).collect()
}

/// Names of tasks and keys, each once and in order.
type Wanted<'w> = BTreeSet<(&'w str, &'w str)>;

/// Adds a row for each key that has none yet, and locks the rows of all, in one order, so that two calls never wait for each other. A new
/// row names no job.
async fn lock(keys: &impl Keys, wanted: &Wanted<'_>) -> Result<(), Fault> {
    const MAKE: &str = "
        INSERT INTO qtasks.keys (task, key) SELECT n.task, n.key FROM unnest($1::text[], $2::text[]) AS n(task, key)
        ON CONFLICT (task, key) DO NOTHING";
    const LOCK: &str = "
        SELECT FROM qtasks.keys k JOIN unnest($1::text[], $2::text[]) AS n(task, key) ON k.task = n.task AND k.key = n.key
        ORDER BY k.task, k.key FOR UPDATE OF k";
    let (tasks, names): (Vec<_>, Vec<_>) = wanted.iter().copied().unzip();
    let parameters: [Parameter<'_>; 2] = [(&tasks, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)];
    loop {
        keys.ask(MAKE, &parameters).await?;
        // One that was deleted meanwhile is not there to be locked.
        if keys.ask(LOCK, &parameters).await?.len() == wanted.len() {
            return Ok(());
        }
    }
}

const HOLDERS: &str = "
    SELECT k.job, k.until, j.state, j.attempt, j.enqueued, k.task, k.key
    FROM qtasks.keys k JOIN unnest($1::text[], $2::text[]) AS n(task, key) ON k.task = n.task AND k.key = n.key
        LEFT JOIN qtasks.jobs j ON j.id = k.job
    WHERE k.job IS NOT NULL";

/// The jobs that have taken these keys last, as they are now that the keys are locked.
async fn holders<'w>(keys: &impl Keys, wanted: &Wanted<'w>) -> Result<HashMap<(&'w str, &'w str), Holder>, Fault> {
    let (tasks, names): (Vec<_>, Vec<_>) = wanted.iter().copied().unzip();
    let rows = keys.ask(HOLDERS, &[(&tasks, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)]).await?;
    let mut found = BTreeMap::new();
    for row in &rows {
        found.insert((get::<&str>(row, 5)?, get::<&str>(row, 6)?), read(row)?);
    }
    let holders = wanted.iter().filter_map(|name| Some((*name, found.remove(name)?))).collect();
    Ok(holders)
}

fn read(row: &Row) -> Result<Holder, Fault> {
    let there = match get::<Option<i16>>(row, 2)? {
        Some(state) => Some(HolderState {
            state: encoding::kind(state).ok_or_else(|| Fault::refused("a job is in a state that is none"))?,
            attempt: encoding::small(row, 3)?,
            enqueued: encoding::time(get(row, 4)?),
        }),
        None => None,
    };
    let job = JobId::from_bytes(get::<Uuid>(row, 0)?.into_bytes());
    Ok(Holder { job, until: get::<Option<i64>>(row, 1)?.map(encoding::time), there })
}

/// The job that has taken a key last.
pub(crate) async fn holder(database: &Database, task: &str, key: &str) -> Result<Option<Holder>, Fault> {
    let (tasks, names) = (vec![task], vec![key]);
    let rows = database.query(HOLDERS, &[(&tasks, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)]).await?;
    rows.first().map(read).transpose()
}

async fn take(keys: &impl Keys, takes: &[(&NewJob, Option<Timestamp>)]) -> Result<(), Fault> {
    const TAKE: &str = "
        UPDATE qtasks.keys k SET job = n.job, until = n.until
        FROM unnest($1::text[], $2::text[], $3::uuid[], $4::int8[]) AS n(task, key, job, until)
        WHERE k.task = n.task AND k.key = n.key";
    if takes.is_empty() {
        return Ok(());
    }
    let tasks: Vec<_> = takes.iter().map(|(new, _)| &*new.call.task).collect();
    let names: Vec<_> = takes.iter().map(|(new, _)| new.call.key.as_deref()).collect();
    let jobs: Vec<_> = takes.iter().map(|(new, _)| encoding::job_id(new.call.id)).collect();
    let untils: Vec<_> = takes.iter().map(|(_, until)| until.map(encoding::millis)).collect();
    let parameters: [Parameter<'_>; 4] = [
        (&tasks, Type::TEXT_ARRAY),
        (&names, Type::TEXT_ARRAY),
        (&jobs, Type::UUID_ARRAY),
        (&untils, Type::INT8_ARRAY),
    ];
    keys.ask(TAKE, &parameters).await.map(drop)
}

/// Calls, by the jobs that each replaces and with the times at which these are due then.
type Replaces<'j> = BTreeMap<JobId, (&'j NewJob, Timestamp)>;

/// Gives jobs that wait, and never started, what calls say anew. Where a worker has leased one meanwhile, it stays as it is.
///
/// They stand in the list of jobs that are due later then, as a job does that was [placed](super::place).
async fn replace(keys: &impl Keys, replaces: &Replaces<'_>) -> Result<(), Fault> {
    const REPLACE: &str = "
        WITH replaced AS (
            UPDATE qtasks.jobs j SET args = n.args, priority = n.priority, due = n.due, max_time = n.max_time,
                more = CASE WHEN j.more::json -> 'after' IS NULL THEN n.more
                    ELSE (n.more::jsonb || jsonb_build_object('after', j.more::json -> 'after'))::text END,
                fresh = false, list = CASE WHEN j.state >= 0 THEN 0 END, state = least(j.state, 0)
            FROM unnest($1::uuid[], $2::text[], $3::int2[], $4::int8[], $5::int8[], $6::text[], $7::int8[])
                AS n(id, args, priority, due, max_time, more, expires)
            WHERE j.id = n.id AND j.state <= 1 AND j.attempt = 0 RETURNING j.id, n.expires
        )
        INSERT INTO qtasks.expiring (at, job) SELECT expires, id FROM replaced WHERE expires IS NOT NULL ON CONFLICT DO NOTHING";
    if replaces.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = replaces.keys().copied().map(encoding::job_id).collect();
    let calls = || replaces.values().map(|(new, due)| (&new.call, encoding::millis(*due)));
    let args: Vec<_> = calls().map(|(call, _)| call.args.as_str()).collect();
    let priorities: Vec<_> = calls().map(|(call, _)| call.priority).collect();
    let dues: Vec<_> = calls().map(|(_, due)| due).collect();
    let limits: Vec<_> = calls().map(|(call, _)| call.max_time.map(encoding::limit_millis)).collect();
    let mores: Vec<_> = calls().map(|(call, _)| more_of_replacing(call)).collect();
    let expires = |(call, due): (&JobCall, i64)| Some(due.saturating_add(encoding::limit_millis(call.expires?)));
    let expires: Vec<_> = calls().map(expires).collect();
    let parameters: [Parameter<'_>; 7] = [
        (&ids, Type::UUID_ARRAY),
        (&args, Type::TEXT_ARRAY),
        (&priorities, Type::INT2_ARRAY),
        (&dues, Type::INT8_ARRAY),
        (&limits, Type::INT8_ARRAY),
        (&mores, Type::TEXT_ARRAY),
        (&expires, Type::INT8_ARRAY),
    ];
    keys.ask(REPLACE, &parameters).await.map(drop)
}

/// The name of the task of a job, and its key, if it has one.
pub(crate) async fn key_of(keys: &impl Keys, job: JobId) -> Result<Option<(String, String)>, Fault> {
    const KEY: &str = "SELECT task, more::json ->> 'key' FROM qtasks.jobs WHERE id = $1 AND left(more, 1) = '{'";
    let rows = keys.ask(KEY, &[(&encoding::job_id(job), Type::UUID)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    get::<Option<String>>(row, 1)?.map(|key| Ok((get(row, 0)?, key))).transpose()
}

/// Locks the key, and says whether a job that had ended may have it again: no other one lives that has it.
pub(crate) async fn may_live_again(keys: &impl Keys, job: JobId, key: (&str, &str)) -> Result<bool, Fault> {
    let wanted = BTreeSet::from([key]);
    lock(keys, &wanted).await?;
    let lives = |there: HolderState| !there.state.is_ended();
    let holders = holders(keys, &wanted).await?;
    Ok(!holders.get(&key).is_some_and(|holder| holder.job != job && holder.there.is_some_and(lives)))
}

/// Gives a job its key again, which is locked.
pub(crate) async fn retake(keys: &impl Keys, job: JobId, (task, key): (&str, &str)) -> Result<(), Fault> {
    const RETAKE: &str = "UPDATE qtasks.keys SET job = $3 WHERE task = $1 AND key = $2";
    let id = encoding::job_id(job);
    keys.ask(RETAKE, &[(&task, Type::TEXT), (&key, Type::TEXT), (&id, Type::UUID)]).await.map(drop)
}
