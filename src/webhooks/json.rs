//! PURE: JSON as strict as money needs it. A name that comes twice means one thing to one reader and another to the next, so it is
//! refused.

use std::collections::HashSet;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Refusal;

/// The longest id of an event, in bytes.
pub const LONGEST_ID: usize = 255;

/// The longest name of a kind of event, in bytes.
const LONGEST_TYPE: usize = 128;

/// A PayPal event, with what all of them have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope {
    /// PayPal's id, `WH-..`: the same in every delivery of it.
    pub id: String,
    /// E.g. `PAYMENT.SALE.COMPLETED`.
    pub event_type: String,
    /// When it was made at PayPal, if it says so.
    pub created_at: Option<DateTime<Utc>>,
    /// The whole of it.
    pub value: Value,
}

impl Envelope {
    /// Reads an event of the site: `type`, `timestamp` and `data`, as the Standard Webhooks have them. Its id is in its headers.
    ///
    /// # Errors
    /// `not_json`, `event_type`.
    pub fn read_of_site(body: &[u8]) -> Result<Self, Refusal> {
        let value = parse(body)?;
        let event_type = word(&value, "type", "event_type", LONGEST_TYPE)?;
        let created_at = value["timestamp"].as_str().and_then(|text| text.parse().ok());
        Ok(Self { id: String::new(), event_type, created_at, value })
    }

    /// Reads what came where events of one kind go: the whole event, or its `data` alone.
    ///
    /// # Errors
    /// `not_json`, `event_type`.
    pub fn read_of_kind(body: &[u8], kind: &str) -> Result<Self, Refusal> {
        let value = parse(body)?;
        if value.get("type").is_none() {
            let value = serde_json::json!({ "data": value });
            return Ok(Self { id: String::new(), event_type: kind.to_owned(), created_at: None, value });
        }
        let event = Self::read_of_site(body)?;
        if event.event_type != kind {
            return Err(Refusal::new("event_type", format!("events of the type {kind} come here, and no others")));
        }
        Ok(event)
    }

    /// Reads the body of a delivery.
    ///
    /// # Errors
    /// `not_json`, `event_id`, `event_type`.
    pub fn read(body: &[u8]) -> Result<Self, Refusal> {
        let value = parse(body)?;
        let id = word(&value, "id", "event_id", LONGEST_ID)?;
        let event_type = word(&value, "event_type", "event_type", LONGEST_TYPE)?;
        let created_at = value["create_time"].as_str().and_then(|text| text.parse().ok());
        Ok(Self { id, event_type, created_at, value })
    }
}

/// Reads one JSON object.
///
/// # Errors
/// `not_json`: not JSON, not UTF-8, not an object, nested too deep, or with a name twice.
pub fn parse(bytes: &[u8]) -> Result<Value, Refusal> {
    let refused =
        |fault: &dyn fmt::Display| Refusal::new("not_json", format!("the body is not a JSON object: {fault}"));
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict.deserialize(&mut reader).map_err(|fault| refused(&fault))?;
    reader.end().map_err(|fault| refused(&fault))?;
    if value.is_object() { Ok(value) } else { Err(refused(&"it is something else")) }
}

/// A member that is a word: it goes into keys, logs and tables.
pub(super) fn word(value: &Value, name: &str, code: &'static str, longest: usize) -> Result<String, Refusal> {
    let refused = |why: String| Refusal::new(code, format!("`{name}` {why}"));
    let Some(text) = value[name].as_str() else { return Err(refused("must be there, and text".to_owned())) };
    if text.is_empty() || text.len() > longest {
        return Err(refused(format!("must have 1 to {longest} bytes, it has {}", text.len())));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused("has characters that do not belong there".to_owned()));
    }
    Ok(text.to_owned())
}

#[derive(Clone, Copy)]
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("a number that is none"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let (mut map, mut seen) = (Map::new(), HashSet::new());
        while let Some(name) = members.next_key::<String>()? {
            if !seen.insert(name.clone()) {
                return Err(A::Error::custom(format_args!("the name {name:?} comes twice")));
            }
            let value = members.next_value_seed(self)?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}
