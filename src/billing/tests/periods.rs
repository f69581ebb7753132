use proptest::prelude::*;

use super::super::period::{after_months, before_months};
use super::*;

#[test]
fn d9_a_month_is_a_calendar_month_of_new_york_and_the_day_of_the_anchor_is_kept() {
    let ends = |anchor: &str, months: &[u32]| {
        let ends = months.iter().map(|n| after_months(at(anchor), *n).format("%F %H:%M").to_string());
        ends.collect::<Vec<_>>().join(" | ")
    };
    let table = [
        ends("2027-01-31T17:00:00Z", &[1, 2, 3, 13]),
        ends("2028-01-31T17:00:00Z", &[1, 2]),
        ends("2028-02-29T05:00:00Z", &[12, 24, 48]),
        // Midnight in New York, before and after the clocks change.
        ends("2027-02-14T05:00:00Z", &[1, 9]),
        // 02:30 does not come on 14 March, and 01:30 comes twice on 7 November.
        ends("2027-02-14T07:30:00Z", &[1]),
        ends("2027-10-07T05:30:00Z", &[1]),
    ];
    insta::assert_snapshot!(table.join("\n"), @"
    2027-02-28 17:00 | 2027-03-31 16:00 | 2027-04-30 16:00 | 2028-02-29 17:00
    2028-02-29 17:00 | 2028-03-31 16:00
    2029-02-28 05:00 | 2030-02-28 05:00 | 2032-02-29 05:00
    2027-03-14 05:00 | 2027-11-14 05:00
    2027-03-14 07:30
    2027-11-07 05:30
    ");
}

#[test]
fn d29_amounts_are_read_from_text_and_never_rounded() {
    let read = |text: &str, code: &str| match Money::parse(text, code.parse().unwrap()) {
        Ok(money) => format!("{} = {money}", money.minor),
        Err(fault) => fault,
    };
    let table = [
        ("24.99", "USD"),
        ("24.9", "USD"),
        ("24", "USD"),
        ("-24.990", "USD"),
        ("24.999", "USD"),
        ("0.01", "USD"),
        ("500", "JPY"),
        ("500.00", "JPY"),
        ("500.5", "JPY"),
        ("1.234", "KWD"),
        ("", "USD"),
        (".5", "USD"),
        ("5.", "USD"),
        ("1e3", "USD"),
        ("+1", "USD"),
        ("--1", "USD"),
        ("1,000.00", "USD"),
        ("99999999999999999999", "USD"),
    ];
    let table = table.map(|(text, code)| read(text, code)).join("\n");
    insta::assert_snapshot!(table, @r#"
    2499 = 24.99 USD
    2490 = 24.90 USD
    2400 = 24.00 USD
    -2499 = -24.99 USD
    "24.999" has a fraction that USD does not have
    1 = 0.01 USD
    500 = 500 JPY
    500 = 500 JPY
    "500.5" has a fraction that JPY does not have
    1234 = 1.234 KWD
    "" is not an amount of USD
    ".5" is not an amount of USD
    "5." is not an amount of USD
    "1e3" is not an amount of USD
    "+1" is not an amount of USD
    "--1" is not an amount of USD
    "1,000.00" is not an amount of USD
    "99999999999999999999" is not an amount of USD
    "#);
    assert!("usd".parse::<Currency>().is_err() && "DOLLAR".parse::<Currency>().is_err());
}

#[test]
fn what_the_site_writes_on_an_order_is_read_strictly() {
    let read = |text: &str| match text.parse::<CustomId>() {
        Ok(custom) => format!("{} {} {:?}", custom.terms.plan, custom.terms.cycle, custom.user),
        Err(fault) => fault,
    };
    let table = [
        "gold_monthly_1700000000_42",
        "Gold_ANNUAL_1700000000",
        "gold_monthly_1_a_b",
        "gold_weekly_1_2",
        "gold_monthly",
        "_monthly_1_2",
        "gold_monthly_x_1",
    ];
    insta::assert_snapshot!(table.map(read).join("\n"), @r#"
    gold monthly Some("42")
    gold annual None
    gold monthly Some("a_b")
    "gold_weekly_1_2" is not of the form plan_cycle_unixtime or plan_cycle_unixtime_user
    "gold_monthly" is not of the form plan_cycle_unixtime or plan_cycle_unixtime_user
    "_monthly_1_2" is not of the form plan_cycle_unixtime or plan_cycle_unixtime_user
    "gold_monthly_x_1" is not of the form plan_cycle_unixtime or plan_cycle_unixtime_user
    "#);
}

proptest! {
    #[test]
    fn periods_follow_one_another_and_keep_the_day(seconds in 1_600_000_000_i64..2_500_000_000, months in 0_u32..240) {
        use chrono::{Datelike, TimeZone};
        let anchor = Utc.timestamp_opt(seconds, 0).unwrap();
        let (this, next) = (after_months(anchor, months), after_months(anchor, months + 1));
        prop_assert!(this < next);
        prop_assert!((27..=32).contains(&(next - this).num_days()), "{this} {next}");
        let day = |at: DateTime<Utc>| at.with_timezone(&chrono_tz::America::New_York).day();
        prop_assert!(day(this) == day(anchor) || day(this) < day(anchor) && day(this) >= 28);
        prop_assert!(before_months(anchor, months) <= anchor);
    }

    #[test]
    fn money_is_read_as_it_is_written(minor in -1_000_000_000_i64..1_000_000_000, code in "USD|JPY|KWD") {
        let currency: Currency = code.parse().unwrap();
        let money = Money { minor, currency };
        let text = money.to_string();
        prop_assert_eq!(Money::parse(text.strip_suffix(&format!(" {code}")).unwrap(), currency), Ok(money));
    }
}
