//! What is quoted: a list of symbols with what is known of each.

use csv::StringRecord;

/// The longest list that is taken.
const MOST_LISTINGS: usize = 50_000;

/// The longest symbol.
const LONGEST_SYMBOL: usize = 16;

/// One symbol. Empty text is what is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// As the site spells it: `BRK.B`, `BAC$K`.
    pub symbol: String,
    /// The company.
    pub name: String,
    /// `NYSE`, `NASDAQ`, `NYSE American`, ..
    pub exchange: String,
    /// Branch of industry.
    pub sector: String,
    /// It is a fund that is traded.
    pub etf: bool,
    /// The company's number at the SEC.
    pub cik: Option<u32>,
}

impl Listing {
    /// One of which the symbol alone is known.
    ///
    /// # Errors
    /// When `text` is no symbol; `origin` names where it was said.
    pub fn of_symbol(text: &str, origin: &str) -> Result<Self, UniverseError> {
        let symbol = symbol_of(text.trim()).map_err(|message| UniverseError::new(origin, message))?;
        Ok(Self { symbol, ..Self::default() })
    }

    /// Takes over what is open here and known there.
    pub(super) fn fill_from(&mut self, known: &Self) {
        let fill = |open: &mut String, known: &String| {
            if open.is_empty() {
                open.clone_from(known);
            }
        };
        fill(&mut self.name, &known.name);
        fill(&mut self.exchange, &known.exchange);
        fill(&mut self.sector, &known.sector);
        self.cik = self.cik.or(known.cik);
    }
}

/// Listings in order of their symbols, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Universe {
    listings: Vec<Listing>,
}

/// A list that cannot be used, with its line and the fix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {message}")]
pub struct UniverseError {
    origin: String,
    message: String,
}

impl UniverseError {
    pub(super) fn new(origin: &str, message: String) -> Self {
        Self { origin: origin.to_owned(), message }
    }
}

/// Where the columns are.
struct Columns {
    symbol: usize,
    name: Option<usize>,
    exchange: Option<usize>,
    sector: Option<usize>,
    count: usize,
}

impl Universe {
    /// Reads a CSV text with a `symbol` column and, in any order, `name`, `exchange` and `sector`; other columns are left
    /// alone.
    ///
    /// # Errors
    /// The first line that cannot be used: no symbol, a character that no symbol has, a field that goes on in the next line
    /// (a quote that was never closed would swallow symbols in silence), more fields than there are columns, one symbol too
    /// many; a symbol twice; an empty list.
    pub fn parse_csv(text: &str, origin: &str) -> Result<Self, UniverseError> {
        let refuse = |message: String| UniverseError { origin: origin.to_owned(), message };
        let mut rows = read_rows(text).map_err(refuse)?;
        if rows.is_empty() {
            return Err(refuse("there is no symbol in it; add a line for each".to_owned()));
        }
        rows.sort_by(|(_, a), (_, b)| a.symbol.cmp(&b.symbol));
        for pair in rows.windows(2) {
            let [(first, a), (second, b)] = pair else { continue };
            if a.symbol == b.symbol {
                return Err(refuse(format!("{} is on line {first} and again on line {second}; remove one", a.symbol)));
            }
        }
        Ok(Self { listings: rows.into_iter().map(|(_, listing)| listing).collect() })
    }

    /// A universe of `listings`, in any order.
    ///
    /// # Errors
    /// When there is none, one symbol too many, or a symbol twice.
    pub fn of(mut listings: Vec<Listing>, origin: &str) -> Result<Self, UniverseError> {
        let refuse = |message: String| Err(UniverseError::new(origin, message));
        if listings.is_empty() {
            return refuse("no symbol is left; look at what is left out and excluded".to_owned());
        }
        if listings.len() > MOST_LISTINGS {
            return refuse(format!("more than {MOST_LISTINGS} symbols; leave some out"));
        }
        listings.sort_by(|a, b| a.symbol.cmp(&b.symbol));
        if let Some(pair) = listings.windows(2).find(|pair| pair[0].symbol == pair[1].symbol) {
            return refuse(format!("{} is there twice; remove one", pair[0].symbol));
        }
        Ok(Self { listings })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.listings.len()
    }

    /// Never: an empty list is refused.
    pub fn is_empty(&self) -> bool {
        self.listings.is_empty()
    }

    /// All, in order of their symbols.
    pub fn listings(&self) -> &[Listing] {
        &self.listings
    }

    /// Where `symbol` is in the list; exactly as it is spelt there. Sources mean something by small letters (`ABCw` is not
    /// `ABCW`), so their spelling must not be folded.
    pub fn position(&self, symbol: &str) -> Option<usize> {
        self.listings.binary_search_by(|listing| listing.symbol.as_str().cmp(symbol)).ok()
    }

    /// Where `symbol` is in the list, however its letters are written: for what a person typed.
    pub fn position_ignoring_case(&self, symbol: &str) -> Option<usize> {
        self.position(&symbol.to_ascii_uppercase())
    }
}

/// Each listing with its line.
fn read_rows(text: &str) -> Result<Vec<(u64, Listing)>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|fault| fault.to_string())?;
    let columns = Columns::of(header)?;
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|fault| fault.to_string())?;
        let line = line_of(&record, text);
        let listing = columns.listing(&record).map_err(|fault| format!("line {line}: {fault}"))?;
        if rows.len() == MOST_LISTINGS {
            return Err(format!("line {line}: more than {MOST_LISTINGS} symbols; shorten the list"));
        }
        rows.push((line, listing));
    }
    Ok(rows)
}

/// The reader says where it began to look for the record, which is before any empty lines.
fn line_of(record: &StringRecord, text: &str) -> u64 {
    let Some(position) = record.position() else { return 0 };
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let rest = text.as_bytes().get(start..).unwrap_or_default();
    let skipped = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).filter(|byte| **byte == b'\n');
    skipped.fold(position.line(), |line, _| line + 1)
}

impl Columns {
    fn of(header: &StringRecord) -> Result<Self, String> {
        let place = |wanted: &str| header.iter().position(|name| name.trim().eq_ignore_ascii_case(wanted));
        Ok(Self {
            symbol: place("symbol").ok_or("the first line has no column `symbol`; name it there")?,
            name: place("name"),
            exchange: place("exchange"),
            sector: place("sector"),
            count: header.len(),
        })
    }

    /// Fields that are missing at the end of a line are empty.
    fn listing(&self, record: &StringRecord) -> Result<Listing, String> {
        if record.iter().any(|field| field.contains(['\r', '\n'])) {
            return Err("a quote (\") is not closed before the line ends; close or remove it".to_owned());
        }
        if record.iter().skip(self.count).any(|field| !field.trim().is_empty()) {
            let (has, columns) = (record.len(), self.count);
            return Err(format!("{has} fields for {columns} columns; put text that holds a comma in quotes"));
        }
        let field = |place: Option<usize>| place.and_then(|place| record.get(place)).unwrap_or_default().trim();
        Ok(Listing {
            symbol: symbol_of(field(Some(self.symbol)))?,
            name: field(self.name).to_owned(),
            exchange: field(self.exchange).to_owned(),
            sector: field(self.sector).to_owned(),
            ..Listing::default()
        })
    }
}

/// A symbol as it is kept, or what is wrong with it.
pub(super) fn symbol_of(text: &str) -> Result<String, String> {
    // Only ASCII: other letters that grow into A-Z are mistakes to be shown, not symbols.
    let symbol = text.to_ascii_uppercase();
    let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || ".$-=/^".contains(c);
    if symbol.is_empty() {
        Err("the symbol is missing; write one or remove the line".to_owned())
    } else if symbol.len() > LONGEST_SYMBOL || !symbol.chars().all(allowed) {
        let shown: String = symbol.chars().take(LONGEST_SYMBOL + 4).collect();
        Err(format!("{shown:?} is not a symbol; write up to {LONGEST_SYMBOL} of A-Z 0-9 . $ - = / ^"))
    } else {
        Ok(symbol)
    }
}
