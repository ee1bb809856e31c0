//! Lines without what is another in each run.

/// The lines with marks in place of ids, times and places in the source.
pub(crate) fn masked<'l>(lines: impl Iterator<Item = &'l String>) -> String {
    lines.map(|line| masked_line(line) + "\n").collect()
}

fn masked_line(line: &str) -> String {
    let is_word = |byte: char| byte.is_ascii_alphanumeric() || "-:.+".contains(byte);
    let mut masked = String::new();
    let mut rest = line;
    while !rest.is_empty() {
        let end = rest.find(|byte| !is_word(byte)).unwrap_or(rest.len());
        masked += mask(&rest[..end]);
        let next = rest[end..].find(is_word).map_or(rest.len(), |next| end + next);
        masked += &rest[end..next];
        rest = &rest[next..];
    }
    masked
}

fn mask(word: &str) -> &str {
    let has = |byte, count| word.bytes().filter(|other| *other == byte).count() == count;
    let is_hex = word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if word.len() == 36 && is_hex && has(b'-', 4) {
        return "[id]";
    }
    if word.starts_with("20") && word.ends_with('Z') && word.contains('T') {
        return "[time]";
    }
    word
}
