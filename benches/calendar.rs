//! How fast the calendar answers: `cargo bench --bench calendar`, or `bench/calendar` beside Python's exchange_calendars.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::sync::Arc;

use bellwether::calendar::{Calendar, Calendars, Operator};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use criterion::{Criterion, criterion_group, criterion_main};

/// Instants in one round; a figure of a round divided by it is the figure of one call.
const ROUND: usize = 4_096;

/// Instants of 2020-2025 in no order: a multiplicative generator, so that every run asks the same.
fn instants() -> Vec<DateTime<Utc>> {
    let start = DateTime::parse_from_rfc3339("2020-01-01T00:00:00Z").unwrap().to_utc();
    let seconds = u64::try_from(TimeDelta::days(6 * 365).num_seconds()).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        start
            + TimeDelta::nanoseconds(i64::try_from((state >> 20) % seconds * 1_000_000_000 + (state & 0xffff)).unwrap())
    })
    .take(ROUND)
    .collect()
}

fn bench(criterion: &mut Criterion) {
    let calendars = Calendars::built_in().unwrap();
    let calendar: Arc<Calendar> = calendars.of("XNYS").unwrap();
    let instants = instants();
    let dates: Vec<NaiveDate> = instants.iter().map(|instant| instant.date_naive()).collect();
    macro_rules! round {
        ($name:literal, $inputs:expr, |$input:ident| $call:expr) => {
            criterion.bench_function($name, |bencher| {
                bencher.iter(|| {
                    for $input in &$inputs {
                        let $input = *black_box($input);
                        black_box($call);
                    }
                });
            });
        };
    }
    round!("at", instants, |at| calendar.at(at));
    round!("next_open", instants, |at| calendar.next_open(at));
    round!("previous_close", instants, |at| calendar.previous_close(at));
    round!("nth_session", dates, |date| calendar.nth_session(date, 252));
    round!("session", dates, |date| calendar.session(date));
    round!("why", dates, |date| calendar.why(date));
    criterion.bench_function("compile", |bencher| {
        // 150 years, as far as the embedded zone data is written out.
        let years = (1950, 2099);
        bencher.iter(|| Calendars::build_for(Operator::default(), years).unwrap().of(black_box("XNYS")).unwrap());
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
