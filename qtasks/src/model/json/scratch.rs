//! A buffer for encoded text, which each thread uses again and again.

use std::cell::Cell;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A longer text is rare, and its memory is freed.
const SCRATCH_KEPT: usize = 64 << 10;

/// Lends an empty buffer to write into. The thread keeps it for the next time, since values are encoded very often.
pub(super) fn scratch<T>(write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    // A value that encodes another one meanwhile finds a new buffer here.
    let mut text = SCRATCH.take();
    let written = write(&mut text);
    if text.capacity() <= SCRATCH_KEPT {
        text.clear();
        SCRATCH.set(text);
    }
    written
}

#[cfg(test)]
mod tests {
    use serde::{Serialize, Serializer};
    use xxhash_rust::xxh3::xxh3_64;

    use crate::model::json::{Json, hash};

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
}
