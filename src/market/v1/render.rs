//! Quotes as JSON, as a table, and as one object a line.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::super::{Body, Listing, Meta, Snapshot};
use super::{Cursor, Field, Page};

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One object that holds the list and what is said about it.
    Json,
    /// RFC 4180, with the names of the fields in the first line.
    Csv,
    /// One object a line.
    Ndjson,
}

impl Format {
    /// The one that is sent where the client likes all alike comes first.
    pub const ALL: [Self; 3] = [Self::Json, Self::Csv, Self::Ndjson];

    /// As `Accept` names it.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// As `Content-Type` names it.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            _ => self.media_type(),
        }
    }
}

/// One quote, with the fields that were asked for.
struct Row<'a> {
    snapshot: &'a Snapshot,
    listing: &'a Listing,
    index: usize,
    fields: &'a [Field],
}

impl<'a> Row<'a> {
    fn of(snapshot: &'a Snapshot, index: usize, fields: &'a [Field]) -> Option<Self> {
        let listing = snapshot.universe.listings().get(index)?;
        Some(Self { snapshot, listing, index, fields })
    }
}

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for field in self.fields {
            map.serialize_entry(field.name(), &field.value(self.listing, &self.snapshot.quotes, self.index))?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Quotes<'a> {
    quotes: &'a [Row<'a>],
    count: usize,
    total: usize,
    next_cursor: Option<String>,
    unknown: &'a [String],
    unquoted: &'a [String],
    meta: &'a Meta,
}

/// `GET /api/v1/quotes`: a page with the `fields` that were asked for. A table and lines hold the rows alone.
pub fn quotes(snapshot: &Snapshot, meta: &Meta, page: &Page, fields: &[Field], format: Format) -> Body {
    let rows: Vec<Row<'_>> = page.rows.iter().filter_map(|index| Row::of(snapshot, *index, fields)).collect();
    match format {
        Format::Csv => Body::of(table(&rows, fields)),
        Format::Ndjson => Body::of(lines(&rows)),
        Format::Json => Body::render(&Quotes {
            quotes: &rows,
            count: rows.len(),
            total: page.total,
            next_cursor: page.next.as_ref().map(Cursor::to_text),
            unknown: &page.unknown,
            unquoted: &page.unquoted,
            meta,
        }),
    }
}

fn lines(rows: &[Row<'_>]) -> Vec<u8> {
    let mut lines = Vec::new();
    for row in rows {
        // Writing plain values into memory has no way to fail.
        let _ = serde_json::to_writer(&mut lines, row);
        lines.push(b'\n');
    }
    lines
}

fn table(rows: &[Row<'_>], fields: &[Field]) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    let mut line = |cells: Vec<String>| {
        // The same.
        let _ = writer.write_record(cells);
    };
    line(fields.iter().map(|field| field.name().to_owned()).collect());
    for row in rows {
        let values = fields.iter().map(|field| field.value(row.listing, &row.snapshot.quotes, row.index).to_csv());
        line(values.collect());
    }
    writer.into_inner().unwrap_or_default()
}

#[derive(Serialize)]
struct One<'a> {
    quote: Row<'a>,
    meta: &'a Meta,
}

/// `GET /api/v1/quotes/{symbol}`; `None` where the symbol is unknown or was never quoted.
pub fn quote(snapshot: &Snapshot, meta: &Meta, symbol: &str, fields: &[Field]) -> Option<Body> {
    let index = snapshot.universe.position_ignoring_case(symbol).filter(|index| snapshot.quotes.is_quoted(*index))?;
    Some(Body::render(&One { quote: Row::of(snapshot, index, fields)?, meta }))
}
