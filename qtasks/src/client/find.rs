//! Finds jobs, and counts them.

use std::{future::IntoFuture, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use jiff::Timestamp;

use super::app::QueueTasks;
use crate::{
    environment::{App, patience::patiently},
    error::Result,
    model::job::{Job, JobId},
    store::{Budget, Find, LaneCounts, Page, Rate, RateSpan},
};

/// What jobs can be searched by: a text in the language of [`Find::parse`], or a [`Find`].
pub trait Search {
    /// The search, where times such as `2h` count from `now`.
    ///
    /// # Errors
    ///
    /// [`SearchError`](crate::SearchError) for a text that is none.
    fn into_find(self, now: Timestamp) -> Result<Find>;
}

impl Search for Find {
    fn into_find(self, _now: Timestamp) -> Result<Find> {
        Ok(self)
    }
}

impl Search for &str {
    fn into_find(self, now: Timestamp) -> Result<Find> {
        Ok(Find::parse(self, now)?)
    }
}

impl Search for String {
    fn into_find(self, now: Timestamp) -> Result<Find> {
        (&*self).into_find(now)
    }
}

impl QueueTasks {
    /// Finds jobs of any task: a page of those that `search` describes, the newest first.
    ///
    /// A page has at most 50 jobs, and a search looks at 20,000 jobs at most, so that it takes no store long; the page says where
    /// the search can go on.
    ///
    /// ```
    /// use qtasks::prelude::*;
    ///
    /// #[qtask(queue = "mail")]
    /// async fn greet(user: String) {}
    ///
    /// # #[tokio::main]
    /// # async fn main() -> qtasks::Result<()> {
    /// let app = QueueTasks::open("memory:").await?;
    /// app.enqueue(greet("Ada".into())).await?;
    /// let page = app.find("state:waiting queue:mail args.user:Ada").await?;
    /// assert_eq!(page.jobs.len(), 1);
    /// // Without a further page there is no job behind.
    /// assert_eq!(page.next, None);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Search`](crate::Error::Search) for a text that is no search, [`Error::Store`](crate::Error::Store) when the store
    /// cannot be read.
    pub fn find(&self, search: impl Search) -> Finding {
        let app = self.app();
        let find = search.into_find(app.now());
        Finding { app, find, after: None, budget: Budget::PAGE }
    }

    /// The job of this id, if the store has it.
    ///
    /// # Errors
    ///
    /// [`Error::Store`](crate::Error::Store) when the store cannot be read.
    pub async fn find_job(&self, id: JobId) -> Result<Option<Job>> {
        let app = self.app();
        patiently(&*app.store, || app.store.job(id)).await
    }

    /// What happened in each lane, in each minute or hour that began at `from` or later and before `to`, in order. Minutes are kept
    /// for three days, hours for ninety.
    ///
    /// # Errors
    ///
    /// [`Error::Store`](crate::Error::Store) when the store cannot be read.
    pub async fn rates(&self, span: RateSpan, from: Timestamp, to: Timestamp) -> Result<Vec<Rate>> {
        let app = self.app();
        let mut rates = patiently(&*app.store, || app.store.rates(span, from, to)).await?;
        rates.sort_unstable_by(|one, other| (one.from, &one.lane).cmp(&(other.from, &other.lane)));
        Ok(rates)
    }

    /// How many jobs there are in each lane, by state. Exact, and as quick with ten million jobs as with ten.
    ///
    /// # Errors
    ///
    /// [`Error::Store`](crate::Error::Store) when the store cannot be read.
    pub async fn counts(&self) -> Result<Vec<LaneCounts>> {
        let app = self.app();
        let now = app.now();
        let mut counts = patiently(&*app.store, || app.store.counts(now)).await?;
        counts.retain(|lane| lane.jobs.total() > 0);
        counts.sort_unstable_by(|one, other| one.lane.cmp(&other.lane));
        Ok(counts)
    }
}

/// A search that is to be made: by `.await`.
#[must_use = "nothing is searched until this is awaited"]
pub struct Finding {
    app: Arc<App>,
    find: Result<Find>,
    after: Option<JobId>,
    budget: Budget,
}

impl Finding {
    /// Goes on behind this job, as [`Page::next`] says.
    pub fn after(self, job: impl Into<Option<JobId>>) -> Self {
        Self { after: job.into(), ..self }
    }

    /// So many jobs are found at most, and so many looked at.
    pub fn budget(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }
}

impl IntoFuture for Finding {
    type Output = Result<Page>;
    type IntoFuture = BoxFuture<'static, Result<Page>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { app, find, after, budget } = self;
        async move {
            let find = find?;
            patiently(&*app.store, || app.store.find(find.clone(), after, budget)).await
        }
        .boxed()
    }
}
