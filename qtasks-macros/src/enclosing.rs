//! Whether the attribute stands in an `impl`. Rustc does not pass that to a macro, and would give an error for each part of
//! the expansion that may not stand there. So the macro reads the source file; where it cannot, rustc's errors remain.

use std::fs;

/// Whether the attribute stands directly in an `impl` or a `trait`.
pub(crate) fn is_in_impl() -> bool {
    let attribute = proc_macro::Span::call_site();
    if attribute.column() == 1 {
        return false;
    }
    let source = attribute.local_file().and_then(|file| fs::read_to_string(file).ok());
    source.is_some_and(|source| stands_in_impl(&source, attribute.line(), attribute.column()))
}

/// Whether the attribute at this line and column, counted from 1, stands in an `impl` or a `trait`.
pub(crate) fn stands_in_impl(source: &str, line: usize, column: usize) -> bool {
    let start: usize = source.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let Some((within, _)) = source[start..].char_indices().nth(column - 1) else { return false };
    let (before, attribute) = source.split_at(start + within);
    // Where a macro has made the attribute, its span is that of other code.
    attribute.starts_with("#[") && Scan::of(before).ends_in_impl()
}

/// A walk over source text that follows its braces.
struct Scan<'a> {
    rest: &'a str,
    open: Vec<Block>,
    header: Header,
    /// How many parentheses and brackets are open since the last brace.
    nesting: usize,
}

struct Block {
    is_impl: bool,
    nesting: usize,
}

/// The words before a brace, since the last brace or semicolon.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    /// Attributes and visibility at most.
    Start,
    /// An `impl` or a `trait`.
    Impl,
    Other,
}

impl<'a> Scan<'a> {
    fn of(source: &'a str) -> Self {
        Self { rest: source, open: Vec::new(), header: Header::Start, nesting: 0 }
    }

    fn ends_in_impl(mut self) -> bool {
        while let Some(next) = self.rest.chars().next() {
            self.token(next);
        }
        self.open.last().is_some_and(|block| block.is_impl) && self.nesting == 0
    }

    fn token(&mut self, next: char) {
        match next {
            '/' if self.rest.starts_with("//") => self.skip_to("\n"),
            '/' if self.rest.starts_with("/*") => self.block_comment(),
            '"' => self.text(),
            '\'' => self.quote(),
            _ if next.is_alphanumeric() || next == '_' => self.word(),
            _ => {
                self.rest = &self.rest[next.len_utf8()..];
                self.punctuation(next);
            }
        }
    }

    fn punctuation(&mut self, punctuation: char) {
        match punctuation {
            '(' | '[' => self.nesting += 1,
            ')' | ']' => self.nesting = self.nesting.saturating_sub(1),
            '{' => {
                self.open.push(Block { is_impl: self.header == Header::Impl, nesting: self.nesting });
                (self.header, self.nesting) = (Header::Start, 0);
            }
            '}' => {
                self.nesting = self.open.pop().map_or(0, |block| block.nesting);
                self.header = Header::Start;
            }
            ';' if self.nesting == 0 => self.header = Header::Start,
            _ => {}
        }
    }

    fn word(&mut self) {
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        let quote = rest.trim_start_matches('#');
        if matches!(word, "r" | "br" | "cr") && quote.starts_with('"') {
            let hashes = &rest[..rest.len() - quote.len()];
            self.rest = &quote[1..];
            return self.skip_to(&format!("\"{hashes}"));
        }
        if self.header == Header::Start && self.nesting == 0 {
            self.header = match word {
                "pub" | "unsafe" | "default" | "auto" => Header::Start,
                "impl" | "trait" => Header::Impl,
                _ => Header::Other,
            };
        }
    }

    fn text(&mut self) {
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => drop(chars.next()),
                '"' => return self.rest = &self.rest[at + 1..],
                _ => {}
            }
        }
        self.rest = "";
    }

    /// A lifetime, or a character in quotes.
    fn quote(&mut self) {
        let after = &self.rest[1..];
        let mut chars = after.chars();
        match (chars.next(), chars.next()) {
            (Some('\\'), Some(escaped)) => {
                self.rest = &after[1 + escaped.len_utf8()..];
                self.skip_to("'");
            }
            (Some(c), Some('\'')) => self.rest = &after[c.len_utf8() + 1..],
            _ => self.rest = after,
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match self.rest.find("*/").map(|end| (self.rest.find("/*").filter(|start| *start < end), end)) {
                Some((Some(start), _)) => {
                    depth += 1;
                    self.rest = &self.rest[start + 2..];
                }
                Some((None, end)) => {
                    depth -= 1;
                    self.rest = &self.rest[end + 2..];
                    if depth == 0 {
                        return;
                    }
                }
                None => return self.rest = "",
            }
        }
    }

    fn skip_to(&mut self, end: &str) {
        self.rest = self.rest.find(end).map_or("", |at| &self.rest[at + end.len()..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the one attribute in `source` stands in an `impl`.
    fn found(source: &str) -> bool {
        let before = source.split_once("#[qtask]").expect("an attribute").0;
        let line = before.matches('\n').count() + 1;
        stands_in_impl(source, line, before.chars().rev().take_while(|c| *c != '\n').count() + 1)
    }

    #[test]
    fn a_task_in_an_impl_or_a_trait_is_found() {
        for source in [
            "impl A {\n    #[qtask]\n    fn t() {}\n}",
            "#[async_trait(x = { 1 })]\npub(crate) unsafe trait A: B where C: D {\n fn e() {} #[qtask] fn t() {}",
            "mod a { impl<T> B for C<T> { const D: u8 = b'{'; #[qtask] fn t() {} } }",
            "fn a() { let b = '}'; impl C { /* } /* } */ } */ #[qtask] fn t() {} } }",
            "impl A { fn b<'a>(c: &'a str) -> char { r#\"}\"}}\"#; \"\\\"}\"; '\\'' } // }\n #[qtask] fn t() {} }",
            "impl Ж { fn ж() { 'ж'; \"ж{\" } #[qtask] fn t() {} }",
        ] {
            assert!(found(source), "{source}");
        }
    }

    #[test]
    fn a_task_elsewhere_is_not() {
        for source in [
            "#[qtask]\nfn t() {}",
            "mod a { #[qtask] fn t() {} }",
            "impl A {} mod a { #[qtask] fn t() {} }",
            "impl A { fn b() { #[qtask] fn t() {} } }",
            "fn a() -> impl B { #[qtask] fn t() {} }",
            "macro_rules! a { ($b:ident) => { #[qtask] fn $b() {} } }",
            "const A: &str = \"impl A {\"; mod a { #[qtask] fn t() {} }",
            "// impl A {\nfn a() { #[qtask] fn t() {} }",
            "type A = fn() -> dyn B; struct C { d: [u8; 2] } mod e { #[qtask] fn t() {} }",
        ] {
            assert!(!found(source), "{source}");
        }
    }
}
