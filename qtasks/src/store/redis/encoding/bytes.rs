//! How values follow each other as bytes.

use crate::{model::job::JobId, store::redis::error::Fault};

pub(crate) type Read<T> = Result<T, Fault>;

/// A length as four bytes, for no value on the server is as long as 4 GiB.
pub(crate) fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

pub(crate) fn job_id(bytes: &[u8]) -> Read<JobId> {
    Unread(bytes).take().map(JobId::from_bytes)
}

/// The bytes that are still to be read.
pub(crate) struct Unread<'a>(pub(crate) &'a [u8]);

impl<'a> Unread<'a> {
    pub(crate) fn take<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk().ok_or(Fault::Unreadable)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(crate) fn u8(&mut self) -> Read<u8> {
        self.take().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Read<u16> {
        self.take().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Read<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Read<u64> {
        self.take().map(u64::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Read<i64> {
        self.take().map(i64::from_be_bytes)
    }

    pub(crate) fn bytes(&mut self, length: u32) -> Read<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(length as usize).ok_or(Fault::Unreadable)?;
        self.0 = rest;
        Ok(first)
    }

    pub(crate) fn text(&mut self, length: u32) -> Read<&'a str> {
        str::from_utf8(self.bytes(length)?).map_err(|_| Fault::Unreadable)
    }

    pub(crate) fn rest(&mut self) -> Read<&'a str> {
        str::from_utf8(std::mem::take(&mut self.0)).map_err(|_| Fault::Unreadable)
    }
}
