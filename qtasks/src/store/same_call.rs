//! A job that has the id of a call already: whether it is that of the same call.

use crate::{
    error::{Error, Result},
    model::{job::JobId, json::Json},
};

/// Whether the job that is there of an id is the job of a call with that id: of the same task and with the same arguments.
///
/// # Errors
///
/// [`Error::OtherTask`] and [`Error::OtherArguments`] when it is not.
pub(crate) fn is_of_call(id: JobId, found: (&str, &Json), asked: (&str, &Json)) -> Result<()> {
    if found.0 != asked.0 {
        return Err(Error::OtherTask { id, found: found.0.to_owned(), asked: asked.0.to_owned() });
    }
    if !found.1.means(asked.1) {
        return Err(Error::OtherArguments { id, task: asked.0.to_owned() });
    }
    Ok(())
}
