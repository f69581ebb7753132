//! Quotes from a CSV text: a file of this host, or the answer of a URL, read anew for each cycle.
//!
//! The first line names the columns, in any order: `symbol`, `price` and `at` (the time of the quote: RFC 3339, or Unix time in
//! seconds, milliseconds, microseconds or nanoseconds) must be there, `previous_close`, `open`, `high`, `low`, `bid`, `ask` and
//! `volume` may; others are left alone, and an empty field is not known. A line is a quote: text in quotes does not go on in the
//! next one, and the last ends with a line break too. A line that cannot be read is named by its number and costs that line only.

use std::time::Duration;

use ::csv::{ReaderBuilder, StringRecord};
use chrono::{DateTime, Utc};
use reqwest::{StatusCode, Url};
use secrecy::ExposeSecret;

use super::http::Http;
use super::text::{instant, shown};
use super::{Answer, Call, Description, FetchError, Provider, RawQuote};
use crate::config::{CsvConfig, CsvSource};
use crate::ingest::budget::{Permit, Quota};
use crate::market::Universe;

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// Lines that are named one by one; the rest is counted.
const NAMED_LINES: usize = 3;

/// The reader of one source.
#[derive(Debug)]
pub struct Csv {
    http: Http,
    config: CsvConfig,
}

impl Csv {
    /// A reader; nothing is read yet.
    ///
    /// # Errors
    /// When the host has no usable TLS roots.
    pub fn new(config: &CsvConfig) -> Result<Self, FetchError> {
        Ok(Self { http: Http::new("csv", config.timeout)?, config: config.clone() })
    }

    async fn text(&self, permit: &Permit) -> Result<String, FetchError> {
        let bytes = match &self.config.source {
            CsvSource::File(path) => {
                let fault = |cause: std::io::Error| FetchError::Down {
                    after: None,
                    message: format!("csv: {}: {cause}", path.display()),
                };
                let size = tokio::fs::metadata(path).await.map_err(fault)?.len();
                if size > MAX_FILE_BYTES {
                    let message = format!("csv: {} is larger than {MAX_FILE_BYTES} bytes", path.display());
                    return Err(FetchError::Fail(message));
                }
                tokio::fs::read(path).await.map_err(fault)?
            }
            CsvSource::Url(url) => self.get(url, permit).await?,
        };
        String::from_utf8(bytes).map_err(|fault| {
            let at = fault.utf8_error().valid_up_to();
            FetchError::Fail(format!("csv: byte {} is not UTF-8; write the text in UTF-8", at + 1))
        })
    }

    async fn get(&self, url: &Url, permit: &Permit) -> Result<Vec<u8>, FetchError> {
        let mut call = self.http.client.get(url.clone());
        if let Some(key) = &self.config.api_key {
            call = call.bearer_auth(key.expose_secret());
        }
        let reply = self.http.send(call, permit).await?;
        if reply.status == StatusCode::OK {
            return Ok(reply.body);
        }
        Err(self.http.refusal(&reply, "", "ingest.csv.api_key"))
    }
}

impl Provider for Csv {
    fn description(&self) -> Description {
        Description {
            name: "csv",
            source: "csv",
            simulated: false,
            quota: Quota::in_any_window(60, Duration::from_mins(1)),
            max_batch: usize::MAX,
            whole_market: true,
            delay: self.config.lag(),
            delay_class: self.config.delay,
            licence_class: self.config.licence,
        }
    }

    fn fetch<'a>(&'a self, universe: &'a Universe, _batch: &'a [usize], permit: Permit) -> Call<'a> {
        Box::pin(async move { read(&self.text(&permit).await?, universe) })
    }
}

/// Where the columns are.
struct Columns {
    symbol: usize,
    price: usize,
    at: usize,
    known: [Option<usize>; 7],
    count: usize,
}

impl Columns {
    fn of(header: &StringRecord) -> Result<Self, FetchError> {
        let place = |wanted: &str| header.iter().position(|name| name.trim().eq_ignore_ascii_case(wanted));
        let demanded = |wanted: &str| {
            place(wanted).ok_or_else(|| {
                let first = shown(&header.iter().collect::<Vec<_>>().join(","), 80);
                // Some servers answer with a text that is no table, and HTTP 200.
                let message = format!(
                    "csv: line 1 has no column `{wanted}`: {first:?}; name the columns symbol, price and at there"
                );
                FetchError::Retry { after: None, message }
            })
        };
        Ok(Self {
            symbol: demanded("symbol")?,
            price: demanded("price")?,
            at: demanded("at")?,
            known: ["previous_close", "open", "high", "low", "bid", "ask", "volume"].map(place),
            count: header.len(),
        })
    }

    /// A line as a quote of its symbol.
    fn quote<'r>(&self, record: &'r StringRecord) -> Result<(&'r str, RawQuote), String> {
        let field = |place: usize| record.get(place).unwrap_or_default().trim();
        let number = |place: usize| -> Result<Option<f64>, String> {
            let text = field(place);
            let number = || text.parse::<f64>().ok().filter(|number| number.is_finite());
            match text {
                "" => Ok(None),
                _ => number().map(Some).ok_or_else(|| format!("{:?} is not a number", shown(text, 40))),
            }
        };
        // A comma in a number, say, moves what follows into columns of others.
        if record.iter().skip(self.count).any(|field| !field.trim().is_empty()) {
            return Err(format!("{} fields for {} columns", record.len(), self.count));
        }
        let symbol = field(self.symbol);
        if symbol.is_empty() {
            return Err("the symbol is missing".to_owned());
        }
        let mut known = [None; 7];
        for (value, place) in known.iter_mut().zip(self.known) {
            *value = place.map(number).transpose()?.flatten();
        }
        let [previous_close, open, high, low, bid, ask, volume] = known;
        let (at, price) = (time(field(self.at))?, number(self.price)?);
        Ok((symbol, RawQuote { at, price, previous_close, open, high, low, bid, ask, volume, halted: false }))
    }
}

fn time(text: &str) -> Result<Option<DateTime<Utc>>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let written = DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc());
    let found = written.or_else(|| text.parse().ok().and_then(instant));
    let wrong = || format!("{:?} is no time; write 2027-03-15T14:00:00Z or Unix time", shown(text, 40));
    found.map(Some).ok_or_else(wrong)
}

/// The fields of one line.
fn record_of(line: &str) -> Result<StringRecord, String> {
    if !line.contains('"') {
        return Ok(StringRecord::from_iter(line.split(',')));
    }
    // Its own end is part of a field only where a quote is still open.
    let whole = format!("{line}\n");
    let mut reader = ReaderBuilder::new().has_headers(false).from_reader(whole.as_bytes());
    let mut record = StringRecord::new();
    reader.read_record(&mut record).map_err(|fault| fault.to_string())?;
    if record.iter().any(|field| field.contains('\n')) {
        return Err("a quote (\") is not closed before the line ends".to_owned());
    }
    Ok(record)
}

fn read(text: &str, universe: &Universe) -> Result<Answer, FetchError> {
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = text.lines().zip(1_usize..).filter(|(line, _)| !line.is_empty());
    let unreadable = |fault: String| FetchError::Retry { after: None, message: format!("csv: line 1: {fault}") };
    let header = lines.next().map_or(Ok(StringRecord::new()), |(line, _)| record_of(line)).map_err(unreadable)?;
    let columns = Columns::of(&header)?;
    let (mut quotes, mut bad) = (Vec::new(), Vec::new());
    // A number at the end of a text that was cut off is another number.
    let cut_off = if text.ends_with('\n') { 0 } else { text.lines().count() };
    for (line, number) in lines {
        let whole =
            if number == cut_off { Err("it is not whole; end it with a line break".to_owned()) } else { Ok(line) };
        let read = whole.and_then(record_of).and_then(|record| {
            let (symbol, quote) = columns.quote(&record)?;
            Ok(universe.position(symbol).map(|index| (index, quote)))
        });
        match read {
            Ok(quote) => quotes.extend(quote),
            Err(fault) => bad.push(format!("line {number}: {fault}")),
        }
    }
    let remark = (!bad.is_empty()).then(|| {
        let more = bad.len().saturating_sub(NAMED_LINES);
        bad.truncate(NAMED_LINES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("csv: {}{more}", bad.join("; "))
    });
    Ok(Answer { quotes, delayed: false, remarks: remark.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn universe() -> Universe {
        Universe::parse_csv("symbol\nAAPL\nBRK.A\nMSFT\n", "test").unwrap()
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_and_costs_itself_only() {
        let text = "\u{feff}Price,at,SYMBOL,volume,note\n\
            712345.5,2027-03-15T14:00:00Z,BRK.A,,x\n\
            12.5,soon,AAPL,1\n\
            1O.5,2027-03-15T14:00:00Z,MSFT,1\n\
            10.5,1805119200,MSFT,0\n\
            10.5,1805119200,OTHER,0\n\
            NaN,1805119200,AAPL,0\n\
            1,1805119200,,0\n";
        let answer = read(text, &universe()).unwrap();
        let told: Vec<_> = answer.quotes.iter().map(|(index, quote)| (*index, quote.price, quote.volume)).collect();
        assert_eq!(told, [(1, Some(712_345.5), None), (2, Some(10.5), Some(0.0))]);
        assert_eq!(answer.quotes[1].1.at.unwrap().to_rfc3339(), "2027-03-15T14:00:00+00:00");
        insta::assert_snapshot!(answer.remarks[0], @r#"csv: line 3: "soon" is no time; write 2027-03-15T14:00:00Z or Unix time; line 4: "1O.5" is not a number; line 7: "NaN" is not a number and 1 more"#);
    }

    #[test]
    fn a_quote_that_is_not_closed_costs_its_own_line() {
        let text = "symbol,note,price,at\r\n\
            AAPL,\"5\" disk,1.5,1805119200\r\n\
            BRK.A,\"a, \"\"b\"\"\",2.5,1805119200\r\n\
            \r\n\
            MSFT,\",3.5,1805119200\r\n\
            MSFT,x,4.5,1805119200\r\n\
            AAPL,x,1,234.5,1805119200\r\n\
            AAPL,\"x\",5.5,1805119200,,\r\n";
        let answer = read(text, &universe()).unwrap();
        let told: Vec<_> = answer.quotes.iter().map(|(index, quote)| (*index, quote.price.unwrap())).collect();
        assert_eq!(told, [(0, 1.5), (1, 2.5), (2, 4.5), (0, 5.5)]);
        insta::assert_snapshot!(answer.remarks[0], @r#"csv: line 5: a quote (") is not closed before the line ends; line 7: 5 fields for 4 columns"#);
        let cut_off = read("symbol,at,price\nAAPL,1805119200,1.5\nMSFT,1805119200,23", &universe()).unwrap();
        assert_eq!(cut_off.quotes.len(), 1, "it may have been 23.5");
        assert_eq!(cut_off.remarks, ["csv: line 3: it is not whole; end it with a line break"]);
        let told = read("symbol,\"price,at\nAAPL,1,1805119200\n", &universe()).unwrap_err().to_string();
        assert_eq!(told, "csv: line 1: a quote (\") is not closed before the line ends");
    }

    #[test]
    fn what_is_no_table_says_so() {
        let told = |text: &str| read(text, &universe()).unwrap_err().to_string();
        assert_eq!(
            told("Exceeded the daily hits limit"),
            "csv: line 1 has no column `symbol`: \"Exceeded the daily hits limit\"; name the columns symbol, price and at there"
        );
        assert!(told("").contains("line 1 has no column `symbol`"));
        assert!(told("symbol,price\nAAPL,1\n").contains("no column `at`"));
    }

    proptest! {
        #[test]
        fn no_text_breaks_the_reading(text in "(symbol,price,at\n)?[A-Z0-9,\"\n .:-]{0,200}") {
            let _ = read(&text, &universe());
        }
    }
}
