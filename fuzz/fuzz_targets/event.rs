//! A body: what PayPal and the site's own events say. Whatever it is, reading it is a result, never a panic, and the same bytes are
//! read the same way twice.

#![no_main]

use bellwether::webhooks::{Envelope, json, paypal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Ok(envelope) = Envelope::read(body) {
        assert!(json::parse(body).is_ok(), "an envelope is one JSON value");
        let first = paypal::read(&envelope);
        let second = paypal::read(&envelope);
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
    }
    let _ = Envelope::read_of_site(body);
});
