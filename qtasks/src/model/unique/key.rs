//! The text of a key.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use crate::model::json::{Json, sorted};

/// Keys of more bytes are kept as their beginning and a hash.
const LONGEST: usize = 128;
/// How many bytes the beginning of a long key has at most.
const BEGINNING: usize = 96;

/// The key of a call by some of its arguments, or by all: `month=5,user=42`. The objects within arguments have their keys in order. An
/// argument that is not there counts as null.
///
/// # Errors
///
/// The error of serde when the arguments are no object.
pub(crate) fn of_args(args: &Json, fields: Option<&[&str]>) -> Result<String, serde_json::Error> {
    let all: BTreeMap<String, Box<RawValue>> = serde_json::from_str(args.as_str())?;
    let text = |name: &str| {
        let value = all.get(name).map_or(Ok("null".to_owned()), |value| sorted(value.get()));
        value.map(|value| format!("{name}={value}"))
    };
    let texts: Vec<_> = match fields {
        Some(fields) => fields.iter().map(|name| text(name)).collect::<Result<_, _>>()?,
        None => all.keys().map(|name| text(name)).collect::<Result<_, _>>()?,
    };
    Ok(if texts.is_empty() { "()".to_owned() } else { short(texts.join(",")) })
}

/// The key that a call names; nothing where it is empty, or has a character in it that stores do not keep.
pub(crate) fn named(key: String) -> Option<String> {
    (!key.is_empty() && !key.contains('\0')).then(|| short(key))
}

/// A key of up to 128 bytes as it is; of a longer one the first 96 bytes, to the end of a character, and the XXH3-128 of the
/// whole (<https://github.com/Cyan4973/xxHash>, with seed 0).
fn short(key: String) -> String {
    if key.len() <= LONGEST {
        return key;
    }
    let beginning = key.floor_char_boundary(BEGINNING);
    format!("{}{:032x}", &key[..beginning], xxh3_128(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(args: &str, fields: Option<&[&str]>) -> String {
        of_args(&Json::from_stored(args), fields).unwrap()
    }

    #[test]
    fn a_key_says_which_arguments_a_job_has() {
        let args = r#"{"user": 42, "month":5 , "to": {"b":[1.5, null], "a" : "Ü,=\""}}"#;
        assert_eq!(key(args, Some(&["user"])), "user=42");
        assert_eq!(key(args, Some(&["user", "month"])), "user=42,month=5");
        assert_eq!(key(args, None), r#"month=5,to={"a":"Ü,=\"","b":[1.5,null]},user=42"#);
        assert_eq!(key(args, Some(&["none"])), "none=null");
        assert_eq!(key("{}", None), "()");
        of_args(&Json::from_stored("[1]"), None).unwrap_err();
    }

    #[test]
    fn a_long_key_is_its_beginning_and_a_hash() {
        let long = |last: &str| named(format!("{}{last}", "ä".repeat(64))).unwrap();
        let (one, other) = (long("1"), long("2"));
        assert_eq!(one.len(), 128);
        assert!(one.starts_with(&"ä".repeat(48)) && one != other);
        assert_eq!(long(""), "ä".repeat(64), "128 bytes are kept as they are");
        assert_eq!(named(format!("a{}", "ä".repeat(64))).unwrap().len(), 127);
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        assert_eq!(["", "a\0b"].map(|wrong| named(wrong.into())), [None, None]);
    }
}
