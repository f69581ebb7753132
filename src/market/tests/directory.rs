use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::config::ListingKind;
use crate::market::{
    Changes, Counts, Directory, DirectoryKind, KnownSymbol, Listing, Selection, SymbolStatus, Universe, assemble,
    choose, parse_companies,
};

const NASDAQ: &str = "Symbol|Security Name|Market Category|Test Issue|Financial Status|Round Lot Size|ETF|NextShares\n";
const OTHER: &str = "ACT Symbol|Security Name|Exchange|CQS Symbol|ETF|Round Lot Size|Test Issue|NASDAQ Symbol\n";

const DEFAULT: [ListingKind; 3] = [ListingKind::TestIssue, ListingKind::Etf, ListingKind::NextShares];

fn nasdaq(lines: &str) -> String {
    format!("{NASDAQ}{lines}File Creation Time: 0315202717:03|||||||\n")
}

fn other(lines: &str) -> String {
    format!("{OTHER}{lines}File Creation Time: 0315202717:03||||||\n")
}

fn read(kind: DirectoryKind, text: &str) -> Result<Directory, String> {
    Directory::parse(kind, text, "list.txt").map_err(|fault| fault.to_string())
}

#[test]
fn what_a_line_is_follows_from_its_flags() {
    let nasdaq = nasdaq(
        "AAPL|Apple Inc. - Common Stock|Q|N|N|100|N|N\n\
         QQQ|Invesco QQQ Trust, Series 1|G|N|N|100|Y|N\n\
         ZVZZT|NASDAQ TEST STOCK|G|Y|N|100|N|N\n\
         LATEW|Late Corp. - Warrant|S|N|K|100|N|N\n\
         NEXTX|A NextShares Fund|G|N||100|N|Y\n",
    );
    let other = other(
        "BAC$K|Bank of America Preferred Series K|N|BACpK|N|100|N|BAC-K\n\
         SPY|SPDR S&P 500 ETF Trust|P|SPY|Y|100|N|SPY\n\
         UAMY|United States Antimony Corporation|A|UAMY|N|100|N|UAMY\n\
         CBOE|Cboe Global Markets, Inc.|Z|CBOE|N|100|N|CBOE\n",
    );
    let directories = [(DirectoryKind::NasdaqListed, nasdaq), (DirectoryKind::OtherListed, other)];
    let directories: Vec<_> = directories.iter().map(|(kind, text)| read(*kind, text).unwrap()).collect();
    assert_eq!(directories[0].created, "0315202717:03");
    let told = directories.iter().flat_map(|directory| &directory.lines).map(|(listing, flags)| {
        let flags: Vec<_> = flags.iter().map(|flag| flag.name()).collect();
        format!("{:<6} {:<13} {} [{}]", listing.symbol, listing.exchange, listing.name, flags.join(" "))
    });
    insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @"
    AAPL   NASDAQ        Apple Inc. - Common Stock []
    QQQ    NASDAQ        Invesco QQQ Trust, Series 1 [etf]
    ZVZZT  NASDAQ        NASDAQ TEST STOCK [test-issue]
    LATEW  NASDAQ        Late Corp. - Warrant [deficient delinquent bankrupt]
    NEXTX  NASDAQ        A NextShares Fund [next-shares]
    BAC$K  NYSE          Bank of America Preferred Series K []
    SPY    NYSE Arca     SPDR S&P 500 ETF Trust [etf]
    UAMY   NYSE American United States Antimony Corporation []
    CBOE   Cboe BZX      Cboe Global Markets, Inc. []
    ");
    let (chosen, counts) = choose(directories.clone(), &DEFAULT);
    let symbols: Vec<_> = chosen.iter().map(|listing| listing.symbol.as_str()).collect();
    assert_eq!(symbols, ["AAPL", "LATEW", "BAC$K", "UAMY", "CBOE"]);
    assert_eq!((counts.listed, counts.left_out, counts.twice), (9, 4, 0));
    let (all, _) = choose(directories.clone(), &[]);
    assert_eq!(all.len(), 9, "what is left out is the operator's choice");
    let (sound, _) = choose(directories, &[ListingKind::Bankrupt]);
    assert!(!sound.iter().any(|listing| listing.symbol == "LATEW"));
}

#[test]
fn no_symbol_is_lost_to_its_last_letters() {
    const SYMBOLS: &str = "UBER PLTR MU SNOW DOW NOW LOW KR KKR IBKR W U R AFTR BACCR BACCU BACCW CMPOW BRK.A BRK.B BF.A BAC$K \
        AHL$D ACHR.W XYZ.U XYZ.R ABC.V TWO$A SPAC= SPAC+ BRKRP";
    let symbols: Vec<&str> = SYMBOLS.split_whitespace().collect();
    let line = |symbol: &&str| format!("{symbol}|A company|N|{symbol}|N|100|N|{symbol}\n");
    let directory = read(DirectoryKind::OtherListed, &other(&symbols.iter().map(line).collect::<String>())).unwrap();
    let (chosen, counts) = choose(vec![directory], &DEFAULT);
    let lost = symbols.iter().filter(|symbol| !chosen.iter().any(|listing| listing.symbol == **symbol));
    // `+` is a mark of the Nasdaq spelling, which the ACT symbol never has; it is named, not dropped in silence.
    assert_eq!((lost.collect::<Vec<_>>(), counts.unreadable), (vec![&"SPAC+"], vec!["SPAC+".to_owned()]));
}

#[test]
fn a_list_that_is_not_whole_is_refused() {
    let whole = nasdaq("AAPL|Apple Inc.|Q|N|N|100|N|N\nMSFT|Microsoft|Q|N|N|100|N|N\n");
    let refused =
        |text: &str| read(DirectoryKind::NasdaqListed, text).map(|_| String::new()).unwrap_or_else(|told| told);
    let cut_in_a_line = &whole[..whole.find("soft").unwrap()];
    let cut_between = &whole[..whole.find("File").unwrap()];
    let told = [
        refused(""),
        refused(cut_in_a_line),
        refused(cut_between),
        refused(&format!("{whole}GOOG|Alphabet|Q|N|N|100|N|N\n")),
        refused(&nasdaq("")),
        refused("<html><body>Maintenance</body></html>"),
        refused(&other("A|Agilent|N|A|N|100|N|A\n")),
    ];
    insta::assert_snapshot!(told.join("\n"), @r#"
    list.txt: it is empty; fetch it again
    list.txt: line 3: 2 fields for 8 columns; fetch it again
    list.txt: the last line must be the "File Creation Time": the file is not whole; fetch it again
    list.txt: line 5: there is more after the "File Creation Time"; fetch it again
    list.txt: there is no symbol in it; fetch it again
    list.txt: the first line has no column "Symbol"; is it the right file?
    list.txt: the first line has no column "Symbol"; is it the right file?
    "#);
    // No cut anywhere gives a shorter list that is taken.
    for end in 0..whole.len() - 1 {
        if let Some(cut) = whole.get(..end)
            && let Ok(directory) = read(DirectoryKind::NasdaqListed, cut)
        {
            assert_eq!(directory.lines.len(), 2, "cut after {end} bytes");
        }
    }
}

#[test]
fn the_sec_spells_symbols_in_its_own_way() {
    let text = r#"{"0":{"cik_str":320193,"ticker":"AAPL","title":"Apple Inc."},"1":{"cik_str":1067983,"ticker":"BRK-B",
        "title":"BERKSHIRE HATHAWAY INC"},"2":{"cik_str":70858,"ticker":"BAC-PK","title":"BANK OF AMERICA CORP /DE/"},
        "3":{"cik_str":1824502,"ticker":"ACHR-WT","title":"Archer Aviation Inc."},"4":{"cik_str":1,"ticker":"BAD SYMBOL","title":"-"}}"#;
    let companies = parse_companies(text, "company_tickers.json").unwrap();
    let mut told: Vec<_> = companies.iter().map(|(symbol, company)| format!("{symbol} {}", company.cik)).collect();
    told.sort_unstable();
    assert_eq!(told, ["AAPL 320193", "ACHR.W 1824502", "BAC$K 70858", "BRK.B 1067983"]);
    for broken in ["", "{}", "[]", "{\"0\":{\"cik_str\":320193,\"ticker\":\"AAPL\"", "<html>"] {
        assert!(parse_companies(broken, "company_tickers.json").is_err(), "{broken:?}");
    }
}

fn listing(symbol: &str, name: &str) -> Listing {
    Listing { symbol: symbol.to_owned(), name: name.to_owned(), ..Listing::default() }
}

#[test]
fn the_operator_has_the_last_word_and_what_is_known_stays() {
    let seen: DateTime<Utc> = "2027-03-15T07:30:00Z".parse().unwrap();
    let known = KnownSymbol {
        listing: Listing { sector: "Energy".to_owned(), cik: Some(7), ..listing("OIL", "Oil of Old") },
        status: SymbolStatus::Active,
        first_seen: seen,
        last_seen: seen,
    };
    let selection = Selection {
        include: vec![listing("SPY", ""), listing("OIL", "not this one"), listing("BAD", "")],
        exclude: ["BAD".to_owned(), "AAPL".to_owned()].into_iter().collect(),
    };
    let companies =
        parse_companies(r#"{"0":{"cik_str":884394,"ticker":"SPY","title":"SPDR S&P 500"}}"#, "sec").unwrap();
    let listed = vec![listing("AAPL", "Apple"), listing("OIL", "")];
    let mut counts = Counts::default();
    let universe = assemble(listed, &selection, &companies, &[known], &mut counts, "test").unwrap();
    let expected = [
        Listing { sector: "Energy".to_owned(), cik: Some(7), ..listing("OIL", "Oil of Old") },
        Listing { cik: Some(884_394), ..listing("SPY", "SPDR S&P 500") },
    ];
    assert_eq!(universe.listings(), expected);
    assert_eq!((counts.included, counts.excluded), (2, 2));
    let nothing = assemble(vec![], &Selection::default(), &HashMap::new(), &[], &mut counts, "test");
    assert!(nothing.unwrap_err().to_string().contains("no symbol is left"));
}

#[test]
fn what_came_went_and_came_back_is_told_apart() {
    let seen: DateTime<Utc> = "2027-03-15T07:30:00Z".parse().unwrap();
    let known = |symbol: &str, name: &str, status| KnownSymbol {
        listing: listing(symbol, name),
        status,
        first_seen: seen,
        last_seen: seen,
    };
    let (active, delisted) = (SymbolStatus::Active, SymbolStatus::Delisted);
    let known = [
        known("AAPL", "Apple", active),
        known("BACK", "Back Again", delisted),
        known("GONE", "Gone", active),
        known("LONG", "Long Gone", delisted),
        known("META", "Facebook", active),
    ];
    let now = ["AAPL Apple", "BACK Back Again", "META Meta Platforms", "NEWS News Corp"];
    let now = now.iter().filter_map(|line| line.split_once(' ')).map(|(symbol, name)| listing(symbol, name));
    let changes = Changes::between(&known, &Universe::of(now.collect(), "test").unwrap());
    let expected = Changes {
        added: vec!["NEWS".to_owned()],
        returned: vec!["BACK".to_owned()],
        delisted: vec!["GONE".to_owned()],
        renamed: vec![("META".to_owned(), "Facebook".to_owned(), "Meta Platforms".to_owned())],
    };
    assert_eq!(changes, expected);
}
