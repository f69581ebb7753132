//! The symbol directories of the exchanges, `nasdaqlisted.txt` and `otherlisted.txt`
//! (<https://www.nasdaqtrader.com/trader.aspx?id=symboldirdefs>), and the SEC's `company_tickers.json`.
//!
//! What a line is follows from its flags. The letters of a symbol say nothing: UBER, PLTR, SNOW, DOW and KR end like rights,
//! units and warrants and are none.

use std::borrow::Cow;
use std::collections::HashMap;

use chrono::{DateTime, NaiveDateTime, Utc};
use chrono_tz::America::New_York;
use serde::Deserialize;

use super::universe::{Listing, UniverseError, symbol_of};
use crate::config::ListingKind;

/// Begins the last line of a directory.
const FOOTER: &str = "File Creation Time";

/// Which of the two directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryKind {
    /// What is listed on Nasdaq.
    NasdaqListed,
    /// What is listed elsewhere.
    OtherListed,
}

/// One directory, read whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// Each line with what its flags say.
    pub lines: Vec<(Listing, Vec<ListingKind>)>,
    /// Symbols with characters that none has; each with its line number.
    pub unreadable: Vec<(usize, String)>,
    /// When the exchange made it, as it is written there: `mmddyyyyhh:mm`, New York time.
    pub created: String,
}

/// Where the columns are.
struct Columns {
    symbol: usize,
    name: usize,
    exchange: Option<usize>,
    test: usize,
    etf: usize,
    status: Option<usize>,
    next_shares: Option<usize>,
    count: usize,
}

impl Directory {
    /// How many lines it has, usable or not.
    pub fn len(&self) -> usize {
        self.lines.len() + self.unreadable.len()
    }

    /// When the exchange made it; `None` where that cannot be read.
    pub fn made_at(&self) -> Option<DateTime<Utc>> {
        let made = NaiveDateTime::parse_from_str(&self.created, "%m%d%Y%H:%M").ok()?;
        Some(made.and_local_timezone(New_York).earliest()?.to_utc())
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the text of a directory. A symbol that cannot be spelt here is kept apart, it does not cost the others.
    ///
    /// # Errors
    /// A column that is missing, a line with another number of fields than the first, no line at all, or no line that says
    /// when the file was made: it comes last, so without it the file is not whole.
    pub fn parse(kind: DirectoryKind, text: &str, origin: &str) -> Result<Self, UniverseError> {
        Self::read(kind, text).map_err(|message| UniverseError::new(origin, message))
    }

    fn read(kind: DirectoryKind, text: &str) -> Result<Self, String> {
        let text = text.trim_start_matches('\u{feff}');
        let mut lines = text.lines().zip(1_usize..).filter(|(line, _)| !line.trim().is_empty());
        let (header, _) = lines.next().ok_or("it is empty; fetch it again")?;
        let columns = Columns::of(kind, header)?;
        let mut directory = Self { lines: Vec::new(), unreadable: Vec::new(), created: String::new() };
        for (line, number) in lines {
            if !directory.created.is_empty() {
                return Err(format!("line {number}: there is more after the {FOOTER:?}; fetch it again"));
            }
            let fields: Vec<&str> = line.split('|').map(str::trim).collect();
            if let Some(created) = line.strip_prefix(FOOTER) {
                directory.created = created.trim_start_matches(':').split('|').next().unwrap_or_default().trim().into();
                continue;
            }
            if fields.len() != columns.count {
                let (has, wants) = (fields.len(), columns.count);
                return Err(format!("line {number}: {has} fields for {wants} columns; fetch it again"));
            }
            match columns.listing(kind, &fields) {
                Ok(listing) => directory.lines.push((listing, columns.flags(&fields))),
                Err(_) => directory.unreadable.push((number, fields[columns.symbol].to_owned())),
            }
        }
        if directory.created.is_empty() {
            return Err(format!("the last line must be the {FOOTER:?}: the file is not whole; fetch it again"));
        }
        if directory.is_empty() {
            return Err("there is no symbol in it; fetch it again".to_owned());
        }
        Ok(directory)
    }
}

impl Columns {
    fn of(kind: DirectoryKind, header: &str) -> Result<Self, String> {
        let names: Vec<&str> = header.split('|').map(str::trim).collect();
        let place = |wanted: &str| names.iter().position(|name| name.eq_ignore_ascii_case(wanted));
        let needed = |wanted: &str| {
            place(wanted).ok_or_else(|| format!("the first line has no column {wanted:?}; is it the right file?"))
        };
        let nasdaq = kind == DirectoryKind::NasdaqListed;
        Ok(Self {
            symbol: needed(if nasdaq { "Symbol" } else { "ACT Symbol" })?,
            name: needed("Security Name")?,
            exchange: if nasdaq { None } else { Some(needed("Exchange")?) },
            test: needed("Test Issue")?,
            etf: needed("ETF")?,
            status: if nasdaq { Some(needed("Financial Status")?) } else { None },
            next_shares: place("NextShares"),
            count: names.len(),
        })
    }

    /// The ACT symbol is spelt as ours: `BRK.B`, `BAC$K`, `ACHR.W`.
    fn listing(&self, kind: DirectoryKind, fields: &[&str]) -> Result<Listing, String> {
        let venue = self.exchange.map(|place| fields[place]).unwrap_or_default();
        let exchange = match (kind, venue) {
            (DirectoryKind::NasdaqListed, _) => "NASDAQ",
            (_, "N") => "NYSE",
            (_, "A") => "NYSE American",
            (_, "P") => "NYSE Arca",
            (_, "Z") => "Cboe BZX",
            (_, "V") => "IEX",
            (_, other) => other,
        };
        Ok(Listing {
            symbol: symbol_of(fields[self.symbol])?,
            name: fields[self.name].to_owned(),
            exchange: exchange.to_owned(),
            etf: fields[self.etf] == "Y",
            ..Listing::default()
        })
    }

    /// Financial Status: D deficient, E delinquent, Q bankrupt; G, H, J and K are two or all of them at once.
    fn flags(&self, fields: &[&str]) -> Vec<ListingKind> {
        let says = |place: Option<usize>, letters: &str| {
            place.is_some_and(|place| !fields[place].is_empty() && letters.contains(fields[place]))
        };
        let flags = [
            (ListingKind::TestIssue, says(Some(self.test), "Y")),
            (ListingKind::Etf, says(Some(self.etf), "Y")),
            (ListingKind::NextShares, says(self.next_shares, "Y")),
            (ListingKind::Deficient, says(self.status, "D G H K")),
            (ListingKind::Delinquent, says(self.status, "E H J K")),
            (ListingKind::Bankrupt, says(self.status, "Q G J K")),
        ];
        flags.into_iter().filter(|(_, holds)| *holds).map(|(kind, _)| kind).collect()
    }
}

/// What the SEC knows of a company.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Company {
    /// Its number there.
    pub cik: u32,
    /// Its name.
    pub name: String,
}

#[derive(Deserialize)]
struct CompanyLine<'a> {
    cik_str: u32,
    #[serde(borrow)]
    ticker: Cow<'a, str>,
    #[serde(borrow)]
    title: Cow<'a, str>,
}

/// Reads `company_tickers.json`: companies by symbol, in our spelling.
///
/// # Errors
/// When it is not that file, or not whole.
pub fn parse_companies(text: &str, origin: &str) -> Result<HashMap<String, Company>, UniverseError> {
    let lines: HashMap<Cow<'_, str>, CompanyLine<'_>> = serde_json::from_str(text)
        .map_err(|fault| UniverseError::new(origin, format!("this is not company_tickers.json: {fault}")))?;
    if lines.is_empty() {
        return Err(UniverseError::new(origin, "there is no company in it; fetch it again".to_owned()));
    }
    let companies = lines.into_values().filter_map(|line| {
        let symbol = symbol_of(&spelt_by_sec(&line.ticker)).ok()?;
        Some((symbol, Company { cik: line.cik_str, name: line.title.trim().to_owned() }))
    });
    Ok(companies.collect())
}

/// `BRK-B` there is `BRK.B` here, `BAC-PK` is `BAC$K`, `TY-P` is `TY$`, `ACHR-WT` is `ACHR.W`, `XYZ-UN` is `XYZ.U`, `XYZ-RI` is `XYZ.R`.
fn spelt_by_sec(ticker: &str) -> Cow<'_, str> {
    let Some((root, suffix)) = ticker.split_once('-') else { return Cow::Borrowed(ticker) };
    Cow::Owned(match suffix {
        "WT" | "WS" => format!("{root}.W"),
        "UN" => format!("{root}.U"),
        "RI" => format!("{root}.R"),
        preferred if preferred.starts_with('P') => format!("{root}${}", &preferred[1..]),
        class => format!("{root}.{class}"),
    })
}
