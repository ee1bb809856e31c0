//! The values of a job as they become durable, across crashes and from any process.

use std::{any::type_name, collections::VecDeque, sync::Arc};

use futures::stream::{self, BoxStream, StreamExt as _};
use serde::de::DeserializeOwned;

use crate::{
    environment::{App, patience::patiently},
    error::{Error, Result},
    model::job::{Counts, JobId, Reply, Standing, State, Step},
    store::{Listener, PAGE, Store},
};

/// The values of the job `id` from step number `from` on, as they become durable, and then its end.
pub(crate) fn values<R: DeserializeOwned + Send + 'static>(
    app: Arc<App>,
    id: JobId,
    from: u64,
) -> BoxStream<'static, Result<R>> {
    let changes = app.store.notifier().job(id);
    let reader = Reader { app, id, from, changes, page: VecDeque::new(), is_over: false };
    stream::unfold(reader, |mut reader| async {
        let item = reader.next().await?.and_then(|step| read(reader.id, step));
        reader.is_over = item.as_ref().is_err_and(|error| !error.is_skipped());
        Some((item, reader))
    })
    .fuse()
    .boxed()
}

/// Reads the steps of one job, page after page.
struct Reader {
    app: Arc<App>,
    id: JobId,
    /// The number of the next step.
    from: u64,
    changes: Listener,
    page: VecDeque<Step>,
    is_over: bool,
}

impl Reader {
    /// The next step, or the error that the job ended in; nothing after its end.
    async fn next(&mut self) -> Option<Result<Step>> {
        if self.is_over {
            return None;
        }
        loop {
            if let Some(step) = self.page.pop_front() {
                self.from = step.seq + 1;
                return Some(Ok(step));
            }
            match self.read_more().await {
                Ok(NextRead::Page) => {}
                Ok(NextRead::UpToDate) => self.changes.wait().await,
                Ok(NextRead::Ended(State::Done { .. })) => return None,
                Ok(NextRead::Ended(state)) => return Some(Err(unhappy_end(self.id, state))),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Reads the next page, or finds that there is none now or ever.
    async fn read_more(&mut self) -> Result<NextRead> {
        let store = &self.app.store;
        // The state is read before the steps: a job that had ended then has no further ones.
        let (Standing { state, .. }, Counts { steps, .. }) = self.app.standing(self.id).await?;
        if self.from < steps {
            self.page = page(&**store, self.id, steps, self.from).await?.into();
            return Ok(NextRead::Page);
        }
        Ok(if state.is_ended() { NextRead::Ended(state) } else { NextRead::UpToDate })
    }
}

/// A page of the steps of a job from number `from` on, where it has more: `count` in all.
///
/// # Errors
///
/// Where steps are missing: [`Error::NoSuchJob`] when the job has been pruned meanwhile, and else [`Error::Store`].
pub(crate) async fn page(store: &dyn Store, id: JobId, count: u64, from: u64) -> Result<Vec<Step>> {
    let steps = patiently(store, || store.steps(id, from, PAGE)).await?;
    let least = (count - from).min(PAGE as u64);
    if steps.len() as u64 >= least && (from..).zip(&steps).all(|(seq, step)| seq == step.seq) {
        return Ok(steps);
    }
    Err(not_whole(store, id, count).await?)
}

/// Why some of the `count` steps of a job are missing, as an error.
pub(crate) async fn not_whole(store: &dyn Store, id: JobId, count: u64) -> Result<Error> {
    Ok(match patiently(store, || store.standing(id)).await? {
        None => Error::NoSuchJob(id),
        Some(_) => Error::store("read all steps", format!("some of the {count} steps of job {id} are not there")),
    })
}

/// What a reader has found after the steps that it has.
enum NextRead {
    Page,
    /// No further steps yet.
    UpToDate,
    /// No further steps ever.
    Ended(State),
}

fn read<R: DeserializeOwned>(id: JobId, step: Step) -> Result<R> {
    match step.reply {
        Reply::Skipped(error) => Err(Error::Skipped { seq: step.seq, error }),
        Reply::Value(json) => json.decode().map_err(|source| Error::Decode {
            what: format!("step {} of job {id}", step.seq),
            as_type: type_name::<R>(),
            source: source.into(),
        }),
    }
}

/// The error that callers get who wait for a job that did not end well.
pub(crate) fn unhappy_end(id: JobId, state: State) -> Error {
    match state {
        State::Dead { error } => Error::Dead { id, error },
        State::Cancelled { reason } => Error::Cancelled { id, reason },
        other => Error::WrongState { id, state: other.name(), wish: "read to its end" },
    }
}
