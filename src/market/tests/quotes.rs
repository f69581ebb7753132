//! `/api/v1`: quotes by filter, order, page and field, in each format.

use proptest::prelude::*;

use super::properties::markets;
use super::*;
use crate::market::v1::{self, Field, Format, PARAMETERS, QueryError, QuotesQuery};

fn query(text: &str) -> Result<QuotesQuery, QueryError> {
    QuotesQuery::parse(text.split('&').filter_map(|pair| pair.split_once('=')))
}

/// `total: symbols of the page`, and what was not found.
fn found(text: &str) -> String {
    let snapshot = snapshot();
    let page = v1::page(&snapshot, &query(text).unwrap());
    let symbols = page.rows.iter().map(|index| &*snapshot.universe.listings()[*index].symbol);
    let symbols = symbols.collect::<Vec<_>>().join(" ");
    let more = if page.next.is_some() { " .." } else { "" };
    let missing = if page.unknown.is_empty() && page.unquoted.is_empty() {
        String::new()
    } else {
        format!(" | unknown {:?}, unquoted {:?}", page.unknown, page.unquoted)
    };
    format!("{text:45} {}: {symbols}{more}{missing}", page.total)
}

#[test]
fn quotes_are_filtered_sorted_and_cut() {
    let table: Vec<String> = [
        "",
        "limit=2",
        "symbols=aapl,NOPE,ghst,BRK.A,AAPL",
        "search=apple",
        "exchange=nyse&sector=financials",
        "min_price=20.506&max_price=700000",
        "min_change_percent=-25&max_change=-0.0014",
        "min_bid=20.5&max_ask=20.51",
        "max_volume=0",
        "sort=-change_percent,symbol",
        "sort=volume,-price",
        "sort=volume,-symbol",
        "sort=-symbol",
        "sort=open",
        "symbols=AAPL,PNNY&sort=price&min_volume=1e6",
    ]
    .into_iter()
    .map(found)
    .collect();
    insta::assert_snapshot!(table.join("\n"), @r#"
                                                  6: AAPL BRK.A NEWC PNNY STLL WISP
    limit=2                                       6: AAPL BRK.A ..
    symbols=aapl,NOPE,ghst,BRK.A,AAPL             2: AAPL BRK.A | unknown ["NOPE"], unquoted ["ghst"]
    search=apple                                  2: AAPL PNNY
    exchange=nyse&sector=financials               2: BRK.A WISP
    min_price=20.506&max_price=700000             3: AAPL BRK.A WISP
    min_change_percent=-25&max_change=-0.0014     1: PNNY
    min_bid=20.5&max_ask=20.51                    1: AAPL
    max_volume=0                                  1: STLL
    sort=-change_percent,symbol                   6: BRK.A AAPL STLL WISP PNNY NEWC
    sort=volume,-price                            6: STLL BRK.A WISP PNNY AAPL NEWC
    sort=volume,-symbol                           6: STLL WISP BRK.A PNNY AAPL NEWC
    sort=-symbol                                  6: WISP STLL PNNY NEWC BRK.A AAPL
    sort=open                                     6: AAPL BRK.A NEWC PNNY STLL WISP
    symbols=AAPL,PNNY&sort=price&min_volume=1e6   1: AAPL
    "#);
}

#[test]
fn a_query_that_cannot_be_used_is_named_with_the_fix() {
    let many: Vec<String> = (0..501).map(|number| format!("S{number}")).collect();
    let other = {
        let page = v1::page(&snapshot(), &query("limit=2&sort=price").unwrap());
        format!("sort=volume&cursor={}", page.next.unwrap().to_text())
    };
    let table: Vec<String> = [
        "limit=501",
        "fields=symbol,colour",
        "fields=price,price",
        "fields=,",
        "sort=luck",
        "sort=price,-price",
        "sort=symbol,price",
        "sort=price,open,high,low",
        "min_price=cheap",
        "symbols=,",
        &format!("symbols={}", many.join(",")),
        "cursor=zz",
        "cursor=é",
        &other,
    ]
    .into_iter()
    .map(|text| query(text).unwrap_err().to_string())
    .collect();
    insta::assert_snapshot!(table.join("\n"), @r#"
    limit: "501" is not a whole number from 1 to 500; write one, or leave it out
    fields: "colour" is no field; choose from symbol, name, exchange, sector, price, previous_close, change, change_percent, open, high, low, bid, ask, volume, at, halted, refreshed, moved_over_25_percent, change_week, change_month, change_year, change_week_percent, change_month_percent, change_year_percent, week_52_low, week_52_high, avg_volume_3mon
    fields: price is named twice; once is enough
    fields: no field is named; write some such as symbol,price
    sort: "luck" is nothing to sort by; choose from symbol, price, previous_close, change, change_percent, open, high, low, bid, ask, volume, change_week, change_month, change_year, change_week_percent, change_month_percent, change_year_percent, week_52_low, week_52_high, avg_volume_3mon
    sort: price is named twice; once is enough
    sort: "price" comes after symbol, and no two symbols are alike; leave it out
    sort: 4 columns are too many to sort by; name at most 3
    min_price: "cheap" is not a number; write one such as 12.5, or leave it out
    symbols: no symbol is named; write some such as AAPL,BRK.B
    symbols: 501 symbols are too many; name at most 500 at a time
    cursor: it is none of ours; pass back what `next_cursor` held, or begin without it
    cursor: it is none of ours; pass back what `next_cursor` held, or begin without it
    cursor: it is of another query; go on with the same filters and order, or begin without it
    "#);
}

#[test]
fn every_number_has_its_bounds() {
    for column in Column::ALL {
        for end in ["min", "max"] {
            assert!(PARAMETERS.contains(&&*format!("{end}_{}", column.name())), "{end}_{}", column.name());
        }
    }
    assert_eq!(PARAMETERS.len(), 8 + 2 * Column::ALL.len());
    let names: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
    assert_eq!(
        names.join(" "),
        "symbol name exchange sector price previous_close change change_percent open high low bid ask volume at halted refreshed moved_over_25_percent change_week change_month change_year change_week_percent change_month_percent change_year_percent week_52_low week_52_high avg_volume_3mon"
    );
}

#[test]
fn a_page_comes_as_an_object_as_lines_and_as_a_table() {
    let snapshot = snapshot();
    let written = |text: &str, format| {
        let query = query(text).unwrap();
        v1::quotes(&snapshot, &meta(&snapshot), &v1::page(&snapshot, &query), query.fields(), format)
    };
    insta::assert_snapshot!(without_meta(&written("symbols=AAPL,NOPE,GHST,PNNY", Format::Json), 2), @r#"
    {
      "quotes":[
        {"symbol":"AAPL","name":"Apple Inc.","exchange":"NASDAQ","sector":"Information Technology","price":20.506,"previous_close":20.386,"change":0.12,"change_percent":0.5886,"open":20.4,"high":20.75,"low":20.3,"bid":20.5,"ask":20.51,"volume":1234567,"at":"2026-11-23T14:58:45Z","halted":false,"refreshed":true,"moved_over_25_percent":false},
        {"symbol":"PNNY","name":"Penny Apple Mines","exchange":"NASDAQ","sector":"Materials","price":0.0042,"previous_close":0.0056,"change":-0.0014,"change_percent":-25.0,"open":null,"high":null,"low":null,"bid":null,"ask":null,"volume":999999,"at":"2026-11-23T14:58:45Z","halted":false,"refreshed":false,"moved_over_25_percent":true}
      ],
      "count":2,
      "total":2,
      "next_cursor":null,
      "unknown":[
        "NOPE"
      ],
      "unquoted":[
        "GHST"
      ]
    }
    "#);
    let text = |body: Body| String::from_utf8(body.plain().bytes.to_vec()).unwrap();
    insta::assert_snapshot!(text(written("symbols=NEWC,WISP&fields=symbol,price,change,volume", Format::Ndjson)), @r#"
    {"symbol":"NEWC","price":12.0,"change":null,"volume":null}
    {"symbol":"WISP","price":699999.9999,"change":-0.0001,"volume":812}
    "#);
    let table = text(written("fields=symbol,name,price,change,change_percent,volume,at,halted", Format::Csv));
    assert_eq!(table.lines().count(), table.matches("\r\n").count());
    insta::assert_snapshot!(table.replace("\r\n", "\n"), @"
    symbol,name,price,change,change_percent,volume,at,halted
    AAPL,Apple Inc.,20.506,0.12,0.5886,1234567,2026-11-23T14:58:45Z,false
    BRK.A,Berkshire Hathaway Inc.,700000.00,7000.00,1.0101,812,2026-11-23T14:58:45Z,false
    NEWC,,12.00,,,,2026-11-23T14:58:45Z,false
    PNNY,Penny Apple Mines,0.0042,-0.0014,-25.00,999999,2026-11-23T14:58:45Z,false
    STLL,Still Water,5.00,0.00,0.00,0,2026-11-23T14:58:45Z,false
    WISP,Wisp of Wind,699999.9999,-0.0001,0.00,812,2026-11-23T14:58:45Z,false
    ");
}

#[test]
fn text_that_a_spreadsheet_would_run_is_sent_as_text() {
    let listing =
        "symbol,name\nA,\"=HYPERLINK(\"\"http://evil\"\")\"\nB,+1\nC,-1\nD,@SUM\nE,\"a, \"\"b\"\"\"\n=F,plain\n";
    let universe = Arc::new(Universe::parse_csv(listing, "evil.csv").unwrap());
    let quotes = Columns::of(&vec![Some(quote(1.5, Some(2.0), None)); universe.len()]);
    let snapshot = Snapshot { universe, quotes, ..snapshot() };
    let query = query("fields=symbol,name,change").unwrap();
    let page = v1::page(&snapshot, &query);
    let table = v1::quotes(&snapshot, &meta(&snapshot), &page, query.fields(), Format::Csv);
    insta::assert_snapshot!(String::from_utf8_lossy(&table.plain().bytes).replace("\r\n", "\n"), @r#"
    symbol,name,change
    '=F,plain,-0.50
    A,"'=HYPERLINK(""http://evil"")",-0.50
    B,'+1,-0.50
    C,'-1,-0.50
    D,'@SUM,-0.50
    E,"a, ""b""",-0.50
    "#);
}

#[test]
fn one_quote_and_the_market_at_a_glance() {
    let snapshot = snapshot();
    let meta = meta(&snapshot);
    let fields = v1::parse_fields("symbol,price,at").unwrap();
    let one = |symbol| v1::quote(&snapshot, &meta, symbol, &fields);
    insta::assert_snapshot!(without_meta(&one("brk.a").unwrap(), 0), @r#"
    {"quote":{"symbol":"BRK.A","price":700000.0,"at":"2026-11-23T14:58:45Z"}}
    "#);
    assert!(one("GHST").is_none() && one("NOPE").is_none());
    insta::assert_snapshot!(without_meta(&bodies().stats, 2), @r#"
    {
      "market":{
        "total":6,
        "nyse":3,
        "nasdaq":2,
        "gainers":2,
        "losers":2,
        "unchanged":1
      },
      "top_gainers":[
        {"symbol":"BRK.A","name":"Berkshire Hathaway Inc.","price":700000.0,"change":7000.0,"change_percent":1.0101,"volume":812},
        {"symbol":"AAPL","name":"Apple Inc.","price":20.506,"change":0.12,"change_percent":0.5886,"volume":1234567}
      ],
      "top_losers":[
        {"symbol":"PNNY","name":"Penny Apple Mines","price":0.0042,"change":-0.0014,"change_percent":-25.0,"volume":999999},
        {"symbol":"WISP","name":"Wisp of Wind","price":699999.9999,"change":-0.0001,"change_percent":0.0,"volume":812}
      ],
      "most_active":[
        {"symbol":"AAPL","name":"Apple Inc.","price":20.506,"change":0.12,"change_percent":0.5886,"volume":1234567},
        {"symbol":"PNNY","name":"Penny Apple Mines","price":0.0042,"change":-0.0014,"change_percent":-25.0,"volume":999999},
        {"symbol":"BRK.A","name":"Berkshire Hathaway Inc.","price":700000.0,"change":7000.0,"change_percent":1.0101,"volume":812},
        {"symbol":"WISP","name":"Wisp of Wind","price":699999.9999,"change":-0.0001,"change_percent":0.0,"volume":812}
      ],
      "sectors":[
        {"name":"Financials","total":2,"gainers":1,"losers":1,"unchanged":0,"average_change_percent":0.5051},
        {"name":"Information Technology","total":1,"gainers":1,"losers":0,"unchanged":0,"average_change_percent":0.5886},
        {"name":"Materials","total":2,"gainers":0,"losers":1,"unchanged":1,"average_change_percent":-12.5}
      ],
      "historical_dates":[
        "2026-11-20",
        "2026-11-23"
      ],
      "historical_gainers":[
        3,
        2
      ],
      "historical_losers":[
        4,
        2
      ],
      "historical_total":[
        7,
        6
      ]
    }
    "#);
    let event = String::from_utf8(bodies().event.to_vec()).unwrap();
    let stats = String::from_utf8(bodies().stats.plain().bytes.to_vec()).unwrap();
    assert_eq!(event, format!("id: 1795446000000000-1795446003000000\nevent: stats\ndata: {stats}\n\n"));
    assert!(!stats.contains('\n'), "an event's data is one line");
    let id = StateId::of_text("1795446000000000-1795446003000000").unwrap();
    assert_eq!((id.slot, id.rendered_at), (snapshot.cycle.slot, meta.rendered_at));
    for none in ["", "-", "1-", "-1", "1-2-3", "1--2", "+1-2", "99999999999999999999-1"] {
        assert_eq!(StateId::of_text(none), None, "{none}");
    }
}

const ORDERS: [&str; 6] = ["symbol", "-symbol", "price", "-change_percent", "volume,-symbol", "-volume,price,change"];

/// The symbols of each page in turn; `change` is done to the market after the first.
fn walk(market: &Snapshot, sort: &str, limit: usize, change: impl FnOnce(&Snapshot) -> Snapshot) -> Vec<String> {
    let (mut market, mut change, mut seen, mut cursor) = (market.clone(), Some(change), Vec::new(), String::new());
    loop {
        let page = v1::page(&market, &query(&format!("sort={sort}&limit={limit}&cursor={cursor}")).unwrap());
        seen.extend(page.rows.iter().map(|index| market.universe.listings()[*index].symbol.clone()));
        let Some(next) = page.next else { return seen };
        cursor = next.to_text();
        if let Some(change) = change.take() {
            market = change(&market);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pages_put_together_are_the_whole_market_in_order(market in markets(), limit in 1_usize..=90, sort in 0..ORDERS.len()) {
        let sort = ORDERS[sort];
        let whole = v1::page(&market, &query(&format!("sort={sort}&limit=500")).unwrap());
        let expected: Vec<String> =
            whole.rows.iter().map(|index| market.universe.listings()[*index].symbol.clone()).collect();
        prop_assert_eq!(whole.total, expected.len());
        prop_assert_eq!(walk(&market, sort, limit, Snapshot::clone), expected);
    }

    #[test]
    fn by_symbol_pages_are_right_whatever_is_published_in_between(
        market in markets(), other in markets(), limit in 1_usize..=40, down: bool,
    ) {
        // The other market has other prices, and more or fewer symbols of the same names.
        let seen = walk(&market, if down { "-symbol" } else { "symbol" }, limit, |_| other.clone());
        let sorted = |symbols: &[String]| if down { symbols.is_sorted_by(|a, b| a > b) } else { symbols.is_sorted_by(|a, b| a < b) };
        prop_assert!(sorted(&seen), "no symbol comes twice");
        let after = |symbol: &str| seen.get(limit - 1).is_some_and(|last| if down { symbol < last.as_str() } else { symbol > last.as_str() });
        let quoted = other.quotes.quoted().map(|index| other.universe.listings()[index].symbol.clone());
        let mut rest: Vec<String> = quoted.filter(|symbol| after(symbol)).collect();
        if down {
            rest.reverse();
        }
        if market.quotes.quoted().count() > limit {
            prop_assert_eq!(&seen[limit..], &rest[..], "and none after the first page is left out");
        }
    }

    #[test]
    fn no_text_breaks_a_cursor(text in any::<String>(), hex in "[0-9a-f]{0,140}") {
        for text in [text, hex] {
            if let Some(cursor) = v1::Cursor::of_text(&text) {
                prop_assert_eq!(cursor.to_text(), text.to_lowercase());
            }
        }
    }
}
