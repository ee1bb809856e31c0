//! Whether all numbers of a value are finite: JSON has no others, and serde_json writes `null` for them.

use std::fmt::Display;

use serde::{
    Serialize, Serializer,
    ser::{
        Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

type Checked = Result<(), serde_json::Error>;

/// Checks the numbers of `value`, at every depth.
///
/// # Errors
///
/// The first number that is not finite, or the error of the value's own `Serialize`.
pub(crate) fn check<T: Serialize + ?Sized>(value: &T) -> Checked {
    value.serialize(Finite)
}

/// A serializer that writes nothing, and looks at numbers.
struct Finite;

fn finite(number: f64) -> Checked {
    if number.is_finite() {
        return Ok(());
    }
    Err(serde_json::Error::custom(format_args!("the number {number} has no form in JSON; it is not finite")))
}

macro_rules! fine {
    ($($method:ident($($type:ty),*)),* $(,)?) => {$(
        fn $method(self $(, _: $type)*) -> Checked {
            Ok(())
        }
    )*};
}

macro_rules! inside {
    ($($method:ident($($type:ty),*)),* $(,)?) => {$(
        fn $method<T: Serialize + ?Sized>(self $(, _: $type)*, value: &T) -> Checked {
            check(value)
        }
    )*};
}

macro_rules! compound {
    ($($method:ident($($type:ty),*)),* $(,)?) => {$(
        fn $method(self $(, _: $type)*) -> Result<Self, serde_json::Error> {
            Ok(self)
        }
    )*};
}

impl Serializer for Finite {
    type Ok = ();
    type Error = serde_json::Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fn serialize_f32(self, number: f32) -> Checked {
        finite(number.into())
    }

    fn serialize_f64(self, number: f64) -> Checked {
        finite(number)
    }

    fn collect_str<T: Display + ?Sized>(self, _: &T) -> Checked {
        Ok(())
    }

    fine! {
        serialize_bool(bool), serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_i128(i128), serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64),
        serialize_u128(u128), serialize_char(char), serialize_str(&str), serialize_bytes(&[u8]), serialize_none(),
        serialize_unit(), serialize_unit_struct(&'static str),
        serialize_unit_variant(&'static str, u32, &'static str),
    }

    inside! {
        serialize_some(), serialize_newtype_struct(&'static str),
        serialize_newtype_variant(&'static str, u32, &'static str),
    }

    compound! {
        serialize_seq(Option<usize>), serialize_tuple(usize), serialize_tuple_struct(&'static str, usize),
        serialize_tuple_variant(&'static str, u32, &'static str, usize), serialize_map(Option<usize>),
        serialize_struct(&'static str, usize),
        serialize_struct_variant(&'static str, u32, &'static str, usize),
    }
}

macro_rules! parts {
    ($($compound:ident: $method:ident($($key:ty)?)),* $(,)?) => {$(
        impl $compound for Finite {
            type Ok = ();
            type Error = serde_json::Error;

            fn $method<T: Serialize + ?Sized>(&mut self $(, _: $key)?, value: &T) -> Checked {
                check(value)
            }

            fn end(self) -> Checked {
                Ok(())
            }
        }
    )*};
}

parts! {
    SerializeSeq: serialize_element(), SerializeTuple: serialize_element(), SerializeTupleStruct: serialize_field(),
    SerializeTupleVariant: serialize_field(), SerializeStruct: serialize_field(&'static str),
    SerializeStructVariant: serialize_field(&'static str),
}

impl SerializeMap for Finite {
    type Ok = ();
    type Error = serde_json::Error;

    // Serde_json itself refuses a key that is a number and not finite.
    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Checked {
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Checked {
        check(value)
    }

    fn end(self) -> Checked {
        Ok(())
    }
}
