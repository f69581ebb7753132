//! However PayPal delivers the life of a subscription, the account stands the same in the end.

use serde_json::{Value, json};

use crate::harness::{Engine, eventually, instant};
use crate::sim_paypal::event;
use crate::sim_paypal::manner::Manner;
use crate::webhooks::world_with_paypal;

on_both_engines!(in_whatever_manner_it_is_told_the_account_stands_the_same);

/// Agreed, paid, paid again, in trouble and out of it, refunded, paid once more, canceled.
fn life(name: &str) -> Vec<Value> {
    let link = format!("I-{name}");
    let subscription = |kind: &str, at: &str| {
        let resource = json!({"id": link, "custom_id": format!("gold_monthly_1811851140_{name}"),
            "create_time": "2027-04-20T11:58:00Z", "status_update_time": at, "update_time": at});
        (format!("BILLING.SUBSCRIPTION.{kind}"), at.to_owned(), resource)
    };
    let sale = |id: &str, at: &str| {
        let resource = json!({"id": format!("{id}-{name}"), "state": "completed", "billing_agreement_id": link,
            "amount": {"total": "79.99", "currency": "USD"}, "create_time": at});
        ("PAYMENT.SALE.COMPLETED".to_owned(), at.to_owned(), resource)
    };
    let at = "2027-05-25T12:00:00Z";
    let refund = json!({"id": format!("R-{name}"), "sale_id": format!("S2-{name}"),
        "amount": {"total": "-79.99", "currency": "USD"}, "create_time": at});
    let all = [
        subscription("CREATED", "2027-04-20T11:58:00Z"),
        subscription("ACTIVATED", "2027-04-20T11:59:00Z"),
        sale("S1", "2027-04-20T12:00:00Z"),
        sale("S2", "2027-05-20T12:00:00Z"),
        subscription("SUSPENDED", "2027-05-21T12:00:00Z"),
        subscription("RE-ACTIVATED", "2027-05-22T12:00:00Z"),
        ("PAYMENT.SALE.REFUNDED".to_owned(), at.to_owned(), refund),
        sale("S3", "2027-05-26T12:00:00Z"),
        subscription("CANCELLED", "2027-05-30T12:00:00Z"),
    ];
    let events = all.into_iter().enumerate();
    events.map(|(n, (kind, at, resource))| event(&format!("WH-{name}-{n}"), &kind, instant(&at), resource)).collect()
}

async fn in_whatever_manner_it_is_told_the_account_stands_the_same(engine: Engine) {
    let (world, paypal) = world_with_paypal(engine, &[]).await;
    let running = world.start().await;
    let mut manners = vec![Manner::Straight, Manner::Repeated, Manner::Backwards, Manner::Late];
    manners.extend((1..=8).map(Manner::Shuffled));
    for (n, manner) in manners.iter().enumerate() {
        paypal.deliver(&running.http, running.daemon.api, &life(&format!("u{n:02}")), *manner).await;
    }
    let undone = "SELECT event_id FROM webhook_events WHERE status <> 'processed'";
    eventually("all have their effect", async || {
        world.clock.advance(chrono::TimeDelta::seconds(1));
        world.database.query(undone).await.is_empty()
    })
    .await;
    let of = async |sql: &str| world.database.query(sql).await;
    let states = "SELECT status || ' ' || plan || ' ' || CAST(auto_renew AS TEXT) || ' ' || CAST(current_period_end AS TEXT) \
         || ' ' || COALESCE(link_id, 'ended') FROM subscriptions ORDER BY user_id";
    let stand = of(states).await;
    assert_eq!(stand.len(), manners.len());
    assert!(stand[0].starts_with("canceled gold ") && stand[0].contains("2027-06-20") && stand[0].ends_with(" ended"));
    for (manner, line) in manners.iter().zip(&stand) {
        assert_eq!(line, &stand[0], "{manner:?}");
    }
    let books =
        "SELECT CAST(COUNT(*) AS TEXT) || ' ' || CAST(SUM(amount_minor) AS TEXT) FROM payments GROUP BY user_id";
    assert_eq!(of(books).await, vec!["3 23997".to_owned(); manners.len()], "each sale once");
    running.stop().await;
}
