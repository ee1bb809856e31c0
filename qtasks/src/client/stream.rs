//! The values of a job as they become durable, across crashes and from any process.

use std::{any::type_name, sync::Arc};

use futures::stream::{self, BoxStream, StreamExt as _};
use serde::de::DeserializeOwned;

use super::watch::{Reader, Update};
use crate::{
    environment::App,
    error::{Error, Result},
    model::job::{JobId, Reply, State, Step},
};

/// The values of the job `id` from step number `from` on, as they become durable, and then its end.
pub(crate) fn values<R: DeserializeOwned + Send + 'static>(
    app: Arc<App>,
    id: JobId,
    from: u64,
) -> BoxStream<'static, Result<R>> {
    let values = Values { reader: Reader::new(app, id, from), id, is_over: false };
    stream::unfold(values, |mut values| async {
        let item = values.next().await?.and_then(|step| read(values.id, step));
        values.is_over = item.as_ref().is_err_and(|error| !error.is_skipped());
        Some((item, values))
    })
    .fuse()
    .boxed()
}

/// Of all that is seen of a job, the steps and an unhappy end.
struct Values {
    reader: Reader,
    id: JobId,
    is_over: bool,
}

impl Values {
    /// The next step, or the error that the job ended in; nothing after its end.
    async fn next(&mut self) -> Option<Result<Step>> {
        while !self.is_over {
            match self.reader.next().await? {
                Ok(Update::Step(step)) => return Some(Ok(step)),
                Ok(Update::Status(standing)) if standing.state.is_ended() => {
                    return unhappy(self.id, standing.state).map(Err);
                }
                Ok(Update::Status(_) | Update::Progress(_)) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        None
    }
}

fn unhappy(id: JobId, state: State) -> Option<Error> {
    match state {
        State::Done { .. } => None,
        state => Some(unhappy_end(id, state)),
    }
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
