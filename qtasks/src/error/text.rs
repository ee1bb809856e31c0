//! The texts of errors: with all that stands behind them, and no longer than is kept.

use std::{
    error::Error as StdError,
    fmt::{self, Write},
};

/// How many bytes are kept of a text that comes from a task: of an error, a panic or a reason.
pub(super) const LONGEST: usize = 16 << 10;
/// How many sources of an error are read. An error that is its own source would have them without end.
const DEEPEST: usize = 128;

/// The text of `error` and of its sources, each once, cut where it is [too long](bounded). The sources of an error that
/// `has_all` are left out, since its own text has theirs in it.
pub(super) fn chain_until(
    error: &(dyn StdError + 'static),
    has_all: impl Fn(&(dyn StdError + 'static)) -> bool,
) -> String {
    let mut text = Text::default();
    for (position, error) in sources(error).enumerate() {
        let Text { said, is_cut } = said(error);
        // Many errors already quote their source.
        if position == 0 {
            _ = text.write_str(&said);
        } else if !text.said.ends_with(&said) {
            _ = text.write_str(": ").and_then(|()| text.write_str(&said));
        }
        text.is_cut |= is_cut;
        if text.is_cut || has_all(error) {
            break;
        }
    }
    text.finish()
}

/// An error and its sources, the outermost first.
pub(crate) fn sources<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    fn behind<'e>(error: &&'e (dyn StdError + 'static)) -> Option<&'e (dyn StdError + 'static)> {
        let error: &'e (dyn StdError + 'static) = *error;
        error.source()
    }
    std::iter::successors(Some(error), behind).take(DEEPEST)
}

/// The text, or the start of one that is too long to be kept, with a note that it was cut.
pub(crate) fn bounded(text: &str) -> String {
    let mut kept = Text::default();
    _ = kept.write_str(text);
    kept.finish()
}

/// An error's own text, as far as that is kept. Its `Display` may fail, at which `to_string` would panic.
fn said(error: &(dyn StdError + 'static)) -> Text {
    let mut text = Text::default();
    match write!(text, "{error}") {
        Err(_) if !text.is_cut => Text { said: "an error that cannot tell its text".to_owned(), is_cut: false },
        _ => text,
    }
}

/// A text that grows no longer than is kept.
#[derive(Default)]
struct Text {
    said: String,
    is_cut: bool,
}

impl Text {
    fn finish(self) -> String {
        if self.is_cut { self.said + "… (cut after 16 KiB)" } else { self.said }
    }
}

impl Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = LONGEST - self.said.len();
        self.said.push_str(&more[..more.floor_char_boundary(room)]);
        self.is_cut |= more.len() > room;
        // An error stops the writer, so that what is cut costs no time.
        if self.is_cut { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{BoxError, chain};

    #[derive(Debug)]
    struct Mute;

    impl fmt::Display for Mute {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            Err(fmt::Error)
        }
    }

    impl StdError for Mute {}

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] BoxError);

    #[test]
    fn an_error_whose_display_fails_has_a_text() {
        assert_eq!(chain(&Mute), "an error that cannot tell its text");
        assert_eq!(chain(&Outer(Mute.into())), "outer: an error that cannot tell its text");
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters_and_says_so() {
        let long = format!("a{}", "ж".repeat(20 << 20));
        for text in [bounded(&long), chain(&*BoxError::from(long.clone())), chain(&Outer(long.clone().into()))] {
            assert!(text.len() < LONGEST + 32 && text.ends_with("ж… (cut after 16 KiB)"), "{} bytes", text.len());
        }
        assert_eq!(bounded("short"), "short");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("again")]
    struct Circle;

    #[derive(Debug)]
    struct Itself;

    impl fmt::Display for Itself {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("x")
        }
    }

    impl StdError for Itself {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(self)
        }
    }

    #[test]
    fn an_error_that_is_its_own_source_has_an_end() {
        assert_eq!(chain(&Itself), "x");
        assert_eq!(chain(&Outer(Circle.into())), "outer: again");
        assert_eq!(sources(&Itself).count(), DEEPEST);
    }
}
