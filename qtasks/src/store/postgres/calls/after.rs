//! Jobs that wait for others. How they are let on stands in the tables: a trigger does it in the transaction in which a job ends.

use std::collections::{HashMap, HashSet};

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::keys::Keys;
use crate::{
    error::Error,
    model::job::{AfterFailure, Beginning, JobId, NewJob, StateKind},
    store::{
        postgres::{
            encoding::{self, get},
            error::Fault,
            pool::Parameter,
        },
        refusal::Earlier,
    },
};

/// Whether one of the jobs comes after others.
pub(crate) fn some_wait<'j>(jobs: impl IntoIterator<Item = &'j NewJob>) -> bool {
    jobs.into_iter().any(|new| new.call.after.is_some())
}

/// How new jobs begin that come after others, each with how it came to be.
pub(crate) type Begun<'j> = Vec<(&'j NewJob, Beginning)>;

/// How the jobs begin that come after others: they stand in the order of their call. Gives the error where one of these others is not
/// there. A job that is there already is passed over.
pub(crate) async fn begin<'j>(keys: &impl Keys, jobs: &[&'j NewJob]) -> Result<Result<Begun<'j>, Error>, Fault> {
    let mut begun = Vec::new();
    if !some_wait(jobs.iter().copied()) {
        return Ok(Ok(begun));
    }
    let own = jobs.iter().filter(|new| new.call.after.is_some()).map(|new| new.call.id);
    let parents = jobs.iter().filter_map(|new| new.call.after.as_ref()).flat_map(|after| after.jobs.iter().copied());
    let known: HashSet<_> = own.clone().collect();
    let mut states = states(keys, own.chain(parents).collect()).await?;
    let is_there: HashSet<_> = known.into_iter().filter(|id| states.contains_key(id)).collect();
    let mut earlier = Earlier::default();
    for &new in jobs {
        let id = new.call.id;
        if is_there.contains(&id) {
            continue;
        }
        if let Some(parent) = earlier.not_among(new).into_iter().find(|parent| !states.contains_key(parent)) {
            return Ok(Err(Error::no_parent(new, parent)));
        }
        earlier.add(new);
        let beginning = new.call.after.as_ref().map(|after| after.begin(|parent| states[&parent]));
        let is_cancelled = matches!(beginning, Some(Beginning::Cancelled(_)));
        if new.keyed().is_none() {
            states.entry(id).or_insert(if is_cancelled { StateKind::Cancelled } else { StateKind::Waiting });
        }
        begun.extend(beginning.map(|beginning| (new, beginning)));
    }
    Ok(Ok(begun))
}

/// In which states these jobs are, of those that are there.
async fn states(keys: &impl Keys, ids: HashSet<JobId>) -> Result<HashMap<JobId, StateKind>, Fault> {
    const STATES: &str = "SELECT id, state FROM qtasks.jobs WHERE id = ANY ($1)";
    let ids: Vec<_> = ids.into_iter().map(encoding::job_id).collect();
    let rows = keys.ask(STATES, &[(&ids, Type::UUID_ARRAY)]).await?;
    let state = |row| {
        let kind = encoding::kind(get(row, 1)?).ok_or_else(|| Fault::refused("a job is in a state that is none"))?;
        Ok((JobId::from_bytes(get::<Uuid>(row, 0)?.into_bytes()), kind))
    };
    rows.iter().map(state).collect()
}

/// Has the jobs begin so, which this transaction has just added.
pub(crate) async fn hold(keys: &impl Keys, begun: &[(&NewJob, Beginning)]) -> Result<(), Fault> {
    wait(keys, begun).await?;
    cancel(keys, begun).await
}

/// Jobs stand in no list while they wait for others. What the jobs wait for is written in one order, in which the locks are taken at the
/// commit.
async fn wait(keys: &impl Keys, begun: &[(&NewJob, Beginning)]) -> Result<(), Fault> {
    const WAIT: &str = "
        WITH new AS MATERIALIZED (
            SELECT n.parent, n.job, n.runs FROM unnest($1::uuid[], $2::uuid[], $3::bool[]) AS n(parent, job, runs)
                JOIN qtasks.jobs j ON j.id = n.job AND j.came = pg_current_xact_id()
        ), waits AS (
            INSERT INTO qtasks.waits (parent, job, runs) SELECT parent, job, runs FROM new ORDER BY parent, job
            ON CONFLICT DO NOTHING
        )
        UPDATE qtasks.jobs j SET state = -1, list = NULL, fresh = false, outcome = n.parents::text
        FROM (SELECT job, count(*) AS parents FROM new GROUP BY job) AS n WHERE j.id = n.job";
    let (mut parents, mut jobs, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    for (new, beginning) in begun {
        let (Beginning::Waits(live), Some(after)) = (beginning, &new.call.after) else { continue };
        for parent in live {
            parents.push(encoding::job_id(*parent));
            jobs.push(encoding::job_id(new.call.id));
            runs.push(after.on_failure == AfterFailure::Run);
        }
    }
    if parents.is_empty() {
        return Ok(());
    }
    let parameters: [Parameter<'_>; 3] =
        [(&parents, Type::UUID_ARRAY), (&jobs, Type::UUID_ARRAY), (&runs, Type::BOOL_ARRAY)];
    keys.ask(WAIT, &parameters).await.map(drop)
}

async fn cancel(keys: &impl Keys, begun: &[(&NewJob, Beginning)]) -> Result<(), Fault> {
    const CANCEL: &str = "
        WITH cancelled AS (
            UPDATE qtasks.jobs j SET state = 5, list = NULL, fresh = false, ended = j.enqueued, outcome = to_json(n.reason)::text
            FROM unnest($1::uuid[], $2::text[]) AS n(job, reason) WHERE j.id = n.job AND j.came = pg_current_xact_id()
            RETURNING j.queue, j.task
        )
        INSERT INTO qtasks.deltas (queue, task, waiting, cancelled)
        SELECT queue, task, -count(*), count(*) FROM cancelled GROUP BY queue, task";
    let (mut jobs, mut reasons) = (Vec::new(), Vec::new());
    for (new, beginning) in begun {
        if let Beginning::Cancelled(reason) = beginning {
            jobs.push(encoding::job_id(new.call.id));
            reasons.push(&**reason);
        }
    }
    if jobs.is_empty() {
        return Ok(());
    }
    keys.ask(CANCEL, &[(&jobs, Type::UUID_ARRAY), (&reasons, Type::TEXT_ARRAY)]).await.map(drop)
}
