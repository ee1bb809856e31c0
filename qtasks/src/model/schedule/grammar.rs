//! The grammar of expressions: five fields of cron, or six with the second first; shorthands; `every 90s`.

use super::{
    expression::{Cron, Days, Expression, Weekdays},
    wrong::{Field, Wrong},
};

/// Gives the value of a result, or returns its error: `?` is not for `const` functions yet.
macro_rules! get {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(wrong) => return Err(wrong),
        }
    };
}

const MONTHS: [&[u8; 3]; 12] =
    [b"JAN", b"FEB", b"MAR", b"APR", b"MAY", b"JUN", b"JUL", b"AUG", b"SEP", b"OCT", b"NOV", b"DEC"];
const WEEKDAYS: [&[u8; 3]; 7] = [b"SUN", b"MON", b"TUE", b"WED", b"THU", b"FRI", b"SAT"];

/// A part of an expression: its bytes from `at` to before `end`.
#[derive(Clone, Copy)]
struct Part<'t> {
    bytes: &'t [u8],
    at: usize,
    end: usize,
}

/// Reads an expression of which there is a date that fits it.
pub(crate) const fn parse(text: &str) -> Result<Expression, Wrong> {
    match get!(read(text)) {
        Expression::Cron(cron) if !cron.fits_some_day() => Err(Wrong::Never),
        expression => Ok(expression),
    }
}

const fn read(text: &str) -> Result<Expression, Wrong> {
    let part = Part { bytes: text.as_bytes(), at: 0, end: text.len() };
    let (fields, count) = part.words();
    if count > 0 && fields[0].peek() == b'@' {
        return shorthand(fields[0], count);
    }
    if count > 0 && fields[0].is(b"EVERY") {
        return every(fields, count);
    }
    cron(fields, count)
}

const fn shorthand(word: Part<'_>, count: usize) -> Result<Expression, Wrong> {
    if count != 1 {
        return Err(Wrong::Shorthand);
    }
    if word.is(b"@HOURLY") {
        return read("0 * * * *");
    }
    if word.is(b"@DAILY") || word.is(b"@MIDNIGHT") {
        return read("0 0 * * *");
    }
    if word.is(b"@WEEKLY") {
        return read("0 0 * * SUN");
    }
    if word.is(b"@MONTHLY") {
        return read("0 0 1 * *");
    }
    if word.is(b"@YEARLY") || word.is(b"@ANNUALLY") {
        return read("0 0 1 JAN *");
    }
    Err(Wrong::Shorthand)
}

const fn every(words: [Part<'_>; 7], count: usize) -> Result<Expression, Wrong> {
    let mut time = words[1];
    if count != 2 {
        return Err(Wrong::Every);
    }
    let Some(number) = time.number() else { return Err(Wrong::Every) };
    let unit = match time.take().to_ascii_lowercase() {
        b's' => 1,
        b'm' => 60,
        b'h' => 3_600,
        b'd' => 86_400,
        _ => return Err(Wrong::Every),
    };
    if number == 0 || !time.is_empty() {
        return Err(Wrong::Every);
    }
    Ok(Expression::Every(number as u64 * unit))
}

const fn cron(fields: [Part<'_>; 7], count: usize) -> Result<Expression, Wrong> {
    let first = match count {
        5 => 0,
        6 => 1,
        _ => return Err(Wrong::Count),
    };
    let seconds =
        if first == 1 { get!(numbers(fields[0], Field::Second)) } else { Numbers { set: 1, has_step: false } };
    let minutes = get!(numbers(fields[first], Field::Minute));
    let hours = get!(numbers(fields[first + 1], Field::Hour));
    let days = get!(days(fields[first + 2]));
    let months = get!(numbers(fields[first + 3], Field::Month));
    let weekdays = get!(weekdays(fields[first + 4]));
    Ok(Expression::Cron(Cron {
        seconds: seconds.set,
        minutes: minutes.set,
        hours: hours.set,
        months: months.set,
        days,
        weekdays,
        is_interval: minutes.has_step || hours.has_step,
    }))
}

/// The numbers of a field.
#[derive(Clone, Copy)]
struct Numbers {
    set: u64,
    /// Whether it holds `*` or a step.
    has_step: bool,
}

const fn numbers(mut field: Part<'_>, kind: Field) -> Result<Numbers, Wrong> {
    let mut numbers = Numbers { set: 0, has_step: false };
    loop {
        let mut item = field.item();
        let range = get!(range(&mut item, kind));
        numbers.set |= range.set;
        numbers.has_step |= range.has_step;
        if !item.is_empty() {
            return Err(Wrong::Value(kind));
        }
        if !field.goes_on() {
            return Ok(numbers);
        }
    }
}

const fn days(mut field: Part<'_>) -> Result<Days, Wrong> {
    const KIND: Field = Field::Day;
    let mut days = Days { numbers: 0, from_last: 0, nearest: 0, is_open: field.is_open() };
    loop {
        let mut item = field.item();
        if item.takes(b'L') {
            if item.takes(b'W') {
                days.nearest |= 1;
            } else if item.takes(b'-') {
                match item.number() {
                    Some(before @ 1..=30) => days.from_last |= 1 << before,
                    _ => return Err(Wrong::Value(KIND)),
                }
            } else {
                days.from_last |= 1;
            }
        } else {
            let range = get!(range(&mut item, KIND));
            if range.set.count_ones() == 1 && item.takes(b'W') {
                days.nearest |= range.set;
            } else {
                days.numbers |= range.set;
            }
        }
        if !item.is_empty() {
            return Err(Wrong::Value(KIND));
        }
        if !field.goes_on() {
            return Ok(days);
        }
    }
}

const fn weekdays(mut field: Part<'_>) -> Result<Weekdays, Wrong> {
    const KIND: Field = Field::Weekday;
    let mut weekdays = Weekdays { each: 0, nth: 0, last: 0, is_open: field.is_open() };
    loop {
        let mut item = field.item();
        let range = get!(range(&mut item, KIND));
        // Sunday is 0 and 7.
        let set = (range.set | range.set >> 7) & 0b111_1111;
        let is_one = set.count_ones() == 1;
        if is_one && item.takes(b'#') {
            match item.number() {
                Some(nth @ 1..=5) => weekdays.nth |= 1 << (set.trailing_zeros() * 5 + nth - 1),
                _ => return Err(Wrong::Value(KIND)),
            }
        } else if is_one && item.takes(b'L') {
            weekdays.last |= set;
        } else {
            weekdays.each |= set;
        }
        if !item.is_empty() {
            return Err(Wrong::Value(KIND));
        }
        if !field.goes_on() {
            return Ok(weekdays);
        }
    }
}

/// `*`, `5`, `5-9`, each with a step or without.
const fn range(item: &mut Part<'_>, kind: Field) -> Result<Numbers, Wrong> {
    let (lowest, highest) = bounds(kind);
    if item.is_empty() {
        return Err(Wrong::Empty(kind));
    }
    let is_open = item.takes(b'*') || matches!(kind, Field::Day | Field::Weekday) && item.takes(b'?');
    let ends = if is_open { Ends { first: lowest, last: Some(highest) } } else { get!(ends(item, kind)) };
    let mut step = 1;
    let has_step = item.takes(b'/');
    if has_step {
        step = match item.number() {
            Some(step) if step >= 1 && step <= longest_step(kind) => step,
            _ => return Err(Wrong::Step(kind)),
        };
    }
    let last = match ends.last {
        Some(last) => last,
        // A number with a step goes on to the highest one.
        None if has_step && ends.first < highest => highest,
        None => ends.first,
    };
    let (mut set, mut number) = (0, ends.first);
    while number <= last {
        set |= 1 << number;
        number += step;
    }
    Ok(Numbers { set, has_step: is_open || has_step })
}

/// The first number of `5` or `5-9`, and the last where it is given.
struct Ends {
    first: u32,
    last: Option<u32>,
}

const fn ends(item: &mut Part<'_>, kind: Field) -> Result<Ends, Wrong> {
    let first = get!(value(item, kind));
    if !item.takes(b'-') {
        return Ok(Ends { first, last: None });
    }
    let last = match get!(value(item, kind)) {
        0 if matches!(kind, Field::Weekday) && first > 0 => 7,
        last => last,
    };
    if first > last { Err(Wrong::Backwards(kind)) } else { Ok(Ends { first, last: Some(last) }) }
}

/// A number of this field, or a name.
const fn value(item: &mut Part<'_>, kind: Field) -> Result<u32, Wrong> {
    let value = match item.number() {
        Some(number) => number,
        None => match kind {
            Field::Month => match item.name(&MONTHS) {
                Some(position) => position + 1,
                None => return Err(Wrong::Value(kind)),
            },
            Field::Weekday => match item.name(&WEEKDAYS) {
                Some(position) => position,
                None => return Err(Wrong::Value(kind)),
            },
            _ => return Err(Wrong::Value(kind)),
        },
    };
    let (lowest, highest) = bounds(kind);
    let highest = if matches!(kind, Field::Weekday) { 7 } else { highest };
    if value < lowest || value > highest { Err(Wrong::Value(kind)) } else { Ok(value) }
}

/// The numbers that `*` stands for, from the lowest to the highest.
const fn bounds(kind: Field) -> (u32, u32) {
    match kind {
        Field::Second | Field::Minute => (0, 59),
        Field::Hour => (0, 23),
        Field::Day => (1, 31),
        Field::Month => (1, 12),
        Field::Weekday => (0, 6),
    }
}

const fn longest_step(kind: Field) -> u32 {
    match kind {
        Field::Weekday => 7,
        kind => bounds(kind).1,
    }
}

impl<'t> Part<'t> {
    const fn is_empty(&self) -> bool {
        self.at == self.end
    }

    /// The next byte, or 0 at the end.
    const fn peek(&self) -> u8 {
        if self.is_empty() { 0 } else { self.bytes[self.at] }
    }

    const fn take(&mut self) -> u8 {
        let byte = self.peek();
        if !self.is_empty() {
            self.at += 1;
        }
        byte
    }

    /// Takes this byte, in either case, if it comes next.
    const fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.peek().to_ascii_uppercase() == byte;
        if is_next {
            self.at += 1;
        }
        is_next
    }

    /// Whether it is this word, in letters of either case.
    const fn is(&self, word: &[u8]) -> bool {
        self.end - self.at == word.len() && self.begins_with(word)
    }

    const fn begins_with(&self, word: &[u8]) -> bool {
        let mut at = 0;
        while at < word.len() {
            if self.at + at >= self.end || self.bytes[self.at + at].to_ascii_uppercase() != word[at] {
                return false;
            }
            at += 1;
        }
        true
    }

    /// Whether it begins with `*` or `?`.
    const fn is_open(&self) -> bool {
        matches!(self.peek(), b'*' | b'?')
    }

    /// Takes a number of at most nine digits, if one comes next.
    const fn number(&mut self) -> Option<u32> {
        let (begin, mut number) = (self.at, 0);
        while self.peek().is_ascii_digit() {
            if self.at - begin == 9 {
                return None;
            }
            number = number * 10 + (self.take() - b'0') as u32;
        }
        if self.at == begin { None } else { Some(number) }
    }

    /// Takes one of these names, if one comes next, and gives its position.
    const fn name(&mut self, names: &[&[u8; 3]]) -> Option<u32> {
        let mut position = 0;
        while position < names.len() {
            if self.begins_with(names[position]) {
                self.at += 3;
                return Some(position as u32);
            }
            position += 1;
        }
        None
    }

    /// What stands before the next comma, which comes next in this part then.
    const fn item(&mut self) -> Self {
        let begin = self.at;
        while !self.is_empty() && self.peek() != b',' {
            self.at += 1;
        }
        Self { bytes: self.bytes, at: begin, end: self.at }
    }

    /// Takes a comma, if one comes next: then another item follows.
    const fn goes_on(&mut self) -> bool {
        self.takes(b',')
    }

    /// Its first seven words, and how many it has; of more than seven, seven.
    const fn words(mut self) -> ([Self; 7], usize) {
        let nothing = Self { bytes: self.bytes, at: self.end, end: self.end };
        let (mut words, mut count) = ([nothing; 7], 0);
        while count < 7 {
            while matches!(self.peek(), b' ' | b'\t') {
                self.at += 1;
            }
            if self.is_empty() {
                break;
            }
            let begin = self.at;
            while !self.is_empty() && !matches!(self.peek(), b' ' | b'\t') {
                self.at += 1;
            }
            words[count] = Self { bytes: self.bytes, at: begin, end: self.at };
            count += 1;
        }
        (words, count)
    }
}
