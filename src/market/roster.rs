//! From lists to a universe, and what changed between two of them.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use super::directory::{Company, Directory};
use super::universe::{Listing, Universe, UniverseError};
use crate::config::ListingKind;

/// Whether a symbol is quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SymbolStatus {
    /// It is on the list.
    Active,
    /// It was, and is no more; what is known of it stays.
    Delisted,
}

impl SymbolStatus {
    /// The name in the database and in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Delisted => "delisted",
        }
    }
}

/// A symbol that was ever on the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownSymbol {
    /// What is known of it.
    pub listing: Listing,
    /// Whether it is quoted.
    pub status: SymbolStatus,
    /// When it came first.
    pub first_seen: DateTime<Utc>,
    /// When it was last on the list.
    pub last_seen: DateTime<Utc>,
}

/// A symbol that was silent when it was last asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SilentSymbol {
    /// Which.
    pub symbol: String,
    /// Cycles in a row.
    pub failures: u32,
    /// The slot of the first of them.
    pub since: DateTime<Utc>,
    /// The slot of the last of them.
    pub last_asked: DateTime<Utc>,
    /// Not before this slot, but at the first of a session.
    pub ask_after: DateTime<Utc>,
}

impl SilentSymbol {
    /// So many silent cycles in a row make a symbol dormant.
    pub const DORMANT_AFTER: u32 = 5;

    /// Whether it is asked for less often.
    pub fn is_dormant(&self) -> bool {
        self.failures >= Self::DORMANT_AFTER
    }
}

/// What an operator wants beside what the source says.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Quoted whatever the source says.
    pub include: Vec<Listing>,
    /// Never quoted.
    pub exclude: BTreeSet<String>,
}

/// How a list became a universe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines of the source.
    pub listed: usize,
    /// Left out by their flags.
    pub left_out: usize,
    /// On two lists at once; counted beyond the first.
    pub twice: usize,
    /// Added by the operator.
    pub included: usize,
    /// Taken out by the operator.
    pub excluded: usize,
    /// Symbols with characters that none has.
    pub unreadable: Vec<String>,
}

/// What is different between the symbols known and a new list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Never seen before.
    pub added: Vec<String>,
    /// Delisted once, and back.
    pub returned: Vec<String>,
    /// No more on the list.
    pub delisted: Vec<String>,
    /// The same symbol under another name: symbol, before, now.
    pub renamed: Vec<(String, String, String)>,
}

impl Changes {
    /// Compares what is `known` with the new list.
    pub fn between(known: &[KnownSymbol], universe: &Universe) -> Self {
        let by_symbol: HashMap<&str, &KnownSymbol> =
            known.iter().map(|known| (known.listing.symbol.as_str(), known)).collect();
        let mut changes = Self::default();
        for listing in universe.listings() {
            match by_symbol.get(listing.symbol.as_str()) {
                None => changes.added.push(listing.symbol.clone()),
                Some(known) => {
                    if known.status == SymbolStatus::Delisted {
                        changes.returned.push(listing.symbol.clone());
                    }
                    let before = &known.listing.name;
                    if !before.is_empty() && !listing.name.is_empty() && *before != listing.name {
                        changes.renamed.push((listing.symbol.clone(), before.clone(), listing.name.clone()));
                    }
                }
            }
        }
        let active = known.iter().filter(|known| known.status == SymbolStatus::Active);
        let gone = active.map(|known| &known.listing.symbol).filter(|symbol| universe.position(symbol).is_none());
        changes.delisted = gone.cloned().collect();
        changes.delisted.sort_unstable();
        changes
    }

    /// Whether symbols came, went or came back.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.returned.is_empty() && self.delisted.is_empty() && self.renamed.is_empty()
    }
}

/// The lines of directories that are not left out, each symbol once.
pub fn choose(directories: Vec<Directory>, leave_out: &[ListingKind]) -> (Vec<Listing>, Counts) {
    let mut counts = Counts::default();
    let mut seen = BTreeSet::new();
    let mut chosen = Vec::new();
    for directory in directories {
        counts.listed += directory.len();
        counts.unreadable.extend(directory.unreadable.into_iter().map(|(_, symbol)| symbol));
        for (listing, flags) in directory.lines {
            if flags.iter().any(|flag| leave_out.contains(flag)) {
                counts.left_out += 1;
            } else if seen.insert(listing.symbol.clone()) {
                chosen.push(listing);
            } else {
                counts.twice += 1;
            }
        }
    }
    (chosen, counts)
}

/// Adds what the operator and the SEC have to say, and makes the universe. What the source leaves open is taken from what was
/// known before, so that a source that is away for a day costs no name.
///
/// # Errors
/// When nothing is left, or too much.
pub fn assemble(
    mut listings: Vec<Listing>,
    selection: &Selection,
    companies: &HashMap<String, Company>,
    known: &[KnownSymbol],
    counts: &mut Counts,
    origin: &str,
) -> Result<Universe, UniverseError> {
    let listed: BTreeSet<String> = listings.iter().map(|listing| listing.symbol.clone()).collect();
    let more = selection.include.iter().filter(|listing| !listed.contains(&listing.symbol));
    let before = listings.len();
    listings.extend(more.cloned());
    counts.included = listings.len() - before;
    let with_included = listings.len();
    listings.retain(|listing| !selection.exclude.contains(&listing.symbol));
    counts.excluded = with_included - listings.len();
    let known: HashMap<&str, &Listing> = known.iter().map(|k| (k.listing.symbol.as_str(), &k.listing)).collect();
    for listing in &mut listings {
        if let Some(company) = companies.get(&listing.symbol) {
            listing.cik = Some(company.cik);
            if listing.name.is_empty() {
                listing.name.clone_from(&company.name);
            }
        }
        if let Some(known) = known.get(listing.symbol.as_str()) {
            listing.fill_from(known);
        }
    }
    Universe::of(listings, origin)
}
