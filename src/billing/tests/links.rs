//! Several subscriptions of one account at PayPal: which of them counts, and what a word of the holder's means for each.

use proptest::prelude::*;

use super::*;

/// A change of the subscription `id`, which is gold by the month and was made then.
pub(super) fn change_of(id: &str, made: DateTime<Utc>, change: Change) -> What {
    What::Subscription {
        id: id.to_owned(),
        change,
        created_at: Some(made),
        plan_id: None,
        custom: Some("gold_monthly_1798761600_7".parse().unwrap()),
        payer: Payer::default(),
    }
}

/// A charge of the subscription `link`.
pub(super) fn sale_of(link: &str, id: &str, amount: &str) -> What {
    What::Payment {
        id: id.to_owned(),
        completed: true,
        amount: usd(amount),
        subscription: Some(link.to_owned()),
        custom: None,
        payer: Payer::default(),
    }
}

fn told(id: &str, made: &str, time: &str, change: Change) -> Event {
    event(time, change_of(id, at(made), change))
}

fn link_of(account: &Account) -> Option<&str> {
    account.subscription.as_ref().and_then(|subscription| subscription.link.as_deref())
}

#[test]
fn a_checkout_that_was_abandoned_detaches_nothing() {
    let made = "2027-01-01T16:58:00Z";
    let first = [
        told("I-1", made, "2027-01-01T17:00:00Z", Change::Activated),
        event("2027-01-01T17:00:00Z", sale_of("I-1", "S1", "79.99")),
        told("I-2", "2027-01-10T12:00:00Z", "2027-01-10T12:00:00Z", Change::Created),
        told("I-2", "2027-01-10T12:00:00Z", "2027-01-10T12:05:00Z", Change::Updated),
    ];
    let account = after(&first);
    assert_eq!(link_of(&account), Some("I-1"));
    let rules = rules();
    let night = at("2027-02-01T17:30:00Z");
    let decided = decide(account.subscription.as_ref().unwrap(), 0, Confirmation::Possible, &rules, night);
    assert_eq!(decided, Decision::Confirm("I-1".to_owned()), "PayPal is asked about the one that it charges");
    let then = |time: &str, change: Change| after(&[&first[..], &[told("I-1", made, time, change)]].concat());
    assert_eq!(line(&then("2027-01-20T12:00:00Z", Change::PaymentFailed)), "past_due gold monthly to 2027-02-01 17:00");
    let ended = then("2027-01-20T12:00:00Z", Change::Canceled);
    assert_eq!((line(&ended).as_str(), link_of(&ended)), ("canceled gold monthly to 2027-02-01 17:00", None));
}

#[test]
fn the_first_days_are_given_also_after_a_checkout_that_was_abandoned() {
    let events = [
        told("I-1", "2027-01-01T12:00:00Z", "2027-01-01T12:00:00Z", Change::Created),
        told("I-2", "2027-01-01T16:58:00Z", "2027-01-01T17:00:00Z", Change::Activated),
    ];
    assert_eq!(line(&after(&events)), "active gold monthly to 2027-01-04 17:00");
}

#[test]
fn of_two_that_run_the_newest_counts_and_the_older_when_that_has_ended() {
    let (old, new) = ("2027-01-01T16:58:00Z", "2027-01-15T12:00:00Z");
    let events = [
        told("I-1", old, "2027-01-01T17:00:00Z", Change::Activated),
        event("2027-01-01T17:00:00Z", sale_of("I-1", "S1", "79.99")),
        told("I-2", new, "2027-01-15T12:01:00Z", Change::Activated),
        told("I-2", new, "2027-01-20T12:00:00Z", Change::Canceled),
    ];
    let both = after(&events[..3]);
    assert_eq!((link_of(&both), both.facts.running_links()), (Some("I-2"), vec!["I-2", "I-1"]));
    let one = after(&events);
    assert_eq!((link_of(&one), line(&one).as_str()), (Some("I-1"), "active gold monthly to 2027-02-01 17:00"));
    // Charged, and never told of: it runs.
    let charged = after(&[event("2027-01-01T17:00:00Z", sale_of("I-7", "S7", "79.99"))]);
    assert_eq!(charged.facts.running_links(), ["I-7"]);
}

#[test]
fn what_ran_before_the_holder_gave_up_is_to_end_also_where_it_is_told_late() {
    let rules = rules();
    let first = after(&[
        told("I-1", "2027-01-01T16:58:00Z", "2027-01-01T17:00:00Z", Change::Activated),
        event("2027-01-01T17:00:00Z", sale_of("I-1", "S1", "79.99")),
    ]);
    let no = Choice { at: at("2027-01-20T00:00:00Z"), auto_renew: false };
    let (left, _) = choose(&first, no, &rules);
    let then = |event: &Event| {
        let (account, _) = apply(&left, event, &rules, event.at);
        account.facts.links_to_end().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(left.facts.links_to_end(), ["I-1"]);
    let late = told("I-2", "2027-01-10T11:00:00Z", "2027-01-10T12:00:00Z", Change::Activated);
    assert_eq!(then(&late), ["I-2", "I-1"]);
    let bought = told("I-2", "2027-01-10T11:00:00Z", "2027-01-21T12:00:00Z", Change::Activated);
    assert_eq!(then(&bought), ["I-1"], "what was agreed after the word is wanted");
    assert_eq!(then(&event("2027-01-21T12:00:00Z", sale_of("I-2", "S2", "79.99"))), ["I-1"]);
    assert_eq!(then(&told("I-1", "2027-01-01T16:58:00Z", "2027-01-20T08:00:00Z", Change::Canceled)), [""; 0]);
}

/// What may be said of a subscription that was approved.
const WORDS: [Change; 5] =
    [Change::Activated, Change::PaymentFailed, Change::Suspended, Change::Canceled, Change::Expired];

/// What is told of two subscriptions of PayPal's and of one that nobody approved, in any order, and the holder's word.
#[derive(Debug, Clone)]
struct Story {
    events: Vec<Event>,
    word: Option<Choice>,
    seed: u64,
}

const MADE: [(&str, i64); 3] = [("I-A", 0), ("I-B", 240), ("I-U", 480)];

fn start() -> DateTime<Utc> {
    at("2027-01-01T12:00:00Z")
}

fn story() -> impl Strategy<Value = Story> {
    let word = (0_usize..2, 0_usize..5, 1_i64..720).prop_map(|(which, word, hours)| {
        let (id, made) = MADE[which];
        let made = start() + TimeDelta::hours(made);
        let at = made + TimeDelta::hours(hours);
        Event { at, ..event("2027-01-01T12:00:00Z", change_of(id, made, WORDS[word])) }
    });
    let charge = (0_usize..2, 1_i64..720).prop_map(|(which, hours)| {
        let (id, made) = MADE[which];
        let at = start() + TimeDelta::hours(made + hours);
        Event { at, ..event("2027-01-01T12:00:00Z", sale_of(id, &format!("S-{id}"), "79.99")) }
    });
    let unapproved = (0_usize..2, 0_i64..48).prop_map(|(kind, hours)| {
        let (id, made) = MADE[2];
        let made = start() + TimeDelta::hours(made);
        let change = [Change::Created, Change::Updated][kind];
        Event { at: made + TimeDelta::hours(hours), ..event("2027-01-01T12:00:00Z", change_of(id, made, change)) }
    });
    let thing = prop_oneof![6 => word, 1 => charge, 2 => unapproved];
    let choice = prop::option::of((1_i64..1_000, any::<bool>()));
    (prop::collection::vec(thing, 0..12), choice, any::<u64>()).prop_map(|(mut events, choice, seed)| {
        // Something is paid for in any case, so that there is an account to look at.
        events.push(event("2027-01-01T12:00:00Z", change_of("I-A", start(), Change::Activated)));
        events.push(event("2027-01-01T12:00:00Z", sale_of("I-A", "S0", "79.99")));
        events.push(event("2027-01-01T12:00:00Z", change_of("I-A", start(), Change::Updated)));
        let word =
            choice.map(|(hours, auto_renew)| Choice { at: start() + TimeDelta::minutes(60 * hours + 30), auto_renew });
        Story { events, word, seed }
    })
}

/// Told in an order of its own, the word somewhere in between.
fn lived(story: &Story) -> Account {
    let rules = rules();
    let mut random = story.seed;
    let mut draw = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % below
    };
    let mut events = story.events.clone();
    for n in (1..events.len()).rev() {
        events.swap(n, draw(n + 1));
    }
    let spoken = draw(events.len() + 1);
    let mut account = Account::default();
    for n in 0..=events.len() {
        if n == spoken
            && let Some(word) = story.word
        {
            account = choose(&account, word, &rules).0;
        }
        if let Some(event) = events.get(n) {
            account = apply(&account, event, &rules, event.at).0;
        }
    }
    account
}

/// An oracle of its own. Of each subscription its newest word; of both the one that charges, before the one that rests, before the one
/// that has ended; of equals the newer.
fn model(story: &Story) -> (Status, Option<&'static str>, bool) {
    let said = |id: &str| {
        let of_it = story.events.iter().filter_map(|event| match &event.what {
            What::Subscription { id: of, change, .. } if of == id && WORDS.contains(change) => {
                Some((event.at, *change))
            }
            _ => None,
        });
        of_it.max()
    };
    let paid = story.events.iter().filter_map(|event| match &event.what {
        What::Payment { id, subscription, .. } => Some((id.clone(), subscription.clone(), event.at)),
        _ => None,
    });
    // Money told with two times has the earlier.
    let mut first = BTreeMap::new();
    for (id, link, at) in paid {
        let known = first.entry(id).or_insert((link, at));
        known.1 = known.1.min(at);
    }
    let rank = |word: Option<(DateTime<Utc>, Change)>| match word {
        Some((_, Change::Canceled | Change::Expired)) => 0,
        Some((_, Change::Suspended)) => 1,
        _ => 2,
    };
    let charged = |id: &str| first.values().any(|(link, _)| link.as_deref() == Some(id));
    let both = MADE[..2].iter().filter(|(id, _)| said(id).is_some() || charged(id));
    let (id, _) = *both.max_by_key(|(id, made)| (rank(said(id)), *made)).unwrap();
    let word = said(id);
    let more = word.and_then(|(at, change)| match change {
        Change::Canceled | Change::Expired => Some((at, false)),
        Change::Activated => Some((at, true)),
        _ => None,
    });
    let words = more.into_iter().chain(story.word.map(|word| (word.at, word.auto_renew)));
    let goes_on = words.max_by_key(|(at, more)| (*at, !more)).is_none_or(|(_, more)| more);
    let newest = first.values().filter(|(_, at)| Some(*at) >= word.map(|(at, _)| at)).count();
    let status = match word {
        _ if !goes_on => Status::Canceled,
        Some((_, Change::PaymentFailed)) if newest == 0 => Status::PastDue,
        Some((_, Change::Suspended)) if newest == 0 => Status::Suspended,
        _ => Status::Active,
    };
    (status, (rank(word) > 0).then_some(id), goes_on)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(3_000), ..ProptestConfig::default() })]

    #[test]
    fn the_subscription_that_charges_is_the_one_that_counts_in_whatever_order_it_is_told(story in story()) {
        let account = lived(&story);
        let now = start() + TimeDelta::days(60);
        let stands = derive(&account.facts, &rules(), now).unwrap();
        prop_assert_eq!((stands.status, stands.link.as_deref(), stands.auto_renew), model(&story));
        for link in account.facts.links_to_end() {
            prop_assert!(account.facts.running_links().contains(&link) && link != "I-U");
        }
    }
}
