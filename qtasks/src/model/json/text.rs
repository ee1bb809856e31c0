//! How long a text is as JSON, without writing it.

/// How many bytes a text takes as JSON, with its quotes.
pub(crate) fn bytes_of_text(text: &str) -> usize {
    text.chars().map(bytes_of_char).sum::<usize>() + 2
}

/// The longest start of a text that takes at most `bytes` bytes as JSON, without its quotes.
pub(crate) fn start_of_text(text: &str, bytes: usize) -> &str {
    let mut left = bytes;
    let end = text.char_indices().find(|(_, char)| match left.checked_sub(bytes_of_char(*char)) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    });
    end.map_or(text, |(end, _)| &text[..end])
}

fn bytes_of_char(char: char) -> usize {
    match char {
        '"' | '\\' | '\n' | '\r' | '\t' | '\x08' | '\x0c' => 2,
        '\0'..'\x20' => 6,
        other => other.len_utf8(),
    }
}
