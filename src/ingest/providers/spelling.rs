//! How sources spell what is special in a symbol.
//!
//! Ours is the exchange's, as the symbol directories have it (the ACT column of
//! <https://www.nasdaqtrader.com/Trader.aspx?id=CQSSymbolConvention>): `BAC$K` a preferred series, `TY$` a preferred share
//! without one, `ACHR.W` a warrant, `GRP.U` a unit, `CELG.R` a right, `BRK.B` a class. What is not in the tables below is asked
//! for as a class, and found where the source writes it like one.
//!
//! What is traded before it is issued has no spelling here: ACT writes `.V` for it and for a class V alike (`MKC.V`), so one would
//! be quoted as the other. Sources that mark it (`ABCw`, `ABC-WI`) are read as somebody else's.

use std::borrow::Cow;

/// The marks of one source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spelling {
    /// Between a root and its preferred series.
    series: &'static str,
    /// At the end of a preferred share without a series.
    preferred: &'static str,
    /// At the end of a warrant.
    warrant: &'static str,
    /// At the end of a unit.
    unit: &'static str,
    /// At the end of a right.
    right: &'static str,
    /// Before a class.
    class: &'static str,
    /// Other endings that have been seen there, each with ours. They are read and never written.
    read_too: &'static [(&'static str, &'static str)],
}

impl Spelling {
    /// The consolidated tape's (CQS), with a dot for its slash: `BACpK`, `TYp`, `ACHR.WS`, `GRP.U`, `CELGr`, `BRK.B`.
    /// Small letters mean something: `AMpB` is not `AMPB` (polygon-io/issues#36).
    pub(super) const MASSIVE: Self =
        Self { series: "p", preferred: "p", warrant: ".WS", unit: ".U", right: "r", class: ".", read_too: &[] };

    /// The order systems' (CMS), with a dot for its blank: `BAC.PRK`, `TY.PR`, `ACHR.WS`, `GRP.U`, `CELG.RT`, `BRK.B`.
    pub(super) const ALPACA: Self =
        Self { series: ".PR", preferred: ".PR", warrant: ".WS", unit: ".U", right: ".RT", class: ".", read_too: &[] };

    /// `BAC-P-K`, `TY-P`, `ACHR-WS`, `GRP-U`, `CELG-R`, `BRK-B` (<https://www.tiingo.com/documentation/appendix/symbology> for
    /// classes and preferred series, the list of supported tickers for the rest, which has units as `-UN` too).
    pub(super) const TIINGO: Self = Self {
        series: "-P-",
        preferred: "-P",
        warrant: "-WS",
        unit: "-U",
        right: "-R",
        class: "-",
        read_too: &[("-UN", ".U"), ("-RT", ".R")],
    };

    /// `BAC-PK`, `TY-P`, `ACHR-WT`, `GRP-UN`, `CELG-RI`, `BRK-B`.
    pub(super) const YAHOO: Self =
        Self { series: "-P", preferred: "-P", warrant: "-WT", unit: "-UN", right: "-RI", class: "-", read_too: &[] };

    /// Our symbol in theirs.
    pub(super) fn theirs<'a>(&self, ours: &'a str) -> Cow<'a, str> {
        let class = |text: &str| text.replace('.', self.class);
        if let Some((root, series)) = ours.split_once('$') {
            return Cow::Owned(match series {
                "" => format!("{}{}", class(root), self.preferred),
                _ => format!("{}{}{}", class(root), self.series, class(series)),
            });
        }
        let marks = [(".W", self.warrant), (".U", self.unit), (".R", self.right)];
        match marks.iter().find_map(|(mark, theirs)| Some((ours.strip_suffix(mark)?, theirs))) {
            Some((root, theirs)) => Cow::Owned(format!("{}{theirs}", class(root))),
            None if ours.contains('.') => Cow::Owned(class(ours)),
            None => Cow::Borrowed(ours),
        }
    }

    /// Their symbol in ours.
    pub(super) fn ours<'a>(&self, theirs: &'a str) -> Cow<'a, str> {
        let class = |text: &str| text.replace(self.class, ".");
        // The mark of a preferred series stands behind a root; what follows are capitals, whatever else they end like.
        let series = theirs.split_once(self.series).filter(|(root, series)| {
            let capitals = |c: char| c.is_ascii_uppercase() || self.class.contains(c);
            !root.is_empty() && !series.is_empty() && series.chars().all(capitals)
        });
        if let Some((root, series)) = series {
            return Cow::Owned(format!("{}${}", class(root), class(series)));
        }
        let marks = [(self.warrant, ".W"), (self.unit, ".U"), (self.right, ".R"), (self.preferred, "$")];
        let of_mark = |(ending, ours): &(&str, &'static str)| Some((theirs.strip_suffix(ending)?, *ours));
        match marks.iter().chain(self.read_too).find_map(of_mark) {
            Some((root, ours)) if !root.is_empty() => Cow::Owned(format!("{}{ours}", class(root))),
            _ if self.class != "." && theirs.contains(self.class) => Cow::Owned(class(theirs)),
            _ => Cow::Borrowed(theirs),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::market::Universe;

    const ALL: [(&str, Spelling); 4] = [
        ("massive", Spelling::MASSIVE),
        ("alpaca", Spelling::ALPACA),
        ("tiingo", Spelling::TIINGO),
        ("yahoo", Spelling::YAHOO),
    ];

    /// Ours, then theirs in the order of [`ALL`]: as they are written there, not as the code would write them.
    const LITERALS: [(&str, [&str; 4]); 16] = [
        ("AAPL", ["AAPL", "AAPL", "AAPL", "AAPL"]),
        ("UBER", ["UBER", "UBER", "UBER", "UBER"]),
        ("PLTR", ["PLTR", "PLTR", "PLTR", "PLTR"]),
        ("SNOW", ["SNOW", "SNOW", "SNOW", "SNOW"]),
        ("AACBR", ["AACBR", "AACBR", "AACBR", "AACBR"]),
        ("BRK.A", ["BRK.A", "BRK.A", "BRK-A", "BRK-A"]),
        ("BF.B", ["BF.B", "BF.B", "BF-B", "BF-B"]),
        ("MKC.V", ["MKC.V", "MKC.V", "MKC-V", "MKC-V"]),
        ("CIG.C", ["CIG.C", "CIG.C", "CIG-C", "CIG-C"]),
        ("BAC$K", ["BACpK", "BAC.PRK", "BAC-P-K", "BAC-PK"]),
        ("FLG$U", ["FLGpU", "FLG.PRU", "FLG-P-U", "FLG-PU"]),
        ("PSA$R", ["PSApR", "PSA.PRR", "PSA-P-R", "PSA-PR"]),
        ("TY$", ["TYp", "TY.PR", "TY-P", "TY-P"]),
        ("ACHR.W", ["ACHR.WS", "ACHR.WS", "ACHR-WS", "ACHR-WT"]),
        ("GRP.U", ["GRP.U", "GRP.U", "GRP-U", "GRP-UN"]),
        ("CELG.R", ["CELGr", "CELG.RT", "CELG-R", "CELG-RI"]),
    ];

    #[test]
    fn each_kind_of_symbol_is_spelt_as_the_source_spells_it() {
        for (ours, literals) in LITERALS {
            for ((name, spelling), theirs) in ALL.iter().zip(literals) {
                assert_eq!(spelling.theirs(ours), theirs, "{ours} at {name}");
                assert_eq!(spelling.ours(theirs), ours, "{theirs} of {name}");
            }
        }
    }

    #[test]
    fn what_is_nobodys_here_is_not_taken_for_another() {
        for (spelling, theirs, ours) in [
            (Spelling::TIINGO, "DGAC-UN", "DGAC.U"),
            (Spelling::TIINGO, "CELG-RT", "CELG.R"),
            // Not issued yet: neither ABC, nor ABCW, nor a class V.
            (Spelling::MASSIVE, "ABCw", "ABCw"),
            (Spelling::MASSIVE, "GLOrw", "GLOrw"),
            (Spelling::MASSIVE, "TYpw", "TYpw"),
            (Spelling::YAHOO, "POST-WI", "POST.WI"),
            // A preferred share is not the ordinary one whose letters are the same.
            (Spelling::MASSIVE, "AMpB", "AM$B"),
            (Spelling::MASSIVE, "AMPB", "AMPB"),
            // A mark without a root is a symbol.
            (Spelling::MASSIVE, "r", "r"),
            (Spelling::MASSIVE, "p", "p"),
        ] {
            assert_eq!(spelling.ours(theirs), ours, "{theirs}");
        }
    }

    fn none_is_lost<'a>(symbols: impl Iterator<Item = &'a str> + Clone) {
        for (name, spelling) in ALL {
            let mut asked = BTreeSet::new();
            for symbol in symbols.clone() {
                let theirs = spelling.theirs(symbol).into_owned();
                assert_eq!(spelling.ours(&theirs), symbol, "{theirs} of {name}");
                assert!(asked.insert(theirs), "{symbol} is asked for as another one is, at {name}");
            }
        }
    }

    #[test]
    fn none_of_the_built_in_symbols_is_lost_at_a_source() {
        let built_in = Universe::parse_csv(include_str!("../../../config/universe.csv"), "universe.csv").unwrap();
        none_is_lost(built_in.listings().iter().map(|listing| &*listing.symbol));
    }

    /// 7,019 real symbols of the site.
    #[test]
    fn none_of_the_sites_symbols_is_lost_at_a_source() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/universe.csv");
        let Ok(text) = std::fs::read_to_string(path) else {
            eprintln!("the site's own list is not beside this checkout: only the built-in one was tried");
            return;
        };
        let site = Universe::parse_csv(&text, "universe.csv").unwrap();
        none_is_lost(site.listings().iter().map(|listing| &*listing.symbol));
    }

    proptest! {
        #[test]
        fn a_symbol_comes_back_as_it_went(symbol in "[A-Z]{1,5}(\\.[A-OQ-Z]|\\$[A-Z]?)?") {
            for (_, spelling) in ALL {
                let theirs = spelling.theirs(&symbol).into_owned();
                prop_assert_eq!(spelling.ours(&theirs).into_owned(), symbol.clone(), "{}", theirs);
            }
        }
    }
}
