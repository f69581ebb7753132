use super::*;

fn subscription(status: Status, end: &str) -> Subscription {
    Subscription {
        status,
        terms: terms("gold", BillingCycle::Annual),
        auto_renew: status != Status::Canceled,
        current_period_end: at(end),
        anchor: Some((at(end), 0)),
        next_terms: None,
        lapsed: matches!(status, Status::Expired),
        link: None,
    }
}

const END: &str = "2027-03-13T05:00:00Z";

#[test]
fn d11_d12_the_rule_at_the_end_of_a_period_and_after_it() {
    let all = [Status::Active, Status::PastDue, Status::Canceled, Status::Suspended, Status::Expired];
    let table = all.map(|status| {
        let days = [-1, 1, 13, 14, 29, 30];
        let mut steps = days.map(|days| {
            let now = at(END) + TimeDelta::days(days);
            let lapsed = days > 1 && status != Status::Canceled;
            let one = Subscription { lapsed, ..subscription(status, END) };
            decide(&one, 0, Confirmation::Unpaid, &rules(), now).action()
        });
        steps.iter_mut().for_each(|step| *step = step.strip_prefix("marked_").unwrap_or(step));
        format!("{status}: {}", steps.join(" | "))
    });
    insta::assert_snapshot!(table.join("\n"), @"
    active: skipped | past_due | skipped | suspended | suspended | expired
    past_due: skipped | past_due | skipped | suspended | suspended | expired
    canceled: skipped | expired | expired | expired | expired | expired
    suspended: skipped | suspended | skipped | skipped | skipped | expired
    expired: skipped | skipped | skipped | skipped | skipped | skipped
    ");
}

#[test]
fn d8_three_paid_invites_are_one_calendar_month_for_an_annual_customer_too() {
    let (before, rules, now) =
        (subscription(Status::Active, "2027-01-31T05:00:00Z"), rules(), at("2027-01-31T08:00:00Z"));
    assert_eq!(decide(&before, 2, Confirmation::Unpaid, &rules, now), Decision::MarkPastDue);
    let decision = decide(&before, 3, Confirmation::Unpaid, &rules, now);
    assert_eq!(decision, Decision::UseCredit);
    let after = decision.after(&before, &rules, now);
    assert_eq!((after.status, after.current_period_end), (Status::Active, at("2027-02-28T05:00:00Z")));
    let again = Decision::UseCredit.after(&after, &rules, at("2027-02-28T08:00:00Z"));
    assert_eq!(again.current_period_end, at("2027-03-31T04:00:00Z"), "the 31st comes back");
}

#[test]
fn d52_a_credit_on_what_is_past_due_makes_it_active_for_a_month_to_come() {
    let (rules, now) = (rules(), at("2027-03-20T07:00:00Z"));
    let before = Subscription { lapsed: true, ..subscription(Status::PastDue, END) };
    let after = decide(&before, 3, Confirmation::Unpaid, &rules, now).after(&before, &rules, now);
    assert_eq!(
        (after.status, after.lapsed, after.current_period_end),
        (Status::Active, false, at("2027-04-13T04:00:00Z"))
    );
    assert!(matches!(decide(&after, 30, Confirmation::Unpaid, &rules, now), Decision::Wait(_)), "one a period");
}

#[test]
fn the_provider_is_asked_first_and_its_silence_costs_nobody_anything() {
    let (rules, now) = (rules(), at("2027-03-13T07:00:00Z"));
    let linked = Subscription { link: Some("I-1".to_owned()), ..subscription(Status::Active, END) };
    let decided = |asked| decide(&linked, 0, asked, &rules, now);
    assert_eq!(decided(Confirmation::Possible), Decision::Confirm("I-1".to_owned()));
    assert_eq!(decided(Confirmation::Unreachable), Decision::Uncertain);
    assert_eq!(decided(Confirmation::Unpaid), Decision::MarkPastDue);
    assert_eq!(Decision::Uncertain.after(&linked, &rules, now), linked);
    assert!(linked.has_access(now, &rules));
}

#[test]
fn access_lasts_as_long_as_was_promised() {
    let rules = rules();
    let has =
        |status, lapsed, time: &str| Subscription { lapsed, ..subscription(status, END) }.has_access(at(time), &rules);
    assert!(has(Status::Canceled, false, "2027-03-13T04:59:59Z"));
    assert!(!has(Status::Canceled, false, END), "not until the night, nor longer where nights are missed");
    assert!(has(Status::Suspended, false, "2027-03-13T04:59:59Z"), "it is paid for");
    assert!(has(Status::PastDue, true, "2027-03-27T04:59:59Z"));
    assert!(!has(Status::PastDue, true, "2027-03-27T05:00:00Z"));
    assert!(!has(Status::Suspended, true, "2027-03-14T00:00:00Z"));
    assert!(!has(Status::Expired, true, "2027-03-13T05:00:00Z"));
}
