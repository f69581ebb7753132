//! One stock.

use super::*;

/// A clock by which the quote has seen 61 minutes of trading.
fn aged(_: DateTime<Utc>) -> TimeDelta {
    TimeDelta::minutes(61)
}

#[test]
fn everything_known_of_one_stock() {
    let snapshot = snapshot();
    let body = stock(&snapshot, &meta(&snapshot), "aapl", aged, |_| Vec::new()).unwrap();
    insta::assert_snapshot!(without_meta(&body, 2), @r#"
    {
      "success":true,
      "data":{
        "ticker":"AAPL",
        "symbol":"AAPL",
        "company_name":"Apple Inc.",
        "name":"Apple Inc.",
        "exchange":"NASDAQ",
        "sector":"Information Technology",
        "current_price":20.506,
        "price_change":0.12,
        "price_change_today":0.12,
        "price_change_percent":0.5886,
        "change_percent":0.5886,
        "price_change_week":null,
        "price_change_month":null,
        "price_change_year":null,
        "open_price":20.4,
        "previous_close":20.386,
        "days_high":20.75,
        "days_low":20.3,
        "days_range":"20.30 - 20.75",
        "bid_price":20.5,
        "ask_price":20.51,
        "bid_ask_spread":"0.01",
        "volume":1234567,
        "volume_today":1234567,
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
        "refreshed":true,
        "last_updated":"2026-11-23T14:58:45Z",
        "created_at":null,
        "formatted_price":"$20.51",
        "formatted_change":"+0.12 (+0.59%)",
        "formatted_volume":"1.2M",
        "is_gaining":true,
        "is_losing":false,
        "wordpress_url":"/stock/aapl/",
        "volume_above_average":null,
        "price_near_52_week_high":null,
        "price_near_52_week_low":null,
        "price_position_52_week":null,
        "price_history":[],
        "price_history_count":0,
        "data_quality":{"has_price":true,"has_volume":true,"has_market_cap":false,"has_pe_ratio":false,"last_update_age_minutes":61}
      },
      "timestamp":"2026-11-23T15:00:00Z"
    }
    "#);
}

#[test]
fn what_is_not_known_of_a_stock_is_null() {
    let snapshot = snapshot();
    let body = stock(&snapshot, &meta(&snapshot), "NEWC", aged, |_| Vec::new()).unwrap();
    let text = without_meta(&body, 2);
    let said: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.contains("null")).collect();
    insta::assert_snapshot!(said.join("\n"), @r#"
    {
    "success":true,
    "data":{
    "ticker":"NEWC",
    "symbol":"NEWC",
    "current_price":12.0,
    "halted":false,
    "refreshed":true,
    "last_updated":"2026-11-23T14:58:45Z",
    "formatted_price":"$12.00",
    "wordpress_url":"/stock/newc/",
    "price_history":[],
    "price_history_count":0,
    "data_quality":{"has_price":true,"has_volume":false,"has_market_cap":false,"has_pe_ratio":false,"last_update_age_minutes":61}
    },
    "timestamp":"2026-11-23T15:00:00Z"
    }
    "#);
    assert!(stock(&snapshot, &meta(&snapshot), "GHST", aged, |_| Vec::new()).is_none(), "listed and never quoted");
    assert!(stock(&snapshot, &meta(&snapshot), "NOPE", aged, |_| Vec::new()).is_none(), "not listed");
}

#[test]
fn the_last_price_and_the_state_of_the_market() {
    let snapshot = snapshot();
    let mut meta = meta(&snapshot);
    insta::assert_snapshot!(without_meta(&realtime(&snapshot, &meta, "brk.a").unwrap(), 1), @r#"
    {
      "ticker":"BRK.A",
      "company_name":"Berkshire Hathaway Inc.",
      "current_price":700000.0,
      "open_price":null,
      "high_price":null,
      "low_price":null,
      "volume":812,
      "market_cap":null,
      "pe_ratio":null,
      "dividend_yield":null,
      "last_updated":"2026-11-23T14:58:45Z",
      "market_status":"open"
    }
    "#);
    for phase in [Phase::Closed, Phase::Pre, Phase::Post, Phase::Overnight, Phase::Break, Phase::Halt] {
        meta.phase = phase;
        let body = realtime(&snapshot, &meta, "BRK.A").unwrap();
        assert!(broken(&body, 0).contains(r#""market_status":"closed""#), "{phase}");
    }
    assert!(realtime(&snapshot, &meta, "GHST").is_none());
}
