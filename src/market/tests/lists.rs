//! Pages, searches, and text made for people.

use super::*;

pub(super) fn query(text: &str) -> ListQuery {
    ListQuery::parse(text.split('&').filter_map(|pair| pair.split_once('=')))
}

/// `total: tickers of the page`.
fn listed(text: &str) -> String {
    let snapshot = snapshot();
    let body = list(&snapshot, &meta(&snapshot), &query(text));
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
    sort_by=volume                           6: AAPL PNNY BRK.A WISP STLL NEWC
    sort_by=volume&sort_order=desc           6: AAPL PNNY BRK.A WISP STLL NEWC
    sort_by=change                           6: BRK.A AAPL STLL WISP PNNY NEWC
    sort_by=change_percent&sort_order=desc   6: BRK.A AAPL STLL WISP PNNY NEWC
    sort_order=desc                          6: WISP STLL PNNY NEWC BRK.A AAPL
    ");
}

/// What a list says of itself, and its only row; the rows stand there twice.
fn list_of_one() -> (String, String) {
    let snapshot = snapshot();
    let one = without_meta(&list(&snapshot, &meta(&snapshot), &query("search=pnny")), 3);
    let (list, rows) = one.split_once("  \"data\":").unwrap();
    let (row, again) = rows.split_once(",\n  \"results\":").unwrap();
    assert!(again.starts_with(row), "{again}");
    let row: Vec<&str> = row.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    (list.trim_end().to_owned(), row.join("\n"))
}

#[test]
fn a_list_says_what_it_is_of() {
    insta::assert_snapshot!(list_of_one().0, @r#"
    {
      "success":true,
      "count":1,
      "total":1,
      "total_available":1,
      "limit":50,
      "offset":0,
      "filters_applied":{
        "category":"",
        "exchange":null,
        "max_market_cap":null,
        "max_pe":null,
        "max_price":null,
        "min_market_cap":null,
        "min_pe":null,
        "min_price":null,
        "min_volume":null,
        "search":"pnny",
        "sort_by":"ticker",
        "sort_order":"asc"
      },
    "#);
}

#[test]
fn a_row_of_a_list_is_the_stock_itself() {
    insta::assert_snapshot!(list_of_one().1, @r#"
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
      "volume_ratio":null,
      "shares_available":null,
      "market_cap":null,
      "formatted_market_cap":null,
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
      "created_at":null,
      "formatted_price":"$0.0042",
      "formatted_change":"-0.0014 (-25.00%)",
      "formatted_volume":"1.0M",
      "is_gaining":false,
      "is_losing":true,
      "wordpress_url":"/stock/pnny/"
    }
    "#);
}

/// What an old client asks that was always answered: nothing is refused, and a bound of what nobody knows holds for nothing.
#[test]
fn what_the_old_clients_send_is_answered_as_it_always_was() {
    let table: Vec<String> = [
        "limit=0",
        "limit=1000",
        "limit=ten",
        "limit=-3",
        "limit=99999999999999999999999999",
        "offset=-1",
        "offset=four",
        "min_price=cheap&max_change=NaN&max_volume=inf",
        "price_min=20.506&price_max=700000",
        "change_percent_min=0.5&min_bid_price=20.5",
        "category=high_volume",
        "category=large_cap",
        "category=small_cap",
        "min_market_cap=1",
        "market_cap_max=5e12",
        "min_pe=0",
        "pe_ratio_max=30",
        "max_dividend_yield=9",
        "min_dvav=1",
        "sort_by=last_updated&limit=2",
        "sort_by=market_cap",
        "sort_by=pe_ratio&sort_order=asc",
        "sort_by=colour",
        "sort_by=price&sort_order=up",
    ]
    .into_iter()
    .map(|text| format!("{text:46} {}", listed(text)))
    .collect();
    insta::assert_snapshot!(table.join("\n"), @"
    limit=0                                        6: 
    limit=1000                                     6: AAPL BRK.A NEWC PNNY STLL WISP
    limit=ten                                      6: AAPL BRK.A NEWC PNNY STLL WISP
    limit=-3                                       6: 
    limit=99999999999999999999999999               6: AAPL BRK.A NEWC PNNY STLL WISP
    offset=-1                                      6: AAPL BRK.A NEWC PNNY STLL WISP
    offset=four                                    6: AAPL BRK.A NEWC PNNY STLL WISP
    min_price=cheap&max_change=NaN&max_volume=inf  6: AAPL BRK.A NEWC PNNY STLL WISP
    price_min=20.506&price_max=700000              3: AAPL BRK.A WISP
    change_percent_min=0.5&min_bid_price=20.5      1: AAPL
    category=high_volume                           4: AAPL BRK.A PNNY WISP
    category=large_cap                             0: 
    category=small_cap                             0: 
    min_market_cap=1                               0: 
    market_cap_max=5e12                            0: 
    min_pe=0                                       0: 
    pe_ratio_max=30                                0: 
    max_dividend_yield=9                           0: 
    min_dvav=1                                     0: 
    sort_by=last_updated&limit=2                   6: AAPL BRK.A
    sort_by=market_cap                             6: AAPL BRK.A NEWC PNNY STLL WISP
    sort_by=pe_ratio&sort_order=asc                6: AAPL BRK.A NEWC PNNY STLL WISP
    sort_by=colour                                 6: AAPL BRK.A NEWC PNNY STLL WISP
    sort_by=price&sort_order=up                    6: PNNY STLL NEWC AAPL WISP BRK.A
    ");
}

#[test]
fn a_list_says_which_filters_it_has_heeded() {
    let snapshot = snapshot();
    let text = "search=a&min_price=1&max_price=cheap&pe_ratio_min=5&sector=&sort_by=volume&colour=green&limit=7";
    let body = list(&snapshot, &meta(&snapshot), &query(text));
    let body: serde_json::Value = serde_json::from_slice(&body.plain().bytes).unwrap();
    insta::assert_snapshot!(body["filters_applied"], @r#"{"category":"","exchange":null,"max_market_cap":null,"max_pe":null,"max_price":null,"min_market_cap":null,"min_pe":null,"min_pe_ratio":"5","min_price":"1","min_volume":null,"search":"a","sort_by":"volume","sort_order":"desc"}"#);
    assert_eq!((&body["total_available"], &body["data"]), (&body["total"], &body["results"]));
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
        let hit = |hit: &serde_json::Value| {
            format!("{}={}/{}", hit["ticker"], hit["match_type"], hit["match_kind"]).replace('"', "")
        };
        let hits: Vec<_> = body["results"].as_array().unwrap().iter().map(hit).collect();
        format!("{text:?} {}: {}", body["count"], hits.join(" "))
    };
    let table: Vec<String> = ["a", "A ", "AB", "agi", "über", "nothing", "  ", "\"\\"].into_iter().map(found).collect();
    insta::assert_snapshot!(table.join("\n"), @r#"
    "a" 5: A=ticker/exact_ticker AA=ticker/ticker_prefix AB=ticker/ticker_prefix XA=ticker/ticker Z=company/name
    "A " 5: A=ticker/exact_ticker AA=ticker/ticker_prefix AB=ticker/ticker_prefix XA=ticker/ticker Z=company/name
    "AB" 2: AB=ticker/exact_ticker Z=company/name
    "agi" 1: A=company/name
    "über" 1: Y=company/name
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
        {"ticker":"B/C^D","company_name":null,"current_price":1.5,"change_percent":null,"market_cap":null,"exchange":null,"match_type":"ticker","match_kind":"ticker","url":"/api/stocks/B%2FC%5ED/"}
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
        let body = list(&snapshot, &meta(&snapshot), &query(""));
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
