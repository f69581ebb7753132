//! Calendars that are swapped while others ask.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Eight threads ask without pause while the calendars are replaced a thousand times, and bad files come in between.
#[test]
fn a_thousand_swaps_under_eight_readers_tear_nothing() {
    let asked = at("2027-03-15T15:30:00Z");
    // Each set closes at another hour, or not at all: what a reader sees must belong to the version it sees.
    let sets: Vec<Calendars> = ["", "10:00", "11:00", "12:00"]
        .iter()
        .map(|close| match *close {
            "" => Calendars::built_in().unwrap(),
            close => with_rows(&format!("2027-03-15,XNYS,early_close,,{close},,,Drill,,,")).unwrap(),
        })
        .collect();
    let expected: Vec<(String, Moment)> = sets
        .iter()
        .map(|set| {
            let calendar = set.of("XNYS").unwrap();
            (calendar.version().to_owned(), calendar.at(asked))
        })
        .collect();
    let many: String =
        (0..10_000).map(|day| format!("{},XNYS,closure,,,,,Drill,,,\n", date("2030-01-01") + Days::new(day))).collect();
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
            if swap % 100 == 0 {
                for text in bad {
                    assert!(read_csv(text, Origin::File).is_err() || with_rows(text).is_err());
                }
            }
            shared.swap(sets[swap % sets.len()].clone());
        }
        done.store(true, Ordering::Release);
        for reader in readers {
            assert!(reader.join().unwrap() >= 1_000);
        }
    });

    let whole = with_rows(&many).unwrap();
    let calendar = whole.of("XNYS").unwrap();
    assert_eq!(calendar.session(date("2040-03-15")), None);
    assert_eq!(calendar.at(at("2030-06-03T15:00:00Z")).confidence, Confidence::Operator);
    let (closed, open) = (date("2030-01-01"), date("2030-01-01") + Days::new(10_000));
    assert_eq!(calendar.sessions(closed, open).count(), usize::from(calendar.why(open).is_session));
}
