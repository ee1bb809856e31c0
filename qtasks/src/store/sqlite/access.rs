//! Whether this program may write where a database stands, and if not, what would let it.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use super::{files::about, url::StoreUrl};

/// Why this program cannot write to the database, in a sentence with what mends it.
///
/// SQLite opens a file that it may only read without a word.
pub(super) fn refusal(url: &StoreUrl) -> Option<String> {
    let folder = url.folder();
    let folder_is = "SQLite makes the log of the database there, and workers a folder with their locks";
    let files = [(url.path.clone(), ""), (url.log(), "the log of the database"), (url.index(), "the index of that")];
    let refused = |(path, what): &(PathBuf, &str)| refused(path).map(|error| sentence(path, what, &error));
    files.iter().find_map(refused).or_else(|| refused(&(folder, folder_is)))
}

fn sentence(path: &Path, what: &str, error: &io::Error) -> String {
    let what = if what.is_empty() { String::new() } else { format!(" ({what})") };
    format!("this program may not write to `{}`{what}: {error}; {}", path.display(), remedy(path, error))
}

/// What lets a program write to `path`.
fn remedy(path: &Path, error: &io::Error) -> String {
    let path = path.display();
    match error.kind() {
        ErrorKind::ReadOnlyFilesystem => {
            "its volume is mounted read-only: `mount -o remount,rw` it, or let the container have it without `:ro`"
                .into()
        }
        // Permissions do not matter here: the file system refuses all writes.
        _ if error.raw_os_error() == Some(EPERM) => format!("it is immutable: `chattr -i '{path}'`"),
        _ => format!(
            "give it to the user of this program, `chown USER '{path}'`, or let others write, `chmod a+w '{path}'`"
        ),
    }
}

/// As Linux and the other Unixes number it: "operation not permitted".
const EPERM: i32 = 1;

/// An error of the folder with the locks of workers, with what mends it.
pub(super) fn explained(path: &Path, error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            let folder = path.parent().filter(|_| !path.is_dir()).unwrap_or(path);
            io::Error::new(error.kind(), format!("`{}`: {error}; {}", path.display(), remedy(folder, &error)))
        }
        _ => about(path, error),
    }
}

/// The error of a write to what is there.
#[cfg(unix)]
fn refused(path: &Path) -> Option<io::Error> {
    use rustix::fs::{Access, access};
    let rights = if path.is_dir() { Access::WRITE_OK | Access::EXEC_OK } else { Access::WRITE_OK };
    // To open the database and close it again would give up the locks that this process has on it.
    access(path, rights).map_err(io::Error::from).err().filter(|error| error.kind() != ErrorKind::NotFound)
}

#[cfg(not(unix))]
fn refused(path: &Path) -> Option<io::Error> {
    let read_only = std::fs::metadata(path).is_ok_and(|found| !found.is_dir() && found.permissions().readonly());
    read_only.then(|| ErrorKind::PermissionDenied.into())
}

/// Whether a file is mounted by itself, so that its log would stand in another folder than for programs that see the file
/// where it comes from.
#[cfg(target_os = "linux")]
pub(super) fn is_mount_point(path: &Path) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    // An older kernel does not know.
    statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS)
        .is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_mount_point(_path: &Path) -> bool {
    false
}

/// How many names a file has, links by symlink apart.
#[cfg(unix)]
pub(super) fn names(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).map_or(1, |found| found.nlink())
}

#[cfg(not(unix))]
pub(super) fn names(_path: &Path) -> u64 {
    1
}
