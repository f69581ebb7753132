use super::*;

const GOLD: &str = "gold_monthly_1798761600_7";

#[test]
fn d38_d51_a_payment_makes_its_account_active_whatever_it_was_and_under_older_names_too() {
    let first = after(&[event("2027-01-31T17:00:00Z", capture("C1", "49.99", "pro_monthly_1_7"))]);
    assert_eq!(line(&first), "active silver monthly to 2027-02-28 17:00");
    let rules = rules();
    let late = at("2027-03-05T08:00:00Z");
    let past_due = Decision::MarkPastDue.after(first.subscription.as_ref().unwrap(), &rules, late);
    let before = Account { subscription: Some(past_due), ..first };
    let second = event("2027-03-06T17:00:00Z", capture("C2", "49.99", "silver_monthly_2_7"));
    let (after, effects) = apply(&before, &second, &rules, second.at);
    // Within the grace it goes on from the end of the period, and the 31st comes back.
    assert_eq!(line(&after), "active silver monthly to 2027-03-31 16:00");
    assert!(effects.contains(&Effect::Changed));
}

#[test]
fn d10_who_pays_early_loses_no_day_and_who_pays_late_pays_for_no_day_without_access() {
    let on = |second: &str| {
        let first = event("2027-01-31T17:00:00Z", capture("C1", "79.99", GOLD));
        line(&after(&[first, event(second, capture("C2", "79.99", GOLD))]))
    };
    assert_eq!(on("2027-02-10T12:00:00Z"), "active gold monthly to 2027-03-31 16:00");
    assert_eq!(on("2027-03-14T17:00:00Z"), "active gold monthly to 2027-03-31 16:00");
    assert_eq!(on("2027-03-14T17:00:01Z"), "active gold monthly to 2027-04-14 17:00");
}

#[test]
fn d6_a_cent_buys_nothing_nor_does_the_right_amount_of_another_currency() {
    let yen = What::Payment {
        id: "C2".to_owned(),
        completed: true,
        amount: Money::parse("7999", "JPY".parse().unwrap()).unwrap(),
        subscription: None,
        custom: Some(GOLD.parse().unwrap()),
        payer: Payer::default(),
    };
    for what in [capture("C1", "0.01", GOLD), capture("C1", "24.99", GOLD), capture("C1", "159.98", GOLD), yen] {
        let event = event("2027-01-31T17:00:00Z", what);
        let (account, effects) = apply(&Account::default(), &event, &rules(), event.at);
        assert_eq!(line(&account), "nothing");
        assert!(effects.iter().any(|effect| matches!(effect, Effect::Operator { code: "wrong_amount", .. })));
        assert_eq!(account.facts.payments.len(), 1, "the money is kept all the same");
    }
}

#[test]
fn d34_d41_what_is_not_sold_cannot_be_bought() {
    for plan in ["enterprise_monthly_1_7", "free_monthly_1_7", "platinum_annual_1_7"] {
        let account = after(&[event("2027-01-31T17:00:00Z", capture("C1", "79.99", plan))]);
        assert_eq!(line(&account), "nothing", "{plan}");
    }
}

#[test]
fn d37_the_same_money_counts_once_under_however_many_events() {
    let told = |time: &str| event(time, capture("C1", "79.99", GOLD));
    let once = after(&[told("2027-01-31T17:00:00Z")]);
    let thrice = after(&[told("2027-02-03T17:00:00Z"), told("2027-01-31T17:00:00Z"), told("2027-01-31T17:00:00Z")]);
    assert_eq!(line(&once), line(&thrice));
    assert_eq!(thrice.facts.totals()["USD"], (7_999, 0));
}

#[test]
fn d5_money_that_is_held_counts_when_it_is_there() {
    let held = What::Payment {
        id: "C1".to_owned(),
        completed: false,
        amount: usd("79.99"),
        subscription: None,
        custom: Some(GOLD.parse().unwrap()),
        payer: Payer::default(),
    };
    let held = event("2027-01-31T17:00:00Z", held);
    assert_eq!(line(&after(std::slice::from_ref(&held))), "nothing");
    let there = event("2027-02-02T17:00:00Z", capture("C1", "79.99", GOLD));
    assert_eq!(line(&after(&[held.clone(), there.clone()])), "active gold monthly to 2027-03-02 17:00");
    assert_eq!(line(&after(&[there, held])), "active gold monthly to 2027-03-02 17:00");
}

#[test]
fn a_subscription_of_paypal_lives_through_its_months() {
    let events = [
        event("2027-01-01T17:00:00Z", change(Change::Activated)),
        event("2027-01-01T16:59:00Z", change(Change::Created)),
        event("2027-01-01T17:01:00Z", sale("S1", "79.99")),
        event("2027-02-01T17:30:00Z", sale("S2", "79.99")),
        event("2027-02-20T12:00:00Z", change(Change::PaymentFailed)),
        event("2027-02-25T12:00:00Z", change(Change::Suspended)),
        event("2027-02-26T12:00:00Z", sale("S3", "79.99")),
        event("2027-03-10T12:00:00Z", change(Change::Canceled)),
    ];
    let told: Vec<_> = (1..=events.len()).map(|n| line(&after(&events[..n]))).collect();
    insta::assert_snapshot!(told.join("\n"), @"
    active gold monthly to 2027-01-04 17:00
    active gold monthly to 2027-01-04 17:00
    active gold monthly to 2027-02-01 17:01
    active gold monthly to 2027-03-01 17:01
    past_due gold monthly to 2027-03-01 17:01
    suspended gold monthly to 2027-03-01 17:01
    active gold monthly to 2027-04-01 16:01
    canceled gold monthly to 2027-04-01 16:01
    ");
}

#[test]
fn a_charge_of_twice_the_price_after_a_failed_one_pays_both_months() {
    let events = [
        event("2027-01-01T17:00:00Z", change(Change::Activated)),
        event("2027-01-01T17:00:00Z", sale("S1", "79.99")),
        event("2027-02-01T17:00:00Z", change(Change::PaymentFailed)),
        event("2027-03-01T17:00:00Z", sale("S2", "159.98")),
    ];
    assert_eq!(line(&after(&events)), "active gold monthly to 2027-04-01 16:00");
    let odd = event("2027-03-01T17:00:00Z", sale("S2", "100.00"));
    let account = after(&[events[0].clone(), events[1].clone(), odd]);
    assert_eq!(account.facts.verdict(&account.facts.payments[1], &rules()), Verdict::WrongAmount);
}

#[test]
fn paypals_own_id_of_the_plan_is_stronger_than_what_the_browser_wrote() {
    let what = What::Subscription {
        id: "I-1".to_owned(),
        change: Change::Activated,
        created_at: None,
        plan_id: Some("P-GOLD".to_owned()),
        custom: Some("bronze_annual_1_7".parse().unwrap()),
        payer: Payer::default(),
    };
    let account = after(&[event("2027-01-01T17:00:00Z", what), event("2027-01-01T17:00:00Z", sale("S1", "79.99"))]);
    assert_eq!(line(&account), "active gold monthly to 2027-02-01 17:00");
}

#[test]
fn another_plan_begins_when_the_one_that_is_paid_for_ends() {
    let events = [
        event("2027-01-10T17:00:00Z", capture("C1", "79.99", GOLD)),
        event("2027-01-20T17:00:00Z", capture("C2", "24.99", "bronze_monthly_2_7")),
    ];
    let account = after(&events);
    assert_eq!(line(&account), "active gold monthly to 2027-03-10 17:00");
    let subscription = account.subscription.unwrap();
    let rules = rules();
    let plans = ["2027-02-10T16:59:59Z", "2027-02-10T17:00:00Z", "2027-03-24T16:59:59Z", "2027-03-24T17:00:00Z"]
        .map(|time| subscription.plan_at(at(time), &rules).to_owned());
    assert_eq!(plans, ["gold", "bronze", "bronze", "free"]);
    assert_eq!(subscription.next_action_at(at("2027-01-20T17:00:00Z"), &rules), Some(at("2027-02-10T17:00:00Z")));
}

#[test]
fn d23_a_refund_takes_back_what_was_paid_for_also_when_it_is_told_first() {
    let paid = event("2027-01-31T17:00:00Z", capture("C1", "79.99", GOLD));
    let back = event("2027-02-05T17:00:00Z", reversal("R1", "C1", ReversalKind::Refunded, Some("79.99")));
    let after_both = after(&[paid.clone(), back.clone()]);
    assert_eq!(line(&after_both), "expired gold monthly to 2027-01-31 17:00");
    assert!(!after_both.subscription.as_ref().unwrap().has_access(at("2027-02-15T17:00:00Z"), &rules()));
    let (waits, _) = apply(&Account::default(), &back, &rules(), back.at);
    let (late, _) = apply(&waits, &paid, &rules(), back.at);
    assert_eq!(late.facts.totals()["USD"], (7_999, 7_999));
    assert_eq!(line(&late), line(&after_both));
}

#[test]
fn a_refund_of_a_part_leaves_the_access_and_parts_add_up() {
    let paid = event("2027-01-31T17:00:00Z", capture("C1", "79.99", GOLD));
    let part = |id: &str, amount: &str| {
        event("2027-02-05T17:00:00Z", reversal(id, "C1", ReversalKind::Refunded, Some(amount)))
    };
    let one = after(&[paid.clone(), part("R1", "30.00")]);
    assert_eq!(line(&one), "active gold monthly to 2027-02-28 17:00");
    let both = after(&[paid, part("R1", "30.00"), part("R2", "49.99")]);
    assert_eq!(line(&both), "expired gold monthly to 2027-01-31 17:00");
}

#[test]
fn a_price_that_was_left_out_counts_when_it_is_there_and_its_inviter_earns() {
    let mut without = rules();
    without.plans.get_mut("gold").unwrap().monthly.clear();
    let paid = event("2027-01-31T17:00:00Z", capture("C1", "79.99", GOLD));
    let (wrong, effects) = apply(&Account::default(), &paid, &without, paid.at);
    assert_eq!((line(&wrong).as_str(), effects.contains(&Effect::Pays(true))), ("nothing", false));
    let (right, effects) = settle(&wrong, wrong.facts.clone(), Vec::new(), &rules(), paid.at);
    assert_eq!(line(&right), "active gold monthly to 2027-02-28 17:00");
    assert!(effects.contains(&Effect::Pays(true)) && effects.contains(&Effect::Mail(Letter::Welcome)));
    let (again, effects) = settle(&right, right.facts.clone(), Vec::new(), &without, paid.at);
    assert_eq!((again, effects), (right, vec![]));
}

/// What an earlier version kept has no worth with it, and its price may be gone before it is looked at: what there was stays.
#[test]
fn a_subscription_does_not_vanish_with_the_price_of_what_paid_for_it() {
    let mut account = after(&[event("2027-01-31T17:00:00Z", capture("C1", "79.99", GOLD))]);
    account.facts.payments[0].good_for = None;
    let mut without = rules();
    without.plans.get_mut("gold").unwrap().monthly.clear();
    let no = Choice { at: at("2027-02-01T00:00:00Z"), auto_renew: false };
    let (left, _) = choose(&account, no, &without);
    assert_eq!(line(&left), "canceled gold monthly to 2027-02-28 17:00");
    let (found, _) = settle(&left, left.facts.clone(), Vec::new(), &rules(), no.at);
    assert_eq!(line(&found), "canceled gold monthly to 2027-02-28 17:00");
    assert!(found.facts.payments[0].good_for.is_some());
    let back = event("2027-02-02T17:00:00Z", reversal("R1", "C1", ReversalKind::Refunded, None));
    assert!(apply(&account, &back, &rules(), back.at).1.contains(&Effect::Pays(false)), "its inviter loses the credit");
}

#[test]
fn more_that_is_known_of_a_payment_counts_whatever_came_first() {
    let plan = |time: &str, custom: &str| {
        let mut what = change(Change::Updated);
        if let What::Subscription { custom: said, .. } = &mut what {
            *said = Some(custom.parse().unwrap());
        }
        event(time, what)
    };
    // Two plans of one price: the newest word before the charge says which it was.
    let mut rules = rules();
    rules.plans.get_mut("silver").unwrap().monthly.push(usd("79.99"));
    let events = [
        event("2027-01-01T17:00:00Z", change(Change::Activated)),
        event("2027-01-05T17:00:00Z", sale("S1", "79.99")),
        plan("2027-01-03T17:00:00Z", "silver_monthly_1_7"),
    ];
    let told = |order: [usize; 3]| {
        let tell = |account: Account, n: usize| apply(&account, &events[n], &rules, events[1].at).0;
        line(&order.into_iter().fold(Account::default(), tell))
    };
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        assert_eq!(told(order), "active silver monthly to 2027-02-05 17:00", "{order:?}");
    }
}

#[test]
fn a_reversal_of_the_newest_charge_leaves_the_months_before() {
    let events = [
        event("2027-01-01T17:00:00Z", change(Change::Activated)),
        event("2027-01-01T17:00:00Z", sale("S1", "79.99")),
        event("2027-02-01T17:00:00Z", sale("S2", "79.99")),
        event("2027-02-09T17:00:00Z", reversal("S2", "S2", ReversalKind::Reversed, None)),
    ];
    assert_eq!(line(&after(&events)), "past_due gold monthly to 2027-02-01 17:00");
}

#[test]
fn an_older_word_never_undoes_a_newer_one() {
    let canceled = event("2027-01-20T17:00:00Z", change(Change::Canceled));
    let suspended = event("2027-01-15T17:00:00Z", change(Change::Suspended));
    let first =
        [event("2027-01-01T17:00:00Z", change(Change::Activated)), event("2027-01-01T17:00:00Z", sale("S1", "79.99"))];
    let late = [first.to_vec(), vec![canceled, suspended]].concat();
    assert_eq!(line(&after(&late)), "canceled gold monthly to 2027-02-01 17:00");
    let again = event("2027-01-25T17:00:00Z", change(Change::Activated));
    assert_eq!(line(&after(&[late, vec![again]].concat())), "active gold monthly to 2027-02-01 17:00");
}

#[test]
fn d53_the_holders_own_word_holds_until_a_newer_one() {
    let rules = rules();
    let paid = after(&[event("2027-01-31T17:00:00Z", capture("C1", "79.99", GOLD))]);
    let no = Choice { at: at("2027-02-01T00:00:00Z"), auto_renew: false };
    let (left, effects) = choose(&paid, no, &rules);
    assert_eq!(line(&left), "canceled gold monthly to 2027-02-28 17:00");
    assert!(effects.contains(&Effect::Mail(Letter::Canceled)));
    assert_eq!(choose(&left, Choice { auto_renew: true, ..no }, &rules).0, left, "not newer");
    let yes = Choice { at: at("2027-02-02T00:00:00Z"), auto_renew: true };
    assert_eq!(line(&choose(&left, yes, &rules).0), "active gold monthly to 2027-02-28 17:00");
    let bought = event("2027-02-03T00:00:00Z", capture("C2", "79.99", GOLD));
    assert_eq!(line(&apply(&left, &bought, &rules, bought.at).0), "active gold monthly to 2027-03-31 16:00");
}

#[test]
fn the_first_days_of_a_subscription_are_given_once() {
    let active = event("2027-01-01T17:00:00Z", change(Change::Activated));
    let bad = event("2027-01-01T17:00:00Z", sale("S1", "0.01"));
    assert_eq!(line(&after(std::slice::from_ref(&active))), "active gold monthly to 2027-01-04 17:00");
    assert_eq!(after(&[active, bad]).subscription.unwrap().status, Status::Expired, "a cent ends them");
}

/// A trial for a dollar and half a month's price were never prices of a plan: they buy what is listed, and nothing by themselves.
#[test]
fn d39_d40_a_trial_and_half_a_price_buy_nothing_that_is_not_listed() {
    for amount in ["1.00", "40.00", "12.49"] {
        let account = after(&[event("2027-01-31T12:00:00Z", capture("C1", amount, "gold_monthly_1_7"))]);
        assert_eq!(line(&account), "nothing", "{amount}");
        assert_eq!(account.facts.verdict(&account.facts.payments[0], &rules()), Verdict::WrongAmount);
    }
    // Nor do they shorten or lengthen what was paid for.
    let both = [
        event("2027-01-31T12:00:00Z", capture("C1", "79.99", "gold_monthly_1_7")),
        event("2027-02-01T12:00:00Z", capture("C2", "1.00", "gold_monthly_1_7")),
    ];
    assert_eq!(line(&after(&both)), line(&after(&both[..1])));
}
