//! The hash of a yielded value, by which a body that runs again is compared with its record.

use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};
use xxhash_rust::xxh3::xxh3_64;

use super::{finite, scratch::scratch};

/// The hash of a yielded value: XXH3-64 of its JSON with the keys of every object sorted.
///
/// The hash stays the same for ever, since stored records are compared with it. The algorithm is that of
/// <https://github.com/Cyan4973/xxHash>, with seed 0.
///
/// # Errors
///
/// The error of serde, or a number that is not finite.
pub fn hash<T: Serialize + ?Sized>(value: &T) -> Result<u64, serde_json::Error> {
    measure(value).map(|measured| measured.hash)
}

/// The hash and the size of a value.
pub(crate) struct Measured {
    pub(crate) hash: u64,
    /// The length of the value's JSON.
    pub(crate) bytes: usize,
}

/// Measures a value.
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

/// JSON in its compact form, with the keys of every object sorted.
pub(crate) fn sorted(json: &str) -> Result<String, serde_json::Error> {
    let (mut text, mut nulls) = (Vec::with_capacity(json.len()), false);
    let formatter = Sorted { text: &mut text, open: Vec::new(), nulls: &mut nulls };
    let mut serializer = serde_json::Serializer::with_formatter(io::sink(), formatter);
    serde_json::from_str::<serde_json::Value>(json)?.serialize(&mut serializer)?;
    Ok(String::from_utf8(text).expect("JSON is text"))
}

/// Writes JSON into `text` and, when an object ends, puts its entries in the order of their keys.
struct Sorted<'a> {
    text: &'a mut Vec<u8>,
    open: Vec<Object>,
    nulls: &'a mut bool,
}

/// An object that is being written.
struct Object {
    /// For each entry, the position of its start and that of its key's end.
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

/// Methods that write the compact form, into `text` in place of the writer.
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

    // Every entry ends in a comma, also the last one: so entries can change places.
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
}
