//! The questions that are asked all the time cost no allocation. A binary of its own: counting replaces the allocator.

use bellwether::calendar::Calendars;
use chrono::{DateTime, Utc};

#[test]
fn asking_the_table_allocates_nothing() {
    let calendar = Calendars::built_in().unwrap().of("XNYS").unwrap();
    let start: DateTime<Utc> = "1990-01-02T00:00:00Z".parse().unwrap();
    let mut asked = 0;
    let counted = allocation_counter::measure(|| {
        for hours in 0..24 * 365 * 40 / 7 {
            let instant = start + chrono::TimeDelta::hours(hours * 7);
            let moment = calendar.at(instant);
            assert!(moment.next_transition > instant);
            assert!(calendar.next_open(instant) > instant && calendar.next_close(instant) > instant);
            assert!(calendar.previous_close(instant) <= instant);
            assert!(calendar.nth_session(instant.date_naive(), 252).is_some());
            asked += 1;
        }
    });
    assert!(asked > 50_000);
    assert_eq!(counted.count_total, 0);
    // The counter does count.
    assert!(allocation_counter::measure(|| drop(std::hint::black_box(vec![0_u8; 16]))).count_total > 0);
}
