//! What providers' texts have in common: words that may be shown, numbers that are none, times of any unit, spellings.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

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

/// How a source spells what is special in a symbol. Ours is the exchange's: `BAC$K` a preferred series, `ACHR.W` a warrant,
/// `BRK.B` a class.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spelling {
    /// Between a root and its preferred series; for a share without a series it ends the symbol.
    pub(super) preferred: &'static str,
    /// At the end of a warrant.
    pub(super) warrant: &'static str,
    /// Before a class, a unit, a right.
    pub(super) class: &'static str,
}

impl Spelling {
    /// Our symbol in theirs.
    pub(super) fn theirs<'a>(&self, ours: &'a str) -> Cow<'a, str> {
        let (root, rest) = ours.split_once('$').map_or((ours, None), |(root, series)| (root, Some(series)));
        let spelt = |text: &str| match text.strip_suffix(".W") {
            Some(root) => format!("{root}{}", self.warrant),
            None => text.replace('.', self.class),
        };
        match rest {
            None if !root.contains('.') => Cow::Borrowed(ours),
            None => Cow::Owned(spelt(root)),
            Some(series) => Cow::Owned(format!("{}{}{}", spelt(root), self.preferred, spelt(series))),
        }
    }

    /// Their symbol in ours.
    pub(super) fn ours<'a>(&self, theirs: &'a str) -> Cow<'a, str> {
        if let Some(root) = theirs.strip_suffix(self.warrant).filter(|root| !root.is_empty()) {
            return Cow::Owned(format!("{}.W", self.ours(root)));
        }
        // The mark of a preferred series stands behind a root; what follows are capitals.
        let series = theirs.split_once(self.preferred).filter(|(root, series)| {
            let capitals = |c: char| c.is_ascii_uppercase() || self.class.contains(c);
            !root.is_empty() && series.chars().all(capitals)
        });
        match series {
            Some((root, series)) => {
                Cow::Owned(format!("{}${}", root.replace(self.class, "."), series.replace(self.class, ".")))
            }
            None if theirs.contains(self.class) && self.class != "." => Cow::Owned(theirs.replace(self.class, ".")),
            None => Cow::Borrowed(theirs),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    const SPELLINGS: [Spelling; 3] = [
        Spelling { preferred: "p", warrant: ".WS", class: "." },
        Spelling { preferred: ".PR", warrant: ".WS", class: "." },
        Spelling { preferred: "-P-", warrant: "-WS", class: "-" },
    ];

    proptest! {
        #[test]
        fn a_symbol_comes_back_as_it_went(symbol in "[A-Z]{1,4}(\\.[A-CE-OQ-VX]|\\.W|\\$[A-OQ-Z])?") {
            for spelling in SPELLINGS {
                let theirs = spelling.theirs(&symbol).into_owned();
                prop_assert_eq!(spelling.ours(&theirs).into_owned(), symbol.clone(), "{}", theirs);
            }
        }
    }
}
