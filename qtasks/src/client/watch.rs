//! All that can be seen of a job as it changes: how it stands, its progress and its steps, across crashes and from any process.

use std::{any::type_name, collections::VecDeque, sync::Arc};

use futures::stream::{self, BoxStream, StreamExt as _};
use serde::{Serialize, de::DeserializeOwned};

use super::pages::page;
use crate::{
    environment::App,
    error::{Error, Result},
    model::job::{JobId, Progress, Reply, Standing, Step},
    store::Listener,
};

/// What is new of a job, as [`JobHandle::watch`](crate::JobHandle::watch) gives it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Update {
    /// How the job stands: its state, the number of its latest attempt, its failures.
    Status(Standing),
    /// The progress that the task has reported.
    Progress(Progress),
    /// A durable step, with its number.
    Step(Step),
}

impl Step {
    /// The handler's reply, read as an `R`.
    ///
    /// # Errors
    ///
    /// [`Error::Skipped`] when the value was skipped, and [`Error::Decode`] when the reply is not an `R`.
    pub fn value<R: DeserializeOwned>(&self) -> Result<R> {
        match &self.reply {
            Reply::Skipped(error) => Err(Error::Skipped { seq: self.seq, error: error.clone() }),
            Reply::Value(json) => json.decode().map_err(|source| Error::Decode {
                what: format!("the reply of step {}", self.seq),
                as_type: type_name::<R>(),
                source: source.into(),
            }),
        }
    }
}

/// All updates of the job `id`, its steps from number `from` on, until it has ended.
pub(crate) fn updates(app: Arc<App>, id: JobId, from: u64) -> BoxStream<'static, Result<Update>> {
    stream::unfold(Reader::new(app, id, from), |mut reader| async { Some((reader.next().await?, reader)) })
        .fuse()
        .boxed()
}

/// Reads one job, look after look.
pub(crate) struct Reader {
    app: Arc<App>,
    id: JobId,
    /// The number of the next step to read.
    from: u64,
    changes: Listener,
    /// How the job stood, and its progress, as far as that is given already.
    given: (Option<Standing>, Option<Progress>),
    /// What the last look has found and is not given yet.
    found: VecDeque<Update>,
    /// Whether nothing more is to be found.
    is_over: bool,
}

impl Reader {
    pub(crate) fn new(app: Arc<App>, id: JobId, from: u64) -> Self {
        // Listens before the first look, so that no change comes between them.
        let changes = app.store.notifier().job(id);
        Self { app, id, from, changes, given: (None, None), found: VecDeque::new(), is_over: false }
    }

    /// The next update. The last one is that the job has ended, or an error.
    pub(crate) async fn next(&mut self) -> Option<Result<Update>> {
        loop {
            if let Some(update) = self.found.pop_front() {
                return Some(Ok(update));
            }
            if self.is_over {
                return None;
            }
            match self.look().await {
                Ok(()) if self.found.is_empty() => self.changes.wait().await,
                Ok(()) => {}
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            }
        }
    }

    /// Looks at the job once: reads how it stands, and a page of its steps.
    async fn look(&mut self) -> Result<()> {
        // The state is read before the steps: a job that had ended then has no further ones.
        let (standing, counts) = self.app.standing(self.id).await?;
        let steps = if self.from < counts.steps {
            page(&*self.app.store, self.id, counts.steps, self.from).await?
        } else {
            Vec::new()
        };
        let ended = standing.state.is_ended();
        if !ended {
            self.find_status(standing.clone());
        }
        self.find_progress(counts.progress);
        self.from += steps.len() as u64;
        self.found.extend(steps.into_iter().map(Update::Step));
        if ended && self.from >= counts.steps {
            self.find_status(standing);
            self.is_over = true;
        }
        Ok(())
    }

    fn find_status(&mut self, standing: Standing) {
        if self.given.0.as_ref() != Some(&standing) {
            self.given.0 = Some(standing.clone());
            self.found.push_back(Update::Status(standing));
        }
    }

    fn find_progress(&mut self, progress: Option<Progress>) {
        if let Some(progress) = progress
            && self.given.1.replace(progress) != Some(progress)
        {
            self.found.push_back(Update::Progress(progress));
        }
    }
}
