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
        let folder = TempDir::with_prefix_in("qtasks-bench-", &scale.folder)?;
        let url = match &scale.store {
            // The name of the folder is an application that nobody has.
            Some(url) => url.replace("{}", &folder.path().file_name().unwrap_or_default().to_string_lossy()),
            None => format!("sqlite:{}", folder.path().join("jobs.db").display()),
        };
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
