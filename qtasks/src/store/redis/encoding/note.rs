//! How a note stands on the server: its version, until when it holds, what it says.

use super::{
    bytes::{Read, Unread},
    codes::UNKNOWN,
};
use crate::{
    model::{job::Version, json::Json},
    store::{
        Note,
        codec::{millis, time},
    },
};

pub(crate) fn note(Note { version, value, until, .. }: &Note) -> Vec<u8> {
    let until = until.map_or(UNKNOWN, millis);
    [&version.to_bytes()[..], &until.to_be_bytes(), value.as_str().as_bytes()].concat()
}

pub(crate) fn read_note(kind: &str, name: String, bytes: &[u8]) -> Read<Note> {
    let mut unread = Unread(bytes);
    let (version, until) = (Version::from_bytes(unread.take()?), unread.i64()?);
    let until = (until != UNKNOWN).then(|| time(until));
    Ok(Note { kind: kind.to_owned(), name, version, value: Json::from_stored(unread.rest()?), until })
}
