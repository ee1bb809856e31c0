//! A call as SQL, for connections of any driver.

use crate::{
    error::{Error, Result},
    model::job::JobId,
    store::Home,
};

/// A call as a statement that any driver can carry out in its own transaction: the job exists if that commits.
/// [`QueueTasks::statement`](crate::QueueTasks::statement) makes it.
///
/// The four parameters of the SQL are texts: `id`, `task`, `args` and `options`, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a statement does nothing until a driver carries it out"]
pub struct Statement {
    /// The SQL, with `?1` to `?4` on SQLite and `$1` to `$4` on Postgres. Its result is of no use.
    pub sql: String,
    /// The id that the job will have, for [`QueueTasks::job`](crate::QueueTasks::job).
    pub id: JobId,
    /// The name of the task, as the second parameter.
    pub task: String,
    /// The arguments: a JSON object by parameter name.
    pub args: String,
    /// The options: a JSON object by name.
    pub options: String,
}

impl Statement {
    /// The parameters in the order of the SQL.
    pub fn parameters(&self) -> [String; 4] {
        [self.id.to_string(), self.task.clone(), self.args.clone(), self.options.clone()]
    }
}

const ON_SQLITE: &str = "INSERT INTO qtasks_enqueue (id, task, args, options) VALUES (?1, ?2, ?3, ?4)";

/// The SQL that enqueues in the store at `home`.
pub(crate) fn sql(home: &Home) -> Result<String> {
    match home {
        Home::File(_) => Ok(ON_SQLITE.to_owned()),
        // Drivers send the parameters as texts, and declare them so.
        Home::Schema { name, .. } => Ok(format!(
            "SELECT \"{name}\".enqueue($2::text, $3::text::jsonb, $4::text::jsonb || jsonb_build_object('id', $1::text))"
        )),
        Home::Apart => Err(Error::Unsupported(
            "only a store on SQLite or Postgres takes jobs by SQL; open one, or enqueue with `app.enqueue(..)`",
        )),
    }
}
