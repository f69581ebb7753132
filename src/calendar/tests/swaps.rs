//! Calendars that are swapped while others ask.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// The rows of a set: each closes at another hour, or not at all, and the last one brings as many as a file may be long.
fn rows(set: usize) -> String {
    let closing = |time: &str| format!("2027-03-15,XNYS,early_close,,{time},,,Drill,,,\n");
    let drill = |day| format!("{},XNYS,closure,,,,,Drill,,,\n", date("2030-01-01") + Days::new(day));
    match set {
        0 => String::new(),
        1 => closing("10:00"),
        2 => closing("11:00"),
        _ => closing("12:00") + &(0..10_000).map(drill).collect::<String>(),
    }
}

/// Eight threads ask without pause while the calendars are replaced a thousand times, some of them compiled anew meanwhile, and
/// bad files come in between.
#[test]
fn a_thousand_swaps_under_eight_readers_tear_nothing() {
    let asked = at("2027-03-15T13:45:00Z");
    // What a reader sees must belong to the version it sees.
    let sets: Vec<Calendars> = (0..4).map(|set| with_rows(&rows(set)).unwrap()).collect();
    let expected: Vec<(String, Moment)> = sets
        .iter()
        .map(|set| {
            let calendar = set.of("XNYS").unwrap();
            (calendar.version().to_owned(), calendar.at(asked))
        })
        .collect();
    assert!((0..4).all(|set| expected.iter().filter(|told| told.1 == expected[set].1).count() == 1), "they differ");
    let bad = ["", "not,a,calendar\n", "2027-03-15,XNYS,closure,,,,,A,,,\n2027-03-15,XNYS,closure,,,,,B,,,\n"];

    let shared = SharedCalendars::new(sets[0].clone(), "XNYS").unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut reads = 0_u64;
                    while !done.load(Ordering::Acquire) || reads < 1_000 {
                        let calendar = shared.load();
                        let known = expected.iter().find(|(version, _)| version == calendar.version()).unwrap();
                        assert_eq!(calendar.at(asked), known.1);
                        assert_eq!(shared.all().of("XNYS").unwrap().mic(), "XNYS");
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        for swap in 0..1_000 {
            let set = swap % sets.len();
            match swap {
                // The readers are the first to ask this one, so that they compile its other venues.
                _ if swap % 100 == 17 => shared.swap(with_rows(&rows(set)).unwrap()),
                _ => shared.swap(sets[set].clone()),
            }
            if swap % 250 == 0 {
                for text in bad {
                    assert!(read_csv(text, Origin::File).is_err() || with_rows(text).is_err());
                }
            }
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().unwrap() >= 1_000);
        }
    });

    let calendar = sets[3].of("XNYS").unwrap();
    assert_eq!(calendar.session(date("2040-03-15")), None);
    assert_eq!(calendar.at(at("2030-06-03T15:00:00Z")).confidence, Confidence::Operator);
    let (closed, open) = (date("2030-01-01"), date("2030-01-01") + Days::new(10_000));
    assert_eq!(calendar.sessions(closed, open).count(), usize::from(calendar.why(open).is_session));
}
