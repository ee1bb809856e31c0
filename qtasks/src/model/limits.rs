//! What is too much, and said so at once.

use super::json::{self, Json};

/// The sizes that a job must keep within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of a job's arguments, and of the value that a task without steps returns, as JSON; 1 MiB by default.
    pub args: usize,
    /// Bytes of one step's reply, and of what is done once, as JSON; 256 KiB by default.
    pub step: usize,
    /// Arrays and objects inside each other; 128 by default, which is also the most that is read back.
    pub depth: usize,
}

impl Limits {
    /// The limits that hold unless others are set.
    pub const DEFAULT: Self = Self { args: 1 << 20, step: 256 << 10, depth: json::DEEPEST };

    /// Checks the arguments of a job.
    pub(crate) fn check_args(&self, json: &Json) -> Result<(), OverLimit> {
        self.check("the arguments", json, self.args)
    }

    /// Checks the value that a task without steps returns.
    pub(crate) fn check_value(&self, json: &Json) -> Result<(), OverLimit> {
        self.check("the returned value", json, self.args)
    }

    /// Checks the reply of a step.
    pub(crate) fn check_step(&self, json: &Json) -> Result<(), OverLimit> {
        self.check("the handler's reply", json, self.step)
    }

    /// Checks what came of something that is done once.
    pub(crate) fn check_memo(&self, json: &Json) -> Result<(), OverLimit> {
        self.check("what is recorded once", json, self.step)
    }

    /// As much of a text as a step may hold as JSON; where that is not all, with a note that says so, if there is room for it.
    pub(crate) fn cut_text(&self, text: String) -> String {
        if json::bytes_of_text(&text) <= self.step {
            return text;
        }
        let note = format!("… (cut to the limit of {} bytes)", self.step);
        match self.step.checked_sub(json::bytes_of_text(&note)) {
            Some(room) => json::start_of_text(&text, room).to_owned() + &note,
            None => json::start_of_text(&text, self.step.saturating_sub(2)).to_owned(),
        }
    }

    fn check(&self, what: &'static str, json: &Json, limit: usize) -> Result<(), OverLimit> {
        let bytes = json.as_str().len();
        if bytes > limit {
            return Err(OverLimit::Bytes { what, bytes, limit });
        }
        // A text of n bytes cannot be deeper than n / 2.
        if bytes / 2 > self.depth {
            let depth = json.depth();
            if depth > self.depth {
                return Err(OverLimit::Depth { what, depth, limit: self.depth });
            }
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Something is larger, or named otherwise, than a job may have it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OverLimit {
    /// Too many bytes.
    #[error(
        "{what}: {bytes} bytes of JSON are more than the limit of {limit}; store the data elsewhere and pass its key"
    )]
    Bytes {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
    /// Too deep.
    #[error("{what}: arrays and objects {depth} deep are more than the limit of {limit}")]
    Depth {
        /// What is too deep.
        what: &'static str,
        /// How deep it is.
        depth: usize,
        /// How deep it may be.
        limit: usize,
    },
    /// Too many jobs to wait for.
    #[error(
        "a job waits for up to {limit} others, and this one for {jobs}; have it wait for some that wait for the others"
    )]
    Parents {
        /// How many they are.
        jobs: usize,
        /// How many they may be.
        limit: usize,
    },
    /// Not a name.
    #[error("`{name}` cannot name a {what}: a name is 1 to 128 letters, digits and `_.:-`")]
    Name {
        /// What was to be named.
        what: &'static str,
        /// The name.
        name: String,
    },
}

/// Checks that `name` is `[A-Za-z0-9_.:-]{1,128}`.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), OverLimit> {
    let fits = (1..=128).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.:-".contains(&byte));
    if fits { Ok(()) } else { Err(OverLimit::Name { what, name: name.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_at_the_limit_fits_and_what_is_over_does_not() {
        let limits = Limits { args: 4, ..Limits::DEFAULT };
        assert_eq!(limits.check_args(&Json::from_stored("\"ab\"")), Ok(()));
        let error = limits.check_args(&Json::from_stored("\"abc\"")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the arguments: 5 bytes of JSON are more than the limit of 4; store the data elsewhere and pass its key"
        );
    }

    #[test]
    fn depth_is_limited_where_reading_back_stops() {
        let nested = |depth: usize| Json::from_stored("[".repeat(depth) + &"]".repeat(depth));
        assert_eq!(Limits::DEFAULT.check_args(&nested(128)), Ok(()));
        let error = Limits::DEFAULT.check_args(&nested(129)).unwrap_err();
        assert_eq!(error.to_string(), "the arguments: arrays and objects 129 deep are more than the limit of 128");
    }

    #[test]
    fn names_are_short_and_plain() {
        for name in ["a", "emails.send-2:v1_x", &"n".repeat(128)] {
            assert_eq!(check_name("queue", name), Ok(()));
        }
        for name in ["", "a b", "é", &"n".repeat(129)] {
            assert!(check_name("queue", name).is_err(), "{name}");
        }
        assert_eq!(
            check_name("queue", "a/b").unwrap_err().to_string(),
            "`a/b` cannot name a queue: a name is 1 to 128 letters, digits and `_.:-`"
        );
    }
}
