//! Puts the replies of a job's steps together as its result, whatever type is asked for.

use serde::{
    de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor},
    forward_to_deserialize_any,
};
use serde_json::{Error, value::RawValue};

use super::{
    job::Shape,
    json::{Json, reader},
};

/// Reads `replies`, `count` in number, as the `T` that they are collected into. Those that do not matter for their
/// shape need not be there.
pub(crate) fn gather<T: DeserializeOwned>(shape: Shape, count: u64, replies: &[Json]) -> Result<T, Error> {
    T::deserialize(Gathered { shape, count, replies })
}

/// The replies of a job, as if they stood in one JSON text.
struct Gathered<'de> {
    shape: Shape,
    count: u64,
    replies: &'de [Json],
}

impl<'de> Deserializer<'de> for Gathered<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.shape {
            Shape::List => visitor.visit_seq(Items(self.replies.iter())),
            Shape::Map => visitor.visit_map(Pairs { pairs: self.replies.iter(), value: None }),
            Shape::Text => {
                let pieces: Result<String, Error> =
                    self.replies.iter().map(|reply| serde_json::from_str::<String>(reply.as_str())).collect();
                visitor.visit_string(pieces?)
            }
            Shape::Count => visitor.visit_u64(self.count),
            Shape::Last => match self.replies.last() {
                Some(reply) => reader(reply.as_str()).deserialize_any(visitor),
                None => visitor.visit_unit(),
            },
            Shape::Nothing => visitor.visit_unit(),
        }
    }

    // Pairs can be asked for as a list, and a list of pairs as a map.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.shape {
            Shape::Map => visitor.visit_seq(Items(self.replies.iter())),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.shape {
            Shape::List => visitor.visit_map(Pairs { pairs: self.replies.iter(), value: None }),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match (self.shape, self.replies.last()) {
            (Shape::Last, Some(reply)) => reader(reply.as_str()).deserialize_option(visitor),
            (Shape::Last, None) | (Shape::Nothing, _) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct struct enum identifier ignored_any
    }
}

/// The replies one after the other.
struct Items<'de>(std::slice::Iter<'de, Json>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|reply| seed.deserialize(&mut reader(reply.as_str()))).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The replies as keys and values.
struct Pairs<'de> {
    pairs: std::slice::Iter<'de, Json>,
    value: Option<&'de RawValue>,
}

impl<'de> MapAccess<'de> for Pairs<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(pair) = self.pairs.next() else { return Ok(None) };
        let (key, value): (&RawValue, &RawValue) = serde_json::from_str(pair.as_str())?;
        self.value = Some(value);
        seed.deserialize(Key(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let value = self.value.take().map_or("null", RawValue::get);
        seed.deserialize(&mut reader(value))
    }
}

/// A key of a map: of any type, and its JSON text where a text is asked for, as for the keys of a `serde_json::Value`.
struct Key<'de>(&'de RawValue);

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        reader(self.0.get()).deserialize_any(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.get().starts_with('"') {
            self.deserialize_any(visitor)
        } else {
            visitor.visit_borrowed_str(self.0.get())
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        reader(self.0.get()).deserialize_option(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        reader(self.0.get()).deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, HashMap};

    use serde_json::{Value, json};

    use super::*;
    use crate::schema::collect::{Count, Last};

    fn gather<T: DeserializeOwned>(shape: Shape, replies: &[Json]) -> Result<T, Error> {
        super::gather(shape, replies.len() as u64, replies)
    }

    fn replies(texts: &[&str]) -> Vec<Json> {
        texts.iter().map(|text| Json::from_stored(*text)).collect()
    }

    #[test]
    fn lists_are_read_as_vectors_sets_and_values() {
        let three = replies(&["3", "1", "3"]);
        assert_eq!(gather::<Vec<i64>>(Shape::List, &three).unwrap(), [3, 1, 3]);
        assert_eq!(gather::<BTreeSet<u8>>(Shape::List, &three).unwrap(), BTreeSet::from([1, 3]));
        assert_eq!(gather::<Value>(Shape::List, &three).unwrap(), json!([3, 1, 3]));
        assert_eq!(gather::<Vec<Option<i64>>>(Shape::List, &replies(&["null", "1"])).unwrap(), [None, Some(1)]);
    }

    #[test]
    fn maps_have_keys_of_any_type() {
        #[derive(Debug, PartialEq, Eq, Hash, serde::Deserialize)]
        enum Color {
            Red,
        }
        #[derive(Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
        struct Point(i32, i32);
        let pairs = replies(&[r#"["a",1]"#, r#"["b",2]"#]);
        assert_eq!(gather::<BTreeMap<String, i64>>(Shape::Map, &pairs).unwrap()["b"], 2);
        assert_eq!(gather::<Vec<(String, i64)>>(Shape::Map, &pairs).unwrap()[0], ("a".to_owned(), 1));
        assert!(gather::<BTreeMap<u32, bool>>(Shape::Map, &replies(&["[7,true]"])).unwrap()[&7]);
        assert_eq!(gather::<HashMap<Color, u8>>(Shape::Map, &replies(&[r#"["Red",1]"#])).unwrap()[&Color::Red], 1);
        assert_eq!(gather::<BTreeMap<Point, u8>>(Shape::Map, &replies(&["[[1,2],3]"])).unwrap()[&Point(1, 2)], 3);
        assert_eq!(gather::<Value>(Shape::Map, &replies(&["[7,true]"])).unwrap(), json!({"7": true}));
    }

    #[test]
    fn the_other_shapes_are_what_their_collections_are() {
        let pieces = replies(&[r#""a""#, r#""é\n""#]);
        assert_eq!(gather::<String>(Shape::Text, &pieces).unwrap(), "aé\n");
        assert_eq!(gather::<Count>(Shape::Count, &pieces).unwrap(), 2);
        assert_eq!(gather::<Last<String>>(Shape::Last, &pieces).unwrap(), Last(Some("é\n".to_owned())));
        assert_eq!(gather::<Last<String>>(Shape::Last, &[]).unwrap(), Last(None));
        assert_eq!(gather::<Value>(Shape::Last, &[]).unwrap(), json!(null));
        gather::<()>(Shape::Nothing, &pieces).unwrap();
        assert_eq!(gather::<Value>(Shape::Nothing, &pieces).unwrap(), json!(null));
    }

    #[test]
    fn a_reply_of_another_type_is_an_error() {
        let error = gather::<Vec<i64>>(Shape::List, &replies(&["1", r#""x""#])).unwrap_err();
        assert_eq!(error.to_string(), "invalid type: string \"x\", expected i64 at line 1 column 3");
    }
}
