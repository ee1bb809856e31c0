//! How jobs are searched for, a page at a time.

use std::{collections::HashMap, time::Duration};

use tokio::task::yield_now;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use crate::{
    model::job::{Job, JobId, State, StateKind},
    store::{
        Budget, Find, Order, Page,
        postgres::{
            encoding::{self, job_columns},
            error::Fault,
            pool::{Database, Parameter, Transaction},
        },
    },
};

/// How long one statement of a search may take.
const LIMIT: Duration = Duration::from_secs(2);
/// How many jobs a search looks at first; then four times as many, and so on.
const FIRST: usize = 100;
/// How many jobs one statement looks at, at most.
const MOST: usize = 8_192;
/// How many jobs one statement gives that may be among those that are searched for.
const CANDIDATES: usize = 256;

/// Looks at up to `$3` jobs from the id `$1` to the id `$2`, and gives up to `$4` of them that may be searched for, and the last
/// that was looked at, each with its number among those. Names and words are compared in letters that the server and Rust
/// take alike; the rest is left to [`Find::passes`].
macro_rules! look {
    ($from:literal, $key:literal, $direction:literal) => {
        concat!(
            "
    WITH looked AS MATERIALIZED (
        SELECT row_number() OVER () AS number, w.id, w.passes FROM (
            SELECT j.id, (($5::text[] IS NULL OR j.queue = ANY ($5)) AND ($6::text[] IS NULL OR j.task = ANY ($6))
                AND ($7::int2[] IS NULL OR j.state = ANY ($7)) AND j.enqueued BETWEEN $8 AND $9
                AND ($10::int8 IS NULL OR j.ended >= $10) AND ($11::int8 IS NULL OR j.ended <= $11)
                AND ($12::text[] IS NULL OR octet_length(j.task || j.queue) > length(j.task || j.queue) OR NOT EXISTS (
                    SELECT FROM unnest($12) AS w(word) WHERE strpos(lower(j.task), w.word COLLATE \"C\") = 0
                        AND strpos(lower(j.queue), w.word COLLATE \"C\") = 0))
                ) IS TRUE AS passes
            FROM ",
            $from,
            " WHERE ",
            $key,
            " ORDER BY ",
            $direction,
            " LIMIT $3) w
    )
    SELECT l.number, l.id, l.passes, CASE WHEN $13 THEN (SELECT j.args FROM qtasks.jobs j WHERE j.id = l.id) END,
        CASE WHEN $14 THEN (SELECT j.outcome FROM qtasks.jobs j WHERE j.id = l.id) END
    FROM looked l WHERE l.passes OR l.number = (SELECT count(*) FROM looked) ORDER BY l.number LIMIT $4"
        )
    };
}

/// The statements for each way to look, each with the newest or the oldest jobs first.
mod look {
    pub(super) const ALL: [&str; 2] = [
        look!("qtasks.jobs j", "j.id BETWEEN $1 AND $2", "j.id DESC"),
        look!("qtasks.jobs j", "j.id BETWEEN $1 AND $2", "j.id"),
    ];
    /// By an index of dead jobs alone. It has the bytes of the ids, so that no other index takes its place.
    pub(super) const DEAD: [&str; 2] = [
        look!(
            "qtasks.jobs j",
            "j.list = 3 AND uuid_send(j.id) BETWEEN uuid_send($1) AND uuid_send($2)",
            "uuid_send(j.id) DESC"
        ),
        look!(
            "qtasks.jobs j",
            "j.list = 3 AND uuid_send(j.id) BETWEEN uuid_send($1) AND uuid_send($2)",
            "uuid_send(j.id)"
        ),
    ];
    /// By leases: those that run are few.
    pub(super) const RUNNING: [&str; 2] = [
        look!(
            "(SELECT r.* FROM qtasks.jobs r WHERE r.id = ANY (ARRAY(SELECT unnest(l.jobs) FROM qtasks.leases l)) AND r.state = 2
                OFFSET 0) j",
            "j.id BETWEEN $1 AND $2",
            "j.id DESC"
        ),
        look!(
            "(SELECT r.* FROM qtasks.jobs r WHERE r.id = ANY (ARRAY(SELECT unnest(l.jobs) FROM qtasks.leases l)) AND r.state = 2
                OFFSET 0) j",
            "j.id BETWEEN $1 AND $2",
            "j.id"
        ),
    ];
}

pub(crate) async fn find(
    database: &Database,
    find: &Find,
    after: Option<JobId>,
    budget: Budget,
) -> Result<Page, Fault> {
    let Some(columns) = Columns::new(find) else { return Ok(Page::default()) };
    let budget = Budget { jobs: budget.jobs.max(1), looks: budget.looks.max(1) };
    let mut search = Search {
        find,
        columns,
        transaction: database.begin_listing(LIMIT).await?,
        budget,
        page: Page { next: after, ..Page::default() },
    };
    let mut looks = FIRST;
    while let Some(next) = search.go_on(looks.min(MOST)).await? {
        looks = next;
        // Other calls run on the same thread.
        yield_now().await;
    }
    search.transaction.commit().await?;
    Ok(search.page)
}

/// A search that is under way. The page is what was found until now, and goes on behind its `next`.
struct Search<'s> {
    find: &'s Find,
    columns: Columns<'s>,
    transaction: Transaction<'s>,
    budget: Budget,
    page: Page,
}

/// A job that may be among those that are searched for, or the last that was looked at.
struct Seen {
    /// How many jobs were looked at up to this one.
    number: u64,
    id: Uuid,
    is_candidate: bool,
}

impl Search<'_> {
    /// Looks at some more jobs. Gives how many to look at next, where the search goes on.
    async fn go_on(&mut self, looks: usize) -> Result<Option<usize>, Fault> {
        let left = (self.budget.looks as u64).saturating_sub(self.page.looked);
        let looks = usize::try_from(left).unwrap_or(usize::MAX).min(looks);
        let seen = match range(self.find, self.page.next) {
            Some(range) => self.look(range, looks).await?,
            None => Vec::new(),
        };
        let Some(last) = seen.last() else {
            self.page.next = None;
            return Ok(None);
        };
        if self.read(&seen).await? {
            return Ok(None);
        }
        let (is_cut_short, number) = (seen.len() >= CANDIDATES, usize::try_from(last.number).unwrap_or(usize::MAX));
        self.page.looked += last.number;
        self.page.next = (is_cut_short || number >= looks).then(|| job_id(last.id));
        let goes_on = self.page.next.is_some() && self.page.looked < self.budget.looks as u64;
        Ok(goes_on.then_some(if is_cut_short { number.max(FIRST) } else { looks * 4 }))
    }

    async fn look(&self, (first, last): (Uuid, Uuid), looks: usize) -> Result<Vec<Seen>, Fault> {
        let (looks, candidates) = (encoding::count(looks), encoding::count(CANDIDATES));
        let of_args = !self.find.args.is_empty();
        let of_error = self.find.error.is_some();
        let own: [Parameter<'_>; 4] =
            [(&first, Type::UUID), (&last, Type::UUID), (&looks, Type::INT8), (&candidates, Type::INT8)];
        let texts: [Parameter<'_>; 2] = [(&of_args, Type::BOOL), (&of_error, Type::BOOL)];
        let parameters: Vec<_> = own.into_iter().chain(self.columns.parameters()).chain(texts).collect();
        let rows = self.transaction.query(self.columns.sql(self.find.order), &parameters).await?;
        rows.iter().map(|row| self.seen(row)).collect()
    }

    fn seen(&self, row: &Row) -> Result<Seen, Fault> {
        let fits_args = match encoding::get::<Option<&str>>(row, 3)? {
            Some(args) => self.find.passes_args(args),
            None => true,
        };
        let fits_error = match encoding::get::<Option<&str>>(row, 4)? {
            Some(_) => self.find.passes_error(&State::Dead { error: encoding::unquoted(row, 4)? }),
            None => true,
        };
        let id = encoding::get(row, 1)?;
        Ok(Seen {
            number: encoding::get::<i64>(row, 0)?.cast_unsigned(),
            id,
            is_candidate: encoding::get::<bool>(row, 2)? && self.find.passes_id(job_id(id)) && fits_args && fits_error,
        })
    }

    /// Reads the candidates, and puts those that pass on the page. Gives whether the page is full.
    async fn read(&mut self, seen: &[Seen]) -> Result<bool, Fault> {
        let candidates: Vec<_> = seen.iter().filter(|seen| seen.is_candidate).collect();
        let at_once = (self.budget.jobs - self.page.jobs.len()).min(CANDIDATES);
        for some in candidates.chunks(at_once) {
            let ids: Vec<_> = some.iter().map(|seen| seen.id).collect();
            let mut jobs = jobs(&self.transaction, &ids).await?;
            for Seen { number, id, .. } in some {
                // It may have changed since it was seen, or be gone.
                let Some(job) = jobs.remove(id).filter(|job| self.find.passes(job)) else { continue };
                self.page.jobs.push(job);
                if self.page.jobs.len() == self.budget.jobs {
                    self.page.looked += number;
                    self.page.next = Some(job_id(*id));
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

const READ: &str = concat!("SELECT ", job_columns!(), " FROM qtasks.jobs j WHERE j.id = ANY ($1)");

async fn jobs(transaction: &Transaction<'_>, ids: &Vec<Uuid>) -> Result<HashMap<Uuid, Job>, Fault> {
    let rows = transaction.query(READ, &[(ids, Type::UUID_ARRAY)]).await?;
    rows.iter().map(|row| Ok((encoding::get(row, 0)?, encoding::job(row)?))).collect()
}

fn job_id(id: Uuid) -> JobId {
    JobId::from_bytes(id.into_bytes())
}

/// The first and the last id to look at, from behind `after` on.
fn range(find: &Find, after: Option<JobId>) -> Option<(Uuid, Uuid)> {
    let ids = find.id.as_ref().map(|prefix| prefix.ids().into_inner());
    let (mut first, mut last) = ids.map_or((0, u128::MAX), |(first, last)| (number(first), number(last)));
    match (find.order, after.map(number)) {
        (_, None) => {}
        (Order::Newest, Some(after)) => last = last.min(after.checked_sub(1)?),
        (Order::Oldest, Some(after)) => first = first.max(after.checked_add(1)?),
    }
    (first <= last).then_some((Uuid::from_u128(first), Uuid::from_u128(last)))
}

fn number(id: JobId) -> u128 {
    u128::from_be_bytes(id.to_bytes())
}

/// What jobs must be, as far as the server can tell.
struct Columns<'f> {
    kinds: Vec<StateKind>,
    queues: Option<Vec<&'f str>>,
    tasks: Option<Vec<&'f str>>,
    states: Option<Vec<i16>>,
    enqueued: (i64, i64),
    ended: (Option<i64>, Option<i64>),
    words: Option<Vec<String>>,
}

const KINDS: [StateKind; 5] =
    [StateKind::Waiting, StateKind::Running, StateKind::Done, StateKind::Dead, StateKind::Cancelled];

impl<'f> Columns<'f> {
    /// None where no job can be found: not in any state, or by a name that no text of Postgres is.
    fn new(find: &'f Find) -> Option<Self> {
        let kinds: Vec<_> = KINDS.into_iter().filter(|kind| find.passes_state(*kind)).collect();
        let states = kinds.iter().flat_map(|kind| {
            let (first, last) = encoding::of_state(*kind);
            first..=last
        });
        let words = find.words.iter().map(|word| word.to_lowercase()).collect::<Vec<_>>();
        if kinds.is_empty() || !words.iter().all(|word| is_text(word)) {
            return None;
        }
        Some(Self {
            queues: names(&find.queues)?,
            tasks: names(&find.tasks)?,
            states: (kinds.len() < KINDS.len()).then(|| states.collect()),
            enqueued: (find.after.map_or(i64::MIN, encoding::millis), find.before.map_or(i64::MAX, encoding::millis)),
            ended: (find.ended_after.map(encoding::millis), find.ended_before.map(encoding::millis)),
            words: (!words.is_empty()).then_some(words),
            kinds,
        })
    }

    fn sql(&self, order: Order) -> &'static str {
        let by_order = match self.kinds[..] {
            [StateKind::Dead] => look::DEAD,
            [StateKind::Running] => look::RUNNING,
            _ => look::ALL,
        };
        by_order[usize::from(order == Order::Oldest)]
    }

    fn parameters(&self) -> [Parameter<'_>; 8] {
        [
            (&self.queues, Type::TEXT_ARRAY),
            (&self.tasks, Type::TEXT_ARRAY),
            (&self.states, Type::INT2_ARRAY),
            (&self.enqueued.0, Type::INT8),
            (&self.enqueued.1, Type::INT8),
            (&self.ended.0, Type::INT8),
            (&self.ended.1, Type::INT8),
            (&self.words, Type::TEXT_ARRAY),
        ]
    }
}

/// The names, if some are named; `None` if none of them can be one.
fn names(named: &[String]) -> Option<Option<Vec<&str>>> {
    let texts: Vec<_> = named.iter().map(String::as_str).filter(|name| is_text(name)).collect();
    match (named.is_empty(), texts.is_empty()) {
        (true, _) => Some(None),
        (false, false) => Some(Some(texts)),
        (false, true) => None,
    }
}

/// Postgres keeps no text with a NUL in it.
fn is_text(text: &str) -> bool {
    !text.contains('\0')
}
