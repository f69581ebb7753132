//! A certificate file: whatever is served as one is read and followed without a panic, and nothing made up leads to an anchor.

#![no_main]

use bellwether::webhooks::certificate::{establish, read_file};
use chrono::DateTime;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let Ok(chain) = read_file(file) else { return };
    let Some(at) = DateTime::from_timestamp(1_490_904_250, 0) else { return };
    if let Ok(certificate) = establish(&chain, &[], &["messageverificationcerts.paypal.com"], at) {
        let _ = certificate.check_signature("id|time|webhook|0", &[0; 256]);
    }
});
