//! JSON from a stranger: nothing after the value, no key twice, no deep nesting (128 levels at most).

use crate::error::{Error, Result, shortened};
use crate::fs::stranger;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Number, Value};
use std::fmt;
use std::path::Path;

/// The value that `text` holds; `path` is for the error's line.
///
/// # Errors
/// `BadFile` naming line and column of what is not JSON, or the key that stands twice in one object; or what the file is
/// instead.
pub(crate) fn parse(text: &[u8], path: &Path) -> Result<Value> {
    serde_json::from_slice::<Strict>(text).map(|v| v.0).map_err(|e| {
        if let Some(what) = stranger(text) {
            return Error::bad_file(path, "format", "", what);
        }
        let at = format!("line {}, column {}", e.line(), e.column());
        Error::bad_file(path, at, "", message(&e))
    })
}

/// The value that one line holds.
///
/// # Errors
/// The column, from 1, of what is not JSON or of a key that stands twice, and what is wrong there.
#[cfg(feature = "train")]
pub(crate) fn parse_line(text: &str) -> std::result::Result<Value, (u64, String)> {
    serde_json::from_str::<Strict>(text).map(|v| v.0).map_err(|e| (e.column().max(1) as u64, message(&e)))
}

/// serde_json's message without the place that it ends with, which the caller states.
pub(crate) fn message(e: &serde_json::Error) -> String {
    let text = e.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_string(),
        None => text,
    }
}

/// The value of `key` in `object`, or `null`.
pub(crate) fn get<'a>(object: &'a Value, key: &str) -> &'a Value {
    object.get(key).unwrap_or(&Value::Null)
}

/// A value as it stands in the file, cut where it is long.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Object(map) => format!("an object of {} keys", map.len()),
        Value::Array(items) => format!("an array of {} items", items.len()),
        other => shortened(&other.to_string()),
    }
}

/// The value with the keys of every object in ascending order: one text for one value, whatever order
/// serde_json's maps keep (its feature `preserve_order`, which any crate of a build can switch on, changes that).
pub(crate) fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().map(|(key, v)| (key, sorted(v))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

/// A `Value` in which no object had a key twice.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> std::result::Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> std::result::Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_u64<E>(self, v: u64) -> std::result::Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_f64<E>(self, v: f64) -> std::result::Result<Value, E> {
        Ok(Number::from_f64(v).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, v: &str) -> std::result::Result<Value, E> {
        Ok(Value::from(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            let Strict(value) = access.next_value()?;
            match map.entry(key) {
                Entry::Vacant(place) => _ = place.insert(value),
                Entry::Occupied(there) => {
                    let twice = format!("the key {:?} stands twice", shortened(there.key()));
                    return Err(serde::de::Error::custom(twice));
                }
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text.as_bytes(), Path::new("x.json")).unwrap_err().to_string()
    }

    #[test]
    fn reads_what_serde_json_reads() {
        let text = r#"{"a": [1, -2, 3.5, true, null, "é\n"], "b": {"c": {}}}"#;
        assert_eq!(parse(text.as_bytes(), Path::new("x")).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn a_sorted_value_has_one_text() {
        let text = |s: &str| sorted(parse(s.as_bytes(), Path::new("x")).unwrap()).to_string();
        let expected = r#"{"B":2,"a":[{"x":1,"y":2},[]],"b":{"c":{},"d":null}}"#;
        assert_eq!(text(r#"{"b": {"d": null, "c": {}}, "a": [{"y": 2, "x": 1}, []], "B": 2}"#), expected);
        assert_eq!(text(expected), expected);
    }

    #[test]
    fn refuses_what_is_ambiguous_or_broken() {
        assert_eq!(error(r#"{"a": 1, "a": 2}"#), "x.json: line 1, column 16: the key \"a\" stands twice");
        assert_eq!(error(r#"{"a": {"b": 1, "b": 1}}"#), "x.json: line 1, column 22: the key \"b\" stands twice");
        assert_eq!(error("{} x"), "x.json: line 1, column 4: trailing characters");
        assert_eq!(error(""), "x.json: line 1, column 0: EOF while parsing a value");
        assert_eq!(error(&"[".repeat(100_000)), "x.json: line 1, column 128: recursion limit exceeded");
        assert_eq!(error("{\"a\": 1e999}"), "x.json: line 1, column 11: number out of range");
        assert_eq!(error("{\"a\": NaN}"), "x.json: line 1, column 7: expected value");
        assert_eq!(error("\u{feff}{}"), "x.json: format: begins with a byte order mark: must be UTF-8 without one");
        assert_eq!(error("\n<HTML>"), "x.json: format: is a web page, not the file itself");
    }
}
