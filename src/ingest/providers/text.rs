//! What providers' texts have in common: words that may be shown, numbers that are none, times of any unit.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::de::{Deserialize, Deserializer, Visitor};

/// What a provider says goes into logs and answers, so it is cut and stripped of what does not print.
pub(super) fn shown(text: &str, longest: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(longest).collect()
}

/// The body with each bare `NaN`, `Infinity` and `-Infinity` as `null`: some servers write them, and one would cost every
/// symbol of the answer. `None` when there is none, so that a body that is broken otherwise is not read twice.
pub(super) fn without_nan(body: &[u8]) -> Option<Vec<u8>> {
    const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let mut mended = Vec::with_capacity(body.len());
    let (mut at, mut quoted, mut found) = (0, false, false);
    while let Some(byte) = body.get(at) {
        let word = WORDS.iter().find(|word| !quoted && body[at..].starts_with(word));
        if let Some(word) = word {
            mended.extend_from_slice(b"null");
            at += word.len();
            found = true;
            continue;
        }
        match byte {
            b'\\' if quoted => {
                mended.push(*byte);
                at += 1;
                mended.extend(body.get(at));
            }
            b'"' => {
                quoted = !quoted;
                mended.push(*byte);
            }
            _ => mended.push(*byte),
        }
        at += 1;
    }
    found.then_some(mended)
}

/// A Unix time whose unit follows from its size: the four ranges do not meet before the year 5138.
pub(super) fn instant(time: f64) -> Option<DateTime<Utc>> {
    const MICROSECONDS_FROM: i64 = 100_000_000_000_000;
    const MILLISECONDS_FROM: i64 = 100_000_000_000;
    // A binary number holds nanoseconds of this century to a quarter of a microsecond, which is finer than is kept.
    let micros = match time as i64 {
        ..=0 => return None,
        t if t >= MICROSECONDS_FROM * 1_000 => t / 1_000,
        t if t >= MICROSECONDS_FROM => t,
        t if t >= MILLISECONDS_FROM => t.checked_mul(1_000)?,
        t => t.checked_mul(1_000_000)?,
    };
    DateTime::from_timestamp_micros(micros)
}

/// A text of a JSON body, borrowed from it unless it holds an escape. Inside of an `Option`, and as a key of a map, serde makes an
/// owned text of every `Cow` (serde-rs/serde#2016); of this it does not.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text<'a>(Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads;

        impl<'de> Visitor<'de> for Reads {
            type Value = Text<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Reads)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_word_that_is_no_number_becomes_unset_and_texts_are_left_alone() {
        let mended = |text: &str| without_nan(text.as_bytes()).map(|body| String::from_utf8(body).unwrap());
        assert_eq!(mended(r#"{"a":NaN,"b":-Infinity}"#).as_deref(), Some(r#"{"a":null,"b":null}"#));
        assert_eq!(
            mended(r#"{"NaN":"a \" NaN","c":[1,Infinity]}"#).as_deref(),
            Some(r#"{"NaN":"a \" NaN","c":[1,null]}"#)
        );
        assert_eq!(mended(r#"{"a":"NaN"}"#), None);
        assert_eq!(mended(r#"{"a":"cut \"#), None);
    }

    #[test]
    fn a_text_is_borrowed_wherever_it_stands_unless_it_holds_an_escape() {
        let body = r#"{"a":"plain","b":"an \"escape\"","\u0063":"x"}"#;
        let read: BTreeMap<Text<'_>, Option<Text<'_>>> = serde_json::from_str(body).unwrap();
        let told: Vec<_> = read
            .iter()
            .map(|(key, value)| {
                let value = value.as_ref().unwrap();
                (&**key, matches!(key.0, Cow::Borrowed(_)), &**value, matches!(value.0, Cow::Borrowed(_)))
            })
            .collect();
        assert_eq!(told, [("a", true, "plain", true), ("b", true, "an \"escape\"", false), ("c", false, "x", true)]);
    }
}
