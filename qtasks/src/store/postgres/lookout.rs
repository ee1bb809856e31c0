//! How a process sees at once that the process of another worker has ended: the lock of the worker is free.
//!
//! A connection may also be lost while its process lives, and be made again at once. So a worker is taken for gone only when
//! its lock was seen free twice, 0.4 s apart, and the worker has not renewed in between. Locks say nothing on another server
//! than the one that the worker has written to.

use std::collections::{HashMap, HashSet};

use tokio_postgres::{Row, types::Type};

use super::{
    account, encoding,
    error::Fault,
    line::Line,
    pool::{Parameter, Statement},
    presence::instance,
    url::StoreUrl,
};
use crate::model::job::WorkerId;

/// For this many looks after the connection was lost no worker is taken for gone: other processes may have lost their
/// connections too, for instance when an operator has closed them all.
const FORBEARING: u32 = 8;

/// The locks of workers that are held, as an array; of no use where `$1` is false.
macro_rules! locks {
    () => {
        "ARRAY(SELECT (l.classid::int8 << 32) | l.objid::int8 FROM pg_locks l
            WHERE $1 AND l.locktype = 'advisory' AND l.objsubid = 1 AND l.granted
                AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
    };
}

/// Which server it is, whether it can be written to, and, if `$1`, the workers that are lost or whose lock is free.
const LOOK: &str = concat!(
    "WITH server AS MATERIALIZED (SELECT ",
    instance!(),
    " AS instance, NOT (pg_is_in_recovery() OR current_setting('transaction_read_only')::bool) AS writable)
    SELECT s.instance, s.writable, w.id, w.beat, w.lost FROM server s LEFT JOIN qtasks.workers w
        ON $1 AND (w.lost OR w.signed AND w.instance = s.instance AND w.sign <> ALL (",
    locks!(),
    "))"
);

/// Marks workers as lost whose lock is free and whose beat is still the same. It waits for no row that another process has
/// locked, for renewals wait behind it.
const JUDGE: &str = concat!(
    "WITH gone AS MATERIALIZED (
        SELECT w.id FROM qtasks.workers w JOIN unnest($2::uuid[], $3::int8[]) AS seen(id, beat) ON seen.id = w.id
        WHERE w.beat IS NOT DISTINCT FROM seen.beat AND NOT w.lost AND w.signed AND w.instance = ",
    instance!(),
    " AND w.sign <> ALL (",
    locks!(),
    ")
        FOR UPDATE OF w SKIP LOCKED
    )
    UPDATE qtasks.workers w SET lost = true FROM gone WHERE w.id = gone.id RETURNING w.id"
);

/// Workers, each with the beat of its last renewal.
type Beats = HashMap<WorkerId, Option<i64>>;

/// Watches the locks of workers.
#[derive(Default)]
pub(super) struct Lookout {
    /// Workers whose lock was free at the last look, with their beats.
    free: Beats,
    /// Workers that were lost at the last look.
    lost: HashSet<WorkerId>,
    /// For how many more looks no worker is taken for gone.
    forbearing: u32,
}

impl Lookout {
    /// A lookout of a process that has just lost its connection.
    pub(super) fn anew() -> Self {
        Self { forbearing: FORBEARING, ..Self::default() }
    }

    /// Looks at the locks once. Gives whether more workers are lost than before. It `watches` workers if this process has a
    /// worker that could take over their jobs.
    ///
    /// The line is given up if it leads to another server than `instance`, or to one that can only be read.
    pub(super) async fn look(
        &mut self,
        line: &Line,
        instance: &str,
        url: &StoreUrl,
        watches: bool,
    ) -> Result<bool, Fault> {
        let watches = watches && self.forbearing == 0;
        self.forbearing = self.forbearing.saturating_sub(1);
        let rows = ask(line, url, watches).await?;
        match server(&rows, url) {
            Ok(found) if found == instance => {}
            Ok(_) => line.give_up(Fault::away("it leads to another server now")),
            Err(fault) => line.give_up(fault),
        }
        if !watches || line.has_ended() {
            return Ok(false);
        }
        let (free, mut lost) = sorted(&rows)?;
        let still = free.iter().filter(|(worker, beat)| self.free.get(worker) == Some(*beat));
        let (ids, beats): (Vec<_>, Vec<_>) = still.map(|(worker, beat)| (encoding::worker_id(*worker), *beat)).unzip();
        if !ids.is_empty() {
            let parameters: [Parameter<'_>; 3] =
                [(&true, Type::BOOL), (&ids, Type::UUID_ARRAY), (&beats, Type::INT8_ARRAY)];
            let judged = line.query(url, &Statement { sql: JUDGE, parameters: &parameters }).await?;
            for row in &judged {
                lost.insert(encoding::worker(row, 0)?);
            }
        }
        let more = !lost.is_subset(&self.lost);
        (self.free, self.lost) = (free, lost);
        Ok(more)
    }
}

/// Which server a line leads to, if the server can be written to.
pub(super) async fn instance(line: &Line, url: &StoreUrl) -> Result<String, Fault> {
    server(&ask(line, url, false).await?, url).map(str::to_owned)
}

async fn ask(line: &Line, url: &StoreUrl, watches: bool) -> Result<Vec<Row>, Fault> {
    line.query(url, &Statement { sql: LOOK, parameters: &[(&watches, Type::BOOL)] }).await
}

fn server<'r>(rows: &'r [Row], url: &StoreUrl) -> Result<&'r str, Fault> {
    let Some(row) = rows.first() else { return Err(Fault::refused("a look was answered with nothing")) };
    if encoding::get(row, 1)? {
        return encoding::get(row, 0);
    }
    Err(Fault::away(format!("the server can only be read; {}", account::to_write(url))))
}

/// Workers whose lock is free, with their beats, and those that are lost.
fn sorted(rows: &[Row]) -> Result<(Beats, HashSet<WorkerId>), Fault> {
    let (mut free, mut lost) = (Beats::new(), HashSet::new());
    for row in rows {
        // Without any worker there is a row for the server alone.
        let Some(lost_already) = encoding::get::<Option<bool>>(row, 4)? else { continue };
        let worker = encoding::worker(row, 2)?;
        if lost_already {
            lost.insert(worker);
        } else {
            free.insert(worker, encoding::get(row, 3)?);
        }
    }
    Ok((free, lost))
}
