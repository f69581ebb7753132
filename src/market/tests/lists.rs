//! Pages, searches, and text made for people.

use super::*;

pub(super) fn query(text: &str) -> Result<ListQuery, QueryError> {
    ListQuery::parse(text.split('&').filter_map(|pair| pair.split_once('=')))
}

/// `total: tickers of the page`.
fn listed(text: &str) -> String {
    let snapshot = snapshot();
    let body = list(&snapshot, &meta(&snapshot), &query(text).unwrap());
    let body: serde_json::Value = serde_json::from_slice(&body.plain().bytes).unwrap();
    let results = body["results"].as_array().unwrap();
    assert_eq!(body["count"], results.len());
    let tickers: Vec<_> = results.iter().map(|row| row["ticker"].as_str().unwrap()).collect();
    format!("{}: {}", body["total"], tickers.join(" "))
}

#[test]
fn a_list_is_filtered_sorted_and_paged() {
    let table: Vec<String> = [
        "",
        "limit=2&offset=3",
        "offset=100",
        "limit=&search=",
        "colour=green",
        "search=apple",
        "search=brk",
        "exchange=nasdaq",
        "sector=financials",
        "category=Financials",
        "category=gainers",
        "category=losers",
        "category=losers&sector=materials",
        "min_price=20.506&max_price=700000",
        "max_price=20.505",
        "min_volume=1",
        "max_volume=0",
        "min_change=0",
        "max_change=-25",
        "sort_by=price&sort_order=desc",
        "sort_by=volume",
        "sort_by=volume&sort_order=desc",
        "sort_by=change",
        "sort_by=change_percent&sort_order=desc",
        "sort_order=desc",
    ]
    .into_iter()
    .map(|text| format!("{text:40} {}", listed(text)))
    .collect();
    insta::assert_snapshot!(table.join("\n"), @"
                                             6: AAPL BRK.A NEWC PNNY STLL WISP
    limit=2&offset=3                         6: PNNY STLL
    offset=100                               6: 
    limit=&search=                           6: AAPL BRK.A NEWC PNNY STLL WISP
    colour=green                             6: AAPL BRK.A NEWC PNNY STLL WISP
    search=apple                             2: AAPL PNNY
    search=brk                               1: BRK.A
    exchange=nasdaq                          2: AAPL PNNY
    sector=financials                        2: BRK.A WISP
    category=Financials                      2: BRK.A WISP
    category=gainers                         2: AAPL BRK.A
    category=losers                          2: PNNY WISP
    category=losers&sector=materials         1: PNNY
    min_price=20.506&max_price=700000        3: AAPL BRK.A WISP
    max_price=20.505                         3: NEWC PNNY STLL
    min_volume=1                             4: AAPL BRK.A PNNY WISP
    max_volume=0                             1: STLL
    min_change=0                             4: AAPL BRK.A STLL WISP
    max_change=-25                           1: PNNY
    sort_by=price&sort_order=desc            6: BRK.A WISP AAPL NEWC STLL PNNY
    sort_by=volume                           6: STLL BRK.A WISP PNNY AAPL NEWC
    sort_by=volume&sort_order=desc           6: AAPL PNNY BRK.A WISP STLL NEWC
    sort_by=change                           6: PNNY WISP STLL AAPL BRK.A NEWC
    sort_by=change_percent&sort_order=desc   6: BRK.A AAPL STLL WISP PNNY NEWC
    sort_order=desc                          6: WISP STLL PNNY NEWC BRK.A AAPL
    ");
}

#[test]
fn a_row_of_a_list_is_the_stock_itself() {
    let snapshot = snapshot();
    let one = list(&snapshot, &meta(&snapshot), &query("search=pnny").unwrap());
    insta::assert_snapshot!(without_meta(&one, 3), @r#"
    {
      "success":true,
      "count":1,
      "total":1,
      "limit":20,
      "offset":0,
      "results":[
        {
          "ticker":"PNNY",
          "symbol":"PNNY",
          "company_name":"Penny Apple Mines",
          "name":"Penny Apple Mines",
          "exchange":"NASDAQ",
          "sector":"Materials",
          "current_price":0.0042,
          "price_change":-0.0014,
          "price_change_today":-0.0014,
          "price_change_percent":-25.0,
          "change_percent":-25.0,
          "price_change_week":null,
          "price_change_month":null,
          "price_change_year":null,
          "open_price":null,
          "previous_close":0.0056,
          "days_high":null,
          "days_low":null,
          "days_range":null,
          "bid_price":null,
          "ask_price":null,
          "bid_ask_spread":null,
          "volume":999999,
          "volume_today":999999,
          "avg_volume_3mon":null,
          "dvav":null,
          "shares_available":null,
          "market_cap":null,
          "market_cap_change_3mon":null,
          "pe_ratio":null,
          "pe_change_3mon":null,
          "dividend_yield":null,
          "one_year_target":null,
          "week_52_low":null,
          "week_52_high":null,
          "earnings_per_share":null,
          "book_value":null,
          "price_to_book":null,
          "halted":false,
          "refreshed":false,
          "last_updated":"2026-11-23T14:58:45Z",
          "formatted_price":"$0.0042",
          "formatted_change":"-0.0014 (-25.00%)",
          "formatted_volume":"1.0M"
        }
      ],
      "timestamp":"2026-11-23T15:00:00Z"
    }
    "#);
}

#[test]
fn a_value_that_cannot_be_used_is_named_with_the_fix() {
    let table: Vec<String> = [
        "limit=0",
        "limit=101",
        "limit=ten",
        "offset=-1",
        "min_price=cheap",
        "max_change=NaN",
        "max_volume=inf",
        "category=high_volume",
        "category=large_cap",
        "sort_by=colour",
        "sort_order=up",
    ]
    .into_iter()
    .map(|text| query(text).unwrap_err().to_string())
    .collect();
    insta::assert_snapshot!(table.join("\n"), @r#"
    limit: "0" is not a whole number from 1 to 100; write one, or leave it out
    limit: "101" is not a whole number from 1 to 100; write one, or leave it out
    limit: "ten" is not a whole number from 1 to 100; write one, or leave it out
    offset: "-1" is not a whole number from 0 to 1000000; write one, or leave it out
    min_price: "cheap" is not a number; write one such as 12.5, or leave it out
    max_change: "NaN" is not a number; write one such as 12.5, or leave it out
    max_volume: "inf" is not a number; write one such as 12.5, or leave it out
    category: "high_volume" is no filter here; write sort_by=volume&sort_order=desc
    category: "large_cap" cannot be told, no market capitalisation is known; write gainers, losers or a sector
    sort_by: "colour" is nothing to sort by; write ticker, price, volume, change, change_percent, price_change_week, price_change_month, price_change_year, week_52_low, week_52_high or avg_volume_3mon
    sort_order: "up" is no order; write asc or desc
    "#);
}

#[test]
fn a_search_gives_the_best_matches_first() {
    let text = "symbol,name,exchange\nXA,,\nA,Agilent,NYSE\nZ,Alphabet soup,\nAB,,\nB/C^D,,\nAA,,\nY,Über,\n";
    let universe = Arc::new(Universe::parse_csv(text, "search.csv").unwrap());
    let quotes = Columns::of(&vec![Some(quote(1.5, None, None)); universe.len()]);
    let snapshot = Snapshot { universe, quotes, ..snapshot() };
    let found = |text: &str| {
        let body = search(&snapshot, &meta(&snapshot), text);
        let body: serde_json::Value = serde_json::from_slice(&body.plain().bytes).unwrap();
        let hit = |hit: &serde_json::Value| format!("{}={}", hit["ticker"], hit["match_type"]).replace('"', "");
        let hits: Vec<_> = body["results"].as_array().unwrap().iter().map(hit).collect();
        format!("{text:?} {}: {}", body["count"], hits.join(" "))
    };
    let table: Vec<String> = ["a", "A ", "AB", "agi", "über", "nothing", "  ", "\"\\"].into_iter().map(found).collect();
    insta::assert_snapshot!(table.join("\n"), @r#"
    "a" 5: A=exact_ticker AA=ticker_prefix AB=ticker_prefix XA=ticker Z=name
    "A " 5: A=exact_ticker AA=ticker_prefix AB=ticker_prefix XA=ticker Z=name
    "AB" 2: AB=exact_ticker Z=name
    "agi" 1: A=name
    "über" 1: Y=name
    "nothing" 0: 
    "  " 0: 
    "\"\\" 0:
    "#);
    insta::assert_snapshot!(without_meta(&search(&snapshot, &meta(&snapshot), "c^"), 2), @r#"
    {
      "success":true,
      "query":"c^",
      "count":1,
      "results":[
        {"ticker":"B/C^D","company_name":null,"current_price":1.5,"change_percent":null,"market_cap":null,"exchange":null,"match_type":"ticker","url":"/api/stocks/B%2FC%5ED/"}
      ],
      "timestamp":"2026-11-23T15:00:00Z"
    }
    "#);
}

#[test]
fn a_search_is_cut_at_fifty() {
    let rows: String = (0..80).map(|number| format!("A{number:02}\n")).collect();
    let universe = Arc::new(Universe::parse_csv(&format!("symbol\n{rows}"), "many.csv").unwrap());
    let quotes = Columns::of(&vec![Some(quote(1.5, None, None)); universe.len()]);
    let snapshot = Snapshot { universe, quotes, ..snapshot() };
    let body = search(&snapshot, &meta(&snapshot), "a");
    let body: serde_json::Value = serde_json::from_slice(&body.plain().bytes).unwrap();
    assert_eq!((&body["count"], &body["results"][49]["ticker"]), (&50.into(), &"A49".into()));
}

#[test]
fn text_for_people_is_rounded_without_lying() {
    let written = |last, before, volume| {
        let snapshot = Snapshot {
            universe: Arc::new(Universe::parse_csv("symbol\nA\n", "one.csv").unwrap()),
            quotes: Columns::of(&[Some(quote(last, before, volume))]),
            ..snapshot()
        };
        let body = list(&snapshot, &meta(&snapshot), &query("").unwrap());
        let body: serde_json::Value = serde_json::from_slice(&body.plain().bytes).unwrap();
        ["formatted_price", "formatted_change", "formatted_volume"]
            .map(|key| body["results"][0][key].to_string())
            .join(" ")
    };
    let table = [
        written(20.506, Some(20.386), Some(1_234_567)),
        written(20.505, Some(20.51), Some(0)),
        written(0.0042, Some(0.0056), Some(999)),
        written(700_000.0, Some(700_000.000_1), Some(1_000)),
        written(5.0, Some(5.0), Some(999_949)),
        written(5.0, None, Some(999_950)),
        written(5.0, None, Some(999_999_999)),
        written(5.0, None, Some(1_250_000_000_000)),
        written(5.0, None, None),
    ];
    insta::assert_snapshot!(table.join("\n"), @r#"
    "$20.51" "+0.12 (+0.59%)" "1.2M"
    "$20.51" "-0.01 (-0.02%)" "0"
    "$0.0042" "-0.0014 (-25.00%)" "999"
    "$700000.00" "-0.00 (-0.00%)" "1.0K"
    "$5.00" "+0.00 (+0.00%)" "999.9K"
    "$5.00" null "1.0M"
    "$5.00" null "1.0B"
    "$5.00" null "1250.0B"
    "$5.00" null null
    "#);
}
