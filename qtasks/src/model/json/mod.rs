//! Encoded values: what a store keeps of arguments, replies and results, and the hash of a yielded value.

mod discreet;
mod finite;

use std::{any::TypeId, cell::Cell, fmt, io};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{
    de::StrRead,
    ser::{CharEscape, CompactFormatter, Formatter},
    value::RawValue,
};
use smol_str::SmolStr;
use xxhash_rust::xxh3::xxh3_64;

/// Why a text is not the value that was asked for, and the path to the part that does not fit.
pub type Undecodable = serde_path_to_error::Error<serde_json::Error>;

/// A value in its stored form: JSON text that is carried as it is, never parsed on the way.
///
/// Cloning copies a short text, and shares a longer one.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(SmolStr);

impl Json {
    /// Encodes `value`.
    ///
    /// # Errors
    ///
    /// What serde reports: a map whose keys are not strings, say, or an error of the type's own `Serialize`; and a number
    /// that is not finite, which JSON does not have.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        scratch(|text| {
            let mut nulls = false;
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut *text, Noting { nulls: &mut nulls }))?;
            if nulls {
                finite::check(value)?;
            }
            let text = str::from_utf8(text).map_err(serde::ser::Error::custom)?;
            Ok(Self(text.into()))
        })
    }

    /// Takes text that is known to be JSON, as a store reads it back.
    pub fn from_stored(text: impl AsRef<str>) -> Self {
        Self(SmolStr::new(text))
    }

    /// Decodes the value; an error names the path to the part that does not fit, and does not quote it: what is decoded may
    /// be a secret, and errors are logged.
    ///
    /// # Errors
    ///
    /// When the text is not a `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Undecodable> {
        serde_path_to_error::deserialize(&mut reader(&self.0)).map_err(|error| discreet::without_values(error, &self.0))
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the same value, also where it is written in another way: a server may sort the keys of an object.
    pub(crate) fn means(&self, other: &Self) -> bool {
        let value = |json: &Self| json.decode::<serde_json::Value>().ok();
        self == other || value(self).is_some_and(|own| value(other) == Some(own))
    }

    /// How many arrays and objects stand inside each other at the deepest place.
    pub fn depth(&self) -> usize {
        depth(&self.0)
    }
}

/// Whether each value of this type is read back from JSON as it was, as far as is known without a look.
pub(crate) fn is_exact<T: 'static>() -> bool {
    macro_rules! is_one_of {
        ($($type:ty)*) => { [$(TypeId::of::<$type>()),*].contains(&TypeId::of::<T>()) };
    }
    is_one_of! { () bool char i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize String }
}

/// How many bytes a text has as JSON.
pub(crate) fn bytes_of_text(text: &str) -> usize {
    text.chars().map(bytes_of_char).sum::<usize>() + 2
}

/// As much of the start of a text as has no more than so many bytes within the quotes of its JSON.
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

/// Writes compact JSON, and takes note of each `null`: serde_json writes it for numbers that are not finite, too.
struct Noting<'a> {
    nulls: &'a mut bool,
}

impl Formatter for Noting<'_> {
    fn write_null<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        *self.nulls = true;
        CompactFormatter.write_null(writer)
    }
}

/// The deepest text that is read: one level more than serde_json reads by itself.
pub(crate) const DEEPEST: usize = 128;

/// Reads JSON text down to [`DEEPEST`].
pub(crate) fn reader(text: &str) -> serde_json::Deserializer<StrRead<'_>> {
    let mut reader = serde_json::Deserializer::from_str(text);
    // Text that is deeper keeps the limit, for it could overflow the stack; a shorter one cannot be as deep.
    if text.len() / 2 >= DEEPEST && depth(text) == DEEPEST {
        reader.disable_recursion_limit();
    }
    reader
}

fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Box::<RawValue>::deserialize(deserializer)?.get().into()))
    }
}

/// The hash of a yielded value: XXH3-64 of its JSON with the keys of every object sorted.
///
/// It stays the same for ever, since stored records are compared with it. The algorithm is that of
/// <https://github.com/Cyan4973/xxHash>, with seed 0.
///
/// # Errors
///
/// What serde reports of the value, and a number in it that is not finite.
pub fn hash<T: Serialize + ?Sized>(value: &T) -> Result<u64, serde_json::Error> {
    measure(value).map(|measured| measured.hash)
}

/// What is known of a value from its JSON.
pub(crate) struct Measured {
    pub(crate) hash: u64,
    pub(crate) bytes: usize,
}

/// The [`hash`] of a value, and how large it is.
pub(crate) fn measure<T: Serialize + ?Sized>(value: &T) -> Result<Measured, serde_json::Error> {
    scratch(|text| {
        let mut nulls = false;
        let sorted = Sorted { text, open: Vec::new(), nulls: &mut nulls };
        value.serialize(&mut serde_json::Serializer::with_formatter(io::sink(), sorted))?;
        if nulls {
            finite::check(value)?;
        }
        Ok(Measured { hash: xxh3_64(text), bytes: text.len() })
    })
}

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Text of more bytes than this is rare, and its room is given back.
const SCRATCH_KEPT: usize = 64 << 10;

/// Lends an empty text to write into: one that this thread has used before, for values are encoded very often.
fn scratch<T>(write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    // What is encoded may encode something itself, and then finds a new one here.
    let mut text = SCRATCH.take();
    let written = write(&mut text);
    if text.capacity() <= SCRATCH_KEPT {
        text.clear();
        SCRATCH.set(text);
    }
    written
}

/// Writes JSON into `text` and, when an object ends, puts its entries in the order of their keys.
struct Sorted<'a> {
    text: &'a mut Vec<u8>,
    open: Vec<Object>,
    nulls: &'a mut bool,
}

/// An object under way: where its entries begin, and for each where it starts and where its key ends.
struct Object {
    entries: Vec<(usize, usize)>,
}

impl Object {
    fn sort(&self, text: &mut Vec<u8>) {
        let Some(&(first, _)) = self.entries.first() else { return };
        let ends = self.entries.iter().skip(1).map(|entry| entry.0).chain([text.len()]);
        let mut entries: Vec<_> = self
            .entries
            .iter()
            .zip(ends)
            .map(|(&(start, key_end), end)| (&text[start..key_end], &text[start..end]))
            .collect();
        if entries.is_sorted_by_key(|entry| entry.0) {
            return;
        }
        entries.sort_by_key(|entry| entry.0);
        let sorted: Vec<u8> = entries.into_iter().flat_map(|entry| entry.1.iter().copied()).collect();
        text.truncate(first);
        text.extend(sorted);
    }
}

/// The methods that only write go to the compact form, and to `text` in place of the writer.
macro_rules! compact {
    ($($method:ident($($argument:ident: $type:ty),*)),* $(,)?) => {$(
        fn $method<W: ?Sized + io::Write>(&mut self, _: &mut W $(, $argument: $type)*) -> io::Result<()> {
            CompactFormatter.$method(self.text $(, $argument)*)
        }
    )*};
}

impl Formatter for Sorted<'_> {
    compact! {
        write_bool(value: bool), write_i8(value: i8), write_i16(value: i16), write_i32(value: i32),
        write_i64(value: i64), write_i128(value: i128), write_u8(value: u8), write_u16(value: u16),
        write_u32(value: u32), write_u64(value: u64), write_u128(value: u128), write_f32(value: f32),
        write_f64(value: f64), write_number_str(value: &str), begin_string(), end_string(),
        write_string_fragment(fragment: &str), write_char_escape(escape: CharEscape), write_byte_array(value: &[u8]),
        begin_array(), end_array(), begin_array_value(first: bool), end_array_value(), begin_object_value(),
        write_raw_fragment(fragment: &str),
    }

    fn write_null<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        *self.nulls = true;
        CompactFormatter.write_null(self.text)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.open.push(Object { entries: Vec::new() });
        self.text.push(b'{');
        Ok(())
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, _: &mut W, _first: bool) -> io::Result<()> {
        let start = self.text.len();
        self.innermost().entries.push((start, start));
        Ok(())
    }

    fn end_object_key<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        let end = self.text.len();
        self.innermost().entries.last_mut().expect("a key that ends has begun").1 = end;
        Ok(())
    }

    // Every entry ends in a comma, the last one too: then entries can change places.
    fn end_object_value<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.text.push(b',');
        Ok(())
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        let object = self.open.pop().expect("an object that ends has begun");
        object.sort(self.text);
        if self.text.last() == Some(&b',') {
            self.text.pop();
        }
        self.text.push(b'}');
        Ok(())
    }
}

impl Sorted<'_> {
    fn innermost(&mut self) -> &mut Object {
        self.open.last_mut().expect("a key stands in an object")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[derive(Serialize)]
    struct Forward {
        a: i32,
        b: BTreeMap<String, Vec<i32>>,
    }

    #[derive(Serialize)]
    struct Backward {
        b: BTreeMap<String, Vec<i32>>,
        a: i32,
    }

    #[test]
    fn the_order_of_fields_does_not_change_the_hash() {
        let b = BTreeMap::from([("x".to_owned(), vec![1, 2]), ("y".to_owned(), vec![])]);
        assert_eq!(hash(&Forward { a: 1, b: b.clone() }).unwrap(), hash(&Backward { a: 1, b }).unwrap());
    }

    #[test]
    fn the_hash_is_that_of_the_sorted_json_text() {
        for (value, text) in [
            (json!(5), "5"),
            (json!("a\"b,"), "\"a\\\"b,\""),
            (json!({}), "{}"),
            (json!({"b": {}, "a": [1, {"d": null, "c": 1.5}]}), r#"{"a":[1,{"c":1.5,"d":null}],"b":{}}"#),
        ] {
            assert_eq!(hash(&value).unwrap(), xxh3_64(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn stored_hashes_stay_what_they_were() {
        // As python's xxhash.xxh3_64_intdigest gives them for the texts.
        assert_eq!(hash(&8_i64).unwrap(), 7_372_184_217_170_234_346);
        assert_eq!(hash("user_0").unwrap(), 10_046_822_722_625_440_149);
        assert_eq!(hash(&json!({"b": [true, null], "a": 1})).unwrap(), 3_825_301_641_510_399_189);
    }

    #[test]
    fn a_value_may_encode_another_one_while_it_is_encoded() {
        struct Outer;
        impl Serialize for Outer {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let inner = hash("inner").and_then(|_| Json::encode("inner")).map_err(serde::ser::Error::custom)?;
                serializer.collect_seq(["before", inner.as_str(), "after"])
            }
        }
        let text = r#"["before","\"inner\"","after"]"#;
        assert_eq!(Json::encode(&[Outer, Outer]).unwrap().as_str(), format!("[{text},{text}]"));
        assert_eq!(hash(&Outer).unwrap(), xxh3_64(text.as_bytes()));
    }

    #[derive(Serialize)]
    #[serde(rename_all = "lowercase")]
    enum Nested {
        Number(f64),
        Small { number: f32 },
        Maybe(Option<f64>),
        Many(Vec<Nested>),
        Named(BTreeMap<String, (u8, f64)>),
        Nothing,
    }

    #[test]
    fn a_number_that_is_not_finite_is_an_error_at_whatever_depth() {
        let named = |number| Nested::Named(BTreeMap::from([("a".to_owned(), (1, number))]));
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for value in [
                Nested::Number(number),
                Nested::Small { number: number as f32 },
                Nested::Maybe(Some(number)),
                Nested::Many(vec![Nested::Nothing, Nested::Many(vec![Nested::Number(number)])]),
                named(number),
            ] {
                let expected = format!("the number {number} has no form in JSON; it is not finite");
                assert_eq!(Json::encode(&value).unwrap_err().to_string(), expected);
                assert_eq!(hash(&value).unwrap_err().to_string(), expected);
            }
        }
    }

    #[test]
    fn what_is_null_for_another_reason_is_encoded() {
        let value = Nested::Many(vec![Nested::Maybe(None), Nested::Number(1.5), Nested::Nothing]);
        assert_eq!(Json::encode(&value).unwrap().as_str(), r#"{"many":[{"maybe":null},{"number":1.5},"nothing"]}"#);
        assert_eq!(Json::encode(&((), None::<f32>)).unwrap().as_str(), "[null,null]");
    }

    #[test]
    fn a_float_is_read_back_as_it_was() {
        let mut bits = 1_u64;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (double, single) = (f64::from_bits(bits), f32::from_bits((bits >> 32) as u32));
            if double.is_finite() && single.is_finite() {
                let json = Json::encode(&(double, single, 1.577_777_777_777_000_1)).unwrap();
                let (d, s, _): (f64, f32, f64) = json.decode().unwrap();
                assert_eq!((d.to_bits(), s.to_bits()), (double.to_bits(), single.to_bits()), "{json}");
            }
        }
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        for (text, depth) in [("1", 0), ("[]", 1), (r#"{"a":[[1],"[[[["]}"#, 3), (r#"["\"[["]"#, 1)] {
            assert_eq!(Json::from_stored(text).depth(), depth, "{text}");
        }
    }

    #[test]
    fn what_is_as_deep_as_it_may_be_is_read_and_what_is_deeper_is_an_error() {
        let nested = |depth: usize| Json::from_stored("[".repeat(depth) + &"]".repeat(depth));
        assert!(nested(DEEPEST).decode::<serde_json::Value>().is_ok());
        for depth in [DEEPEST + 1, 100_000] {
            let error = nested(depth).decode::<serde_json::Value>().unwrap_err().to_string();
            assert!(error.contains("recursion limit exceeded"), "{error}");
        }
    }

    #[test]
    fn a_wrong_type_is_reported_with_its_path() {
        let error = Json::from_stored(r#"{"b":{"x":["no"]},"a":1}"#).decode::<BTreeMap<String, i32>>().unwrap_err();
        assert_eq!(error.to_string(), "b: invalid type: map, expected i32 at line 1 column 5");
    }
}
