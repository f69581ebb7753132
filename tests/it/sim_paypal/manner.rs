//! How PayPal may deliver what it tells: in any order, more than once, late.

use serde_json::Value;

use super::SimPayPal;

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// As it happened.
    Straight,
    /// Each twice, and once more under another id of the event: it has been seen to tell the same sale so.
    Repeated,
    /// The newest first.
    Backwards,
    /// In an order made of this number.
    Shuffled(u64),
    /// All but the newest come when the others are through, as after days of failing.
    Late,
}

impl SimPayPal {
    /// Posts `events` in a manner; each must be acknowledged.
    pub async fn deliver(&self, http: &reqwest::Client, api: std::net::SocketAddr, events: &[Value], manner: Manner) {
        let mut all: Vec<Value> = events.to_vec();
        match manner {
            Manner::Straight => {}
            Manner::Backwards => all.reverse(),
            Manner::Late => all.rotate_right(1),
            Manner::Repeated => {
                let renamed = all.iter().map(|event| {
                    let mut again = event.clone();
                    again["id"] = format!("{}-again", event["id"].as_str().unwrap()).into();
                    again
                });
                let renamed: Vec<Value> = renamed.collect();
                all = all.iter().flat_map(|event| [event.clone(), event.clone()]).chain(renamed).collect();
            }
            Manner::Shuffled(seed) => {
                let mut random = seed;
                for n in (1..all.len()).rev() {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    all.swap(n, usize::try_from(random >> 33).unwrap() % (n + 1));
                }
            }
        }
        for event in all {
            let (status, body) = self.sign(event.to_string().as_bytes()).post(http, api).await;
            assert_eq!(status, 200, "{body}");
        }
    }
}
