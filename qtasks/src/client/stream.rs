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

/// The values of job `id` from step number `from` on, then its end.
pub(crate) fn values<R: DeserializeOwned + Send + 'static>(
    app: Arc<App>,
    id: JobId,
    from: u64,
) -> BoxStream<'static, Result<R>> {
    let news = app.store.notifier().job(id);
    let reader = Reader { app, id, from, news, page: VecDeque::new(), over: false };
    stream::unfold(reader, |mut reader| async {
        let item = reader.next().await?.and_then(|step| read(reader.id, step));
        reader.over = item.as_ref().is_err_and(|error| !error.is_skipped());
        Some((item, reader))
    })
    .fuse()
    .boxed()
}

struct Reader {
    app: Arc<App>,
    id: JobId,
    from: u64,
    news: Listener,
    page: VecDeque<Step>,
    over: bool,
}

impl Reader {
    /// The next step, or the error that the job ended in; nothing after its end.
    async fn next(&mut self) -> Option<Result<Step>> {
        if self.over {
            return None;
        }
        loop {
            if let Some(step) = self.page.pop_front() {
                self.from = step.seq + 1;
                return Some(Ok(step));
            }
            match self.turn().await {
                Ok(Turn::Page) => {}
                Ok(Turn::Wait) => self.news.wait().await,
                Ok(Turn::End(State::Done { .. })) => return None,
                Ok(Turn::End(state)) => return Some(Err(unhappy_end(self.id, state))),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    async fn turn(&mut self) -> Result<Turn> {
        let store = &self.app.store;
        // The state is read before the steps: what ended then has no further ones.
        let (Standing { state, .. }, Counts { steps, .. }) = self.app.standing(self.id).await?;
        if self.from < steps {
            self.page = page(&**store, self.id, steps, self.from).await?.into();
            return Ok(Turn::Page);
        }
        Ok(if state.is_ended() { Turn::End(state) } else { Turn::Wait })
    }
}

/// Steps of a job from number `from` on, of which it has some, `count` being how many it has in all: as many as are read at a
/// time, and all that are there.
///
/// # Errors
///
/// When they are not whole, as when the job is pruned at that moment: [`Error::NoSuchJob`].
pub(crate) async fn page(store: &dyn Store, id: JobId, count: u64, from: u64) -> Result<Vec<Step>> {
    let steps = patiently(store, || store.steps(id, from, PAGE)).await?;
    let least = (count - from).min(PAGE as u64);
    if steps.len() as u64 >= least && (from..).zip(&steps).all(|(seq, step)| seq == step.seq) {
        return Ok(steps);
    }
    Err(not_whole(store, id, count).await?)
}

/// Why not all `count` steps of a job could be read.
pub(crate) async fn not_whole(store: &dyn Store, id: JobId, count: u64) -> Result<Error> {
    Ok(match patiently(store, || store.standing(id)).await? {
        None => Error::NoSuchJob(id),
        Some(_) => Error::store("read all steps", format!("some of the {count} steps of job {id} are not there")),
    })
}

enum Turn {
    Page,
    Wait,
    End(State),
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

/// The error that a job which did not end well gives to whoever waits for it.
pub(crate) fn unhappy_end(id: JobId, state: State) -> Error {
    match state {
        State::Dead { error } => Error::Dead { id, error },
        State::Cancelled { reason } => Error::Cancelled { id, reason },
        other => Error::WrongState { id, state: other.name(), wish: "read to its end" },
    }
}
