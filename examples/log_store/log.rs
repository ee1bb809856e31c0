//! The file: a JSON array for each call, of all that it changed, so that a call is there whole or not at all.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::Path,
};

use crate::table::Change;

pub(crate) struct Log {
    file: File,
    /// Whether a write has failed: then nobody knows what is on the disk.
    broken: bool,
}

impl Log {
    /// Opens the file, or makes it, and hands over what stands in it, call by call. Only one process has it at a time.
    pub(crate) fn open(path: &Path, mut hand_over: impl FnMut(Vec<Change>)) -> io::Result<Self> {
        let mut file = File::options().create(true).read(true).append(true).open(path)?;
        file.try_lock()?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let mut calls = serde_json::Deserializer::from_slice(&text).into_iter();
        let mut whole = 0;
        while let Some(changes) = calls.next() {
            match changes {
                Ok(changes) => hand_over(changes),
                // The process was killed half way through this call, and so nobody was told that it was carried out.
                Err(error) if error.is_eof() => break,
                Err(error) => return Err(error.into()),
            }
            whole = calls.byte_offset();
        }
        file.set_len(whole as u64)?;
        file.sync_all()?;
        // Until its folder is on the disk, a new file is not.
        if let Some(folder) = path.canonicalize()?.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self { file, broken: false })
    }

    /// Appends what a call has changed. When this returns, it is on the disk.
    pub(crate) fn append(&mut self, changes: &[Change]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("a write has failed before; open the store anew"));
        }
        let mut text = serde_json::to_vec(changes)?;
        text.push(b'\n');
        self.broken = true;
        self.file.write_all(&text)?;
        self.file.sync_data()?;
        self.broken = false;
        Ok(())
    }
}
