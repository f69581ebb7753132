//! What is quoted: a list of symbols with what is known of each.

use serde::Deserialize;

/// The longest list that is taken.
const MOST_LISTINGS: usize = 50_000;

/// The longest symbol.
const LONGEST_SYMBOL: usize = 16;

/// One symbol. Empty text is what is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// As the site spells it: `BRK.B`, `BAC$K`.
    pub symbol: String,
    /// The company.
    pub name: String,
    /// `NYSE` or `NASDAQ`.
    pub exchange: String,
    /// Branch of industry.
    pub sector: String,
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

#[derive(Deserialize)]
struct Row {
    symbol: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    exchange: String,
    #[serde(default)]
    sector: String,
}

impl Universe {
    /// Reads a CSV text with a `symbol` column and, in any order, `name`, `exchange` and `sector`; other columns are left
    /// alone.
    ///
    /// # Errors
    /// The first line that cannot be used: no symbol, a character that no symbol has, a symbol twice; an empty list.
    pub fn parse_csv(text: &str, origin: &str) -> Result<Self, UniverseError> {
        let refuse = |message: String| UniverseError { origin: origin.to_owned(), message };
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
        let header = reader.headers().map_err(|fault| refuse(fault.to_string()))?;
        let header: csv::StringRecord =
            header.iter().map(|name| name.trim_start_matches('\u{feff}').to_lowercase()).collect();
        if !header.iter().any(|name| name == "symbol") {
            return Err(refuse("line 1: there is no column `symbol`; name it in the first line".to_owned()));
        }
        let mut listings: Vec<(u64, Listing)> = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|fault| refuse(fault.to_string()))?;
            let line = record.position().map_or(0, csv::Position::line);
            let row: Row =
                record.deserialize(Some(&header)).map_err(|fault| refuse(format!("line {line}: {fault}")))?;
            let symbol = symbol_of(&row.symbol).map_err(|fault| refuse(format!("line {line}: {fault}")))?;
            if listings.len() == MOST_LISTINGS {
                return Err(refuse(format!("line {line}: more than {MOST_LISTINGS} symbols; split the list")));
            }
            listings.push((line, Listing { symbol, name: row.name, exchange: row.exchange, sector: row.sector }));
        }
        if listings.is_empty() {
            return Err(refuse("there is no symbol in it; add a line for each".to_owned()));
        }
        listings.sort_by(|(_, a), (_, b)| a.symbol.cmp(&b.symbol));
        for pair in listings.windows(2) {
            let [(first, a), (second, b)] = pair else { continue };
            if a.symbol == b.symbol {
                return Err(refuse(format!("{} is on line {first} and again on line {second}; remove one", a.symbol)));
            }
        }
        Ok(Self { listings: listings.into_iter().map(|(_, listing)| listing).collect() })
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

    /// Where `symbol` is in the list; exactly as it is spelt there.
    pub fn position(&self, symbol: &str) -> Option<usize> {
        self.listings.binary_search_by(|listing| listing.symbol.as_str().cmp(symbol)).ok()
    }
}

fn symbol_of(text: &str) -> Result<String, String> {
    let symbol = text.trim().to_uppercase();
    let allowed = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || ".$-=/^".contains(c);
    if symbol.is_empty() {
        Err("the symbol is missing".to_owned())
    } else if symbol.len() > LONGEST_SYMBOL || !symbol.chars().all(allowed) {
        let shown: String = symbol.chars().take(LONGEST_SYMBOL + 4).collect();
        Err(format!("{shown:?} is not a symbol: up to {LONGEST_SYMBOL} of A-Z 0-9 . $ - = / ^"))
    } else {
        Ok(symbol)
    }
}
