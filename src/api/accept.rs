//! What a client says it understands: content codings and media types, by their weights (RFC 9110, 12.4 and 12.5).

use std::sync::LazyLock;

use poem::http::header::{self, HeaderName};
use poem::http::{HeaderMap, HeaderValue};

use crate::market::Encoding;

/// A weight in thousandths; 0 is refused.
type Weight = u16;

/// The encodings an answer may be sent in, the one the client likes best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encodings {
    wanted: [Encoding; Encoding::ALL.len()],
    count: usize,
}

/// What nearly all clients say. It is taken apart once: each time it would cost more than any other step of a hot answer.
static USUAL: LazyLock<[(&[u8], Encodings); 6]> = LazyLock::new(|| {
    let usual =
        ["gzip, deflate, br, zstd", "gzip, deflate, br", "br, gzip, deflate", "gzip, deflate", "gzip", "identity"];
    usual.map(|text| {
        let headers = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(text))]);
        (text.as_bytes(), Encodings::taken_apart(&headers))
    })
});

impl Encodings {
    /// Of a request. What it likes alike comes smallest first; as it is comes last, unless it is named. A client that says
    /// nothing gets answers as they are, and so does one that refuses all there is: it is told more by them than by a 406.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut lines = headers.get_all(header::ACCEPT_ENCODING).iter();
        let usual = lines
            .next()
            .filter(|_| lines.next().is_none())
            .and_then(|said| USUAL.iter().find(|(text, _)| *text == said.as_bytes()).map(|(_, encodings)| *encodings));
        usual.unwrap_or_else(|| Self::taken_apart(headers))
    }

    fn taken_apart(headers: &HeaderMap) -> Self {
        let mut encodings = Self { wanted: [Encoding::Identity; Encoding::ALL.len()], count: 0 };
        let mut weights = weights(headers);
        // A handful of times through four weights, without memory from the heap.
        while let Some(best) = weights.iter().copied().max().filter(|best| *best > 0) {
            for (weight, encoding) in weights.iter_mut().zip(Encoding::ALL).filter(|(weight, _)| **weight == best) {
                *weight = 0;
                encodings.wanted[encodings.count] = encoding;
                encodings.count += 1;
            }
        }
        encodings
    }

    /// Best first.
    pub fn wanted(&self) -> &[Encoding] {
        &self.wanted[..self.count]
    }
}

/// In the order of [`Encoding::ALL`].
fn weights(headers: &HeaderMap) -> [Weight; Encoding::ALL.len()] {
    let (mut named, mut others) = ([None; Encoding::ALL.len()], None);
    for (name, weight) in items(headers, &header::ACCEPT_ENCODING) {
        // An older name of gzip (RFC 9110, 8.4.1.3).
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        match Encoding::ALL.iter().position(|encoding| name.eq_ignore_ascii_case(encoding.name())) {
            Some(place) => named[place] = Some(weight),
            None if name == "*" => others = Some(weight),
            None => {}
        }
    }
    let unsaid = Encoding::ALL.map(|encoding| u16::from(encoding == Encoding::Identity));
    std::array::from_fn(|place| named[place].or(others).unwrap_or(unsaid[place]))
}

/// The first of `offered` media types that the client likes best; `None` where it refuses each.
pub fn media_type(headers: &HeaderMap, offered: &[&'static str]) -> Option<&'static str> {
    if !headers.contains_key(header::ACCEPT) {
        return offered.first().copied();
    }
    let weight = |offered: &str| {
        let family = offered.split('/').next().unwrap_or_default();
        // The closest range counts (RFC 9110, 12.5.1): the type itself, then its family, then anything.
        let closeness = |range: &str| match range {
            "*/*" => Some(1),
            _ if range.eq_ignore_ascii_case(offered) => Some(3),
            _ => range.strip_suffix("/*").filter(|given| given.eq_ignore_ascii_case(family)).map(|_| 2),
        };
        let ranges = items(headers, &header::ACCEPT);
        let matching = ranges.filter_map(|(range, weight)| Some((closeness(range)?, weight)));
        matching.max_by_key(|(closeness, _)| *closeness).map_or(0, |(_, weight)| weight)
    };
    let mut best: Option<(Weight, &'static str)> = None;
    for offered in offered {
        let weight = weight(offered);
        if weight > best.map_or(0, |(weight, _)| weight) {
            best = Some((weight, offered));
        }
    }
    best.map(|(_, offered)| offered)
}

/// The names in a header of several lines, each with its weight. A name with a weight that is none counts as refused.
fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = (&'a str, Weight)> + use<'a> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).filter_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        Some((name, weight.map_or(1_000, |text| thousandths(text).unwrap_or(0))))
    })
}

/// `0.5` as 500; at most three places, at most 1.
fn thousandths(text: &str) -> Option<Weight> {
    let (whole, places) = text.split_once('.').unwrap_or((text, ""));
    let digits = places.len() <= 3 && places.bytes().all(|byte| byte.is_ascii_digit());
    let part = if digits { format!("{places:0<3}").parse::<Weight>().ok()? } else { return None };
    match whole {
        "0" => Some(part),
        "1" if part == 0 => Some(1_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (name.clone(), line.parse().unwrap())).collect()
    }

    #[test]
    fn a_client_gets_the_encoding_it_likes_best_and_the_smallest_of_several() {
        let shown = |lines: &[&str]| {
            let encodings = Encodings::of(&headers(header::ACCEPT_ENCODING, lines));
            let names: Vec<_> = encodings.wanted().iter().map(|encoding| encoding.name()).collect();
            format!("{:45} {}", lines.join(" | "), names.join(" ")).trim_end().to_owned()
        };
        let table: Vec<String> = [
            &[][..],
            &[""],
            &["gzip"],
            &["gzip, deflate, br, zstd"],
            &["GZip;q=1.0, BR;q=0.5"],
            &["gzip", "zstd"],
            &["x-gzip"],
            &["*"],
            &["gzip;q=0.2, *;q=0.8"],
            &["br;q=0, *"],
            &["identity;q=0.5, gzip;q=0.4"],
            &["identity;q=0"],
            &["*;q=0"],
            &["br;q=0.0001, gzip;q=2, zstd;q=x"],
            &["br ; q=0.3,, deflate"],
        ]
        .into_iter()
        .map(shown)
        .collect();
        insta::assert_snapshot!(table.join("\n"), @"
                                                          identity
                                                          identity
            gzip                                          gzip identity
            gzip, deflate, br, zstd                       br zstd gzip identity
            GZip;q=1.0, BR;q=0.5                          gzip br identity
            gzip | zstd                                   zstd gzip identity
            x-gzip                                        gzip identity
            *                                             br zstd gzip identity
            gzip;q=0.2, *;q=0.8                           br zstd identity gzip
            br;q=0, *                                     zstd gzip identity
            identity;q=0.5, gzip;q=0.4                    identity gzip
            identity;q=0
            *;q=0
            br;q=0.0001, gzip;q=2, zstd;q=x               identity
            br ; q=0.3,, deflate                          br identity
            ");
    }

    #[test]
    fn a_client_gets_the_media_type_it_likes_best_or_is_refused() {
        const OFFERED: [&str; 3] = ["application/json", "text/csv", "application/x-ndjson"];
        let shown = |lines: &[&str]| {
            let chosen = media_type(&headers(header::ACCEPT, lines), &OFFERED);
            format!("{:60} {}", lines.join(" | "), chosen.unwrap_or("refused")).trim_end().to_owned()
        };
        let table: Vec<String> = [
            &[][..],
            &["*/*"],
            &["text/csv"],
            &["TEXT/*"],
            &["application/x-ndjson, application/json;q=0.9"],
            &["application/json;q=0.1, text/csv;q=0.2"],
            &["text/csv;q=0, */*;q=0.1"],
            &["application/json;q=0, application/*"],
            &["text/html, application/xhtml+xml, */*;q=0.8"],
            &["text/html"],
            &["application/json;q=0"],
            &["text/csv;header=present"],
        ]
        .into_iter()
        .map(shown)
        .collect();
        insta::assert_snapshot!(table.join("\n"), @"
                                                                     application/json
        */*                                                          application/json
        text/csv                                                     text/csv
        TEXT/*                                                       text/csv
        application/x-ndjson, application/json;q=0.9                 application/x-ndjson
        application/json;q=0.1, text/csv;q=0.2                       text/csv
        text/csv;q=0, */*;q=0.1                                      application/json
        application/json;q=0, application/*                          application/x-ndjson
        text/html, application/xhtml+xml, */*;q=0.8                  application/json
        text/html                                                    refused
        application/json;q=0                                         refused
        text/csv;header=present                                      text/csv
        ");
    }
}
