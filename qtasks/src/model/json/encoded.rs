//! A value in its stored form: how it is written, and how it is read.

use std::{any::TypeId, fmt, io};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{
    de::StrRead,
    ser::{CompactFormatter, Formatter},
    value::RawValue,
};
use smol_str::SmolStr;

use super::{discreet, finite, scratch::scratch};

/// Why a text could not be decoded, with the path to the part that does not fit.
pub type Undecodable = serde_path_to_error::Error<serde_json::Error>;

/// A value in its stored form: JSON text, which nothing parses on its way to the store and back.
///
/// A clone copies a short text, and shares a longer one.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(SmolStr);

impl Json {
    /// Encodes `value` as compact JSON.
    ///
    /// # Errors
    ///
    /// The error of serde: a map whose keys are not strings, say, or an error of the type's own `Serialize`. A number that is
    /// not finite is an error too, since JSON has none.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        scratch(|text| {
            let mut nulls = false;
            value.serialize(&mut serde_json::Serializer::with_formatter(
                &mut *text,
                NullSpotter { nulls: &mut nulls },
            ))?;
            if nulls {
                finite::check(value)?;
            }
            let text = str::from_utf8(text).map_err(serde::ser::Error::custom)?;
            Ok(Self(text.into()))
        })
    }

    /// Takes text that is known to be JSON: a store has it from [`as_str`](Self::as_str).
    pub fn from_stored(text: impl AsRef<str>) -> Self {
        Self(SmolStr::new(text))
    }

    /// Decodes the value. An error names the path to the part that does not fit, and does not quote that part: it may be a
    /// secret, and errors are logged.
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

    /// Whether both are the same value, however they are written: a server may sort the keys of an object.
    pub(crate) fn means(&self, other: &Self) -> bool {
        let value = |json: &Self| json.decode::<serde_json::Value>().ok();
        self == other || value(self).is_some_and(|own| value(other) == Some(own))
    }

    /// How deep arrays and objects are nested.
    pub fn depth(&self) -> usize {
        depth(&self.0)
    }
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

/// Writes compact JSON, and notices `null`s: serde_json writes `null` for numbers that are not finite, too.
struct NullSpotter<'a> {
    nulls: &'a mut bool,
}

impl Formatter for NullSpotter<'_> {
    fn write_null<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        *self.nulls = true;
        CompactFormatter.write_null(writer)
    }
}

/// Whether each value of this type is known to be read back from JSON as it was.
pub(crate) fn is_exact<T: 'static>() -> bool {
    macro_rules! is_one_of {
        ($($type:ty)*) => { [$(TypeId::of::<$type>()),*].contains(&TypeId::of::<T>()) };
    }
    is_one_of! { () bool char i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize String }
}

/// The nesting of the deepest text that is read: one level more than serde_json reads by itself.
pub(crate) const DEEPEST: usize = 128;

/// Reads JSON text down to [`DEEPEST`].
pub(crate) fn reader(text: &str) -> serde_json::Deserializer<StrRead<'_>> {
    let mut reader = serde_json::Deserializer::from_str(text);
    // Deeper text keeps the limit, since it could overflow the stack. A shorter text cannot be as deep.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::json::hash;

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
