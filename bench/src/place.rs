//! A store to measure on, and an application there.

use qtasks::QueueTasks;
use tempfile::TempDir;

use crate::row::Scale;

/// A folder that goes away with this, and the URL of a store, which may be there.
pub(crate) struct Place {
    folder: TempDir,
    url: String,
}

impl Place {
    pub(crate) fn new(scale: &Scale) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix_in("qtasks-bench-", scale.target.folder())?;
        let url = scale.target.url(folder.path());
        Ok(Self { folder, url })
    }

    /// The URL of its store.
    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) async fn app(&self) -> qtasks::Result<QueueTasks> {
        QueueTasks::open(&self.url()).await
    }
}
