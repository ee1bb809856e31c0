//! Errors of decoding that do not quote what was decoded.

use serde::de::Error as _;
use serde_json::Value;
use serde_path_to_error::Error;

/// The length from which a text of the JSON is hidden where an error quotes it. Shorter texts stand in any error by chance.
const TELLING: usize = 4;

/// The error, without the values of the `text` that could not be decoded.
pub(crate) fn without_values(error: Error<serde_json::Error>, text: &str) -> Error<serde_json::Error> {
    let said = error.inner().to_string();
    let hidden = unquoted(&said).unwrap_or_else(|| without_texts(said.clone(), text));
    if hidden == said {
        return error;
    }
    Error::new(error.path().clone(), serde_json::Error::custom(hidden))
}

/// Serde's text about a value of the wrong kind, without the value: serde puts that between quotes, after the kind.
fn unquoted(said: &str) -> Option<String> {
    let begins = ["invalid type: ", "invalid value: ", "unknown variant", "unknown field"];
    let begin = begins.into_iter().find(|begin| said.starts_with(begin))?;
    let (found, end) = [", expected ", ", there are no "].iter().find_map(|end| {
        let (found, rest) = said.rsplit_once(end)?;
        Some((found, format!("{end}{rest}")))
    })?;
    let found = &found[begin.len()..];
    let kind = found.find(['`', '"']).map_or(found, |quoted| &found[..quoted]);
    Some(format!("{begin}{}{end}", kind.trim_end()))
}

/// The text of a type's own error, without the texts that stand in the JSON.
fn without_texts(mut said: String, text: &str) -> String {
    fn hide(value: &Value, said: &mut String) {
        match value {
            Value::String(text) if text.len() >= TELLING => *said = said.replace(text.as_str(), "\u{2026}"),
            Value::Array(values) => values.iter().for_each(|value| hide(value, said)),
            Value::Object(values) => values.values().for_each(|value| hide(value, said)),
            _ => {}
        }
    }
    if let Ok(value) = serde_json::from_str(text) {
        hide(&value, &mut said);
    }
    said
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use serde::{Deserialize, de::DeserializeOwned};

    use crate::model::json::Json;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    enum Colour {
        #[allow(dead_code)]
        Red {
            depth: u8,
        },
        Blue,
    }

    fn said_of<T: DeserializeOwned + std::fmt::Debug>(text: &str) -> String {
        Json::from_stored(text).decode::<T>().unwrap_err().to_string()
    }

    #[test]
    fn an_error_of_decoding_says_what_is_wrong_and_does_not_quote_it() {
        assert_eq!(said_of::<Vec<u8>>("[1,\"hunter2\"]"), "[1]: invalid type: string, expected u8 at line 1 column 12");
        assert_eq!(said_of::<Vec<u8>>("[7355608]"), "[0]: invalid value: integer, expected u8 at line 1 column 8");
        assert_eq!(
            said_of::<char>("\"a, expected b\""),
            "invalid value: string, expected a character at line 1 column 15"
        );
        assert_eq!(said_of::<u8>("[]"), "invalid type: sequence, expected u8 at line 1 column 0");
        let variant = "unknown variant, expected `Red` or `Blue` at line 1 column 9";
        assert_eq!(said_of::<Colour>("\"hunter2\""), variant);
        assert!(!said_of::<Colour>("{\"Red\":{\"hunter2\":1}}").contains("unknown field `hunter2`"));
        assert_eq!(said_of::<IpAddr>("\"hunter2\""), "invalid IP address syntax at line 1 column 9");
        let time = said_of::<jiff::Timestamp>("\"hunter2\"");
        assert!(time.contains("failed to parse") && !time.contains("hunter2"), "{time}");
    }

    #[test]
    fn an_error_that_quotes_nothing_is_left_as_it_is() {
        assert_eq!(said_of::<Colour>("{\"Red\":{}}"), "Red: missing field `depth` at line 1 column 9");
        assert_eq!(said_of::<u8>("nu"), "EOF while parsing a value at line 1 column 2");
        let _ = Colour::Blue;
    }
}
