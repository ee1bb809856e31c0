//! A SQLite file to measure on, and an application there.

use qtasks::QueueTasks;
use tempfile::TempDir;

use crate::row::Scale;

/// A folder that goes away with this.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new(scale: &Scale) -> anyhow::Result<Self> {
        Ok(Self(TempDir::with_prefix_in("qtasks-bench-", &scale.folder)?))
    }

    /// The URL of its store.
    pub(crate) fn url(&self) -> String {
        format!("sqlite:{}", self.path("jobs.db").display())
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    pub(crate) async fn app(&self) -> qtasks::Result<QueueTasks> {
        QueueTasks::open(&self.url()).await
    }
}
