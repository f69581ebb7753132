//! Conformance of what the store keeps of the universe, on both engines.

use bellwether::market::{Listing, SilentSymbol, SymbolStatus};
use bellwether::store::UniverseDocument;
use chrono::TimeDelta;

use crate::harness::{Database, Engine, instant};

on_both_engines!(
    a_universe_is_kept_whole_and_what_left_it_stays,
    a_document_is_replaced_by_the_next,
    dormant_symbols_are_kept_and_forgotten,
);

fn listing(symbol: &str) -> Listing {
    Listing {
        symbol: symbol.to_owned(),
        name: format!("O'Neill & \"{symbol}\" é"),
        exchange: "NYSE American".to_owned(),
        sector: String::new(),
        etf: symbol == "SPY",
        cik: (symbol != "BAC$K").then_some(u32::MAX),
    }
}

async fn a_universe_is_kept_whole_and_what_left_it_stays(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let (first, second, third) =
        (instant("2027-03-15T07:30:00.123456Z"), instant("2027-03-16T07:30:00Z"), instant("2027-03-17T07:30:00Z"));
    assert_eq!((store.universe_state().await.unwrap(), store.symbols().await.unwrap()), (None, vec![]));
    let of = |symbols: &[&str]| symbols.iter().map(|symbol| listing(symbol)).collect::<Vec<_>>();
    assert_eq!(store.save_universe(&of(&["BAC$K", "KR", "SPY"]), &[], "file", first).await.unwrap(), 1);
    // Kept twice in the same instant it is another version all the same.
    assert_eq!(store.save_universe(&of(&["KR", "SPY", "a.b"]), &[], "directories", first).await.unwrap(), 2);
    assert_eq!(store.save_universe(&of(&["KR", "a.b"]), &[], "directories", second).await.unwrap(), 3);
    let told = async || -> Vec<String> {
        let symbols = store.symbols().await.unwrap().into_iter();
        symbols
            .map(|known| {
                assert_eq!(known.listing, listing(&known.listing.symbol));
                let status = known.status.name();
                let days = (known.last_seen - known.first_seen).num_days();
                format!("{} {status} {days}", known.listing.symbol)
            })
            .collect()
    };
    assert_eq!(told().await, ["BAC$K delisted 0", "KR active 0", "SPY delisted 0", "a.b active 0"]);
    assert_eq!(store.save_universe(&of(&["BAC$K", "KR"]), &[], "directories", third).await.unwrap(), 4);
    assert_eq!(told().await, ["BAC$K active 1", "KR active 1", "SPY delisted 0", "a.b delisted 0"]);
    let state = store.universe_state().await.unwrap().unwrap();
    assert_eq!((state.revision, state.source.as_str(), state.refreshed_at), (4, "directories", third));
    assert_eq!(store.symbols().await.unwrap()[0].first_seen, first);

    let many: Vec<Listing> = (0..12_000).map(|n| listing(&format!("S{n:05}"))).collect();
    store.save_universe(&many, &[], "file", third + TimeDelta::days(1)).await.unwrap();
    let symbols = store.symbols().await.unwrap();
    let active = symbols.iter().filter(|known| known.status == SymbolStatus::Active).count();
    assert_eq!((symbols.len(), active), (12_004, 12_000));
    assert_eq!(store.count_symbols().await.unwrap(), (12_000, 4));
}

async fn a_document_is_replaced_by_the_next(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let document = |name: &str, etag: Option<&str>, lines| UniverseDocument {
        name: name.to_owned(),
        place: "https://example.com/list.txt".to_owned(),
        etag: etag.map(str::to_owned),
        last_modified: etag.map(|_| "Mon, 15 Mar 2027 17:03:00 GMT".to_owned()),
        lines,
        body: "x".repeat(600_000),
        fetched_at: instant("2027-03-15T07:30:00.123456Z"),
    };
    let (one, two) = (document("one", Some("\"1\""), 7), document("two", None, 8));
    store.save_universe(&[listing("KR")], &[two.clone(), one], "file", instant("2027-03-15T07:30:00Z")).await.unwrap();
    let changed = document("one", None, 9);
    store
        .save_universe(&[listing("KR")], std::slice::from_ref(&changed), "file", instant("2027-03-16T07:30:00Z"))
        .await
        .unwrap();
    assert_eq!(store.universe_documents().await.unwrap(), [changed, two]);
}

async fn dormant_symbols_are_kept_and_forgotten(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let at = instant("2027-03-15T14:00:00.123456Z");
    let silent = |symbol: &str, failures| SilentSymbol {
        symbol: symbol.to_owned(),
        failures,
        since: at - TimeDelta::days(3),
        last_asked: at,
        ask_after: at + TimeDelta::minutes(6),
    };
    store.save_dormant_symbols(&[silent("BAC$K", 5), silent("DEAD", 6)], &["NONE".to_owned()]).await.unwrap();
    store.save_dormant_symbols(&[silent("DEAD", 7)], &["BAC$K".to_owned()]).await.unwrap();
    assert_eq!(store.dormant_symbols().await.unwrap(), [silent("DEAD", 7)]);
}
