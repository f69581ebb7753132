//! A simulated PayPal, as strict as the real one: its own CA, signing certificates served by URL, tokens that end, headers that
//! must be there, requests that are repeated under their id; and faults, one for each call to come.
//!
//! Give a daemon [`SimPayPal::settings`], post what [`SimPayPal::sign`] gives, and set what the API tells through
//! [`SimPayPal::state`].

mod certificates;
pub mod manner;
mod server;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether::clock::SharedClock;
use certificates::Certificates;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use poem::http::{StatusCode, header};
use poem::{Request, Response};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// What the app has at PayPal.
pub const CLIENT_ID: &str = "canary-paypal-client";
/// See [`CLIENT_ID`].
pub const SECRET: &str = "canary-paypal-secret";
/// The webhook that deliveries are signed for.
pub const WEBHOOK_ID: &str = "7BE12345XW678901M";

/// What the next API calls get, one each; tokens and certificates come as ever.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// An error instead of the answer; nothing was done.
    Refusal(u16),
    /// It is done, and then an error is answered.
    ErrorAfterSuccess,
    /// It is done, and nothing is answered for so long.
    SilenceAfterSuccess(Duration),
    /// It is done, and the answer waits until it is let go. For the next call of a path that begins so; others pass it by.
    HoldAnswer(&'static str),
}

/// What the API knows and what it was asked.
#[derive(Default)]
pub struct State {
    /// `GET /v1/billing/subscriptions/ID`.
    pub subscriptions: HashMap<String, Value>,
    /// `GET /v1/billing/subscriptions/ID/transactions`, by subscription.
    pub payments: HashMap<String, Vec<Value>>,
    /// `GET /v1/notifications/webhooks-events`, whatever became of their delivery.
    pub events: Vec<Value>,
    /// `GET /v1/reporting/transactions`.
    pub transactions: Vec<Value>,
    /// Subscriptions that were ended by a call, each time it took effect.
    pub ended: Vec<String>,
    /// What the next calls get.
    pub troubles: VecDeque<Trouble>,
    /// Each call as `METHOD /path`, certificates included, in order.
    pub calls: Vec<String>,
    /// The first answer to each `PayPal-Request-Id`.
    answered: HashMap<String, (u16, String)>,
    tokens: BTreeMap<String, DateTime<Utc>>,
}

struct Inner {
    clock: SharedClock,
    certificates: Certificates,
    state: Mutex<State>,
    /// Lets held answers go.
    answers: Semaphore,
}

/// PayPal, until dropped.
#[derive(Clone)]
pub struct SimPayPal {
    /// `https://localhost:PORT`.
    pub base: String,
    inner: Arc<Inner>,
    _directory: Arc<tempfile::TempDir>,
    roots: String,
}

/// A delivery as it is posted.
#[derive(Debug, Clone, PartialEq)]
pub struct Signed {
    /// Names and values, in order; change them to forge.
    pub headers: Vec<(String, String)>,
    /// The raw body.
    pub body: Vec<u8>,
}

impl Signed {
    /// The same with another value of a header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Posts it to a daemon; status and JSON.
    pub async fn post(&self, http: &reqwest::Client, api: SocketAddr) -> (u16, Value) {
        let mut request = http.post(format!("http://{api}/paypal/webhook/")).body(self.body.clone());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or(Value::Null))
    }
}

impl SimPayPal {
    /// Listens on a free port of loopback.
    pub async fn start(clock: SharedClock) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let certificates = Certificates::make(&base);
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let roots = directory.path().join("roots.pem");
        std::fs::write(&roots, &certificates.root).unwrap();
        let tls = certificates.tls();
        let inner = Arc::new(Inner { clock, certificates, state: Mutex::default(), answers: Semaphore::new(0) });
        tokio::spawn(server::serve(listener, tls, Arc::clone(&inner)));
        Self { base, inner, _directory: directory, roots: roots.display().to_string() }
    }

    /// What a daemon needs to be told, by environment names.
    pub fn settings(&self) -> Vec<(String, String)> {
        let host = self.base.trim_start_matches("https://");
        [
            ("PAYPAL_ENV", "sandbox"),
            ("PAYPAL_WEBHOOK_ID", WEBHOOK_ID),
            ("PAYPAL_CLIENT_ID", CLIENT_ID),
            ("PAYPAL_SECRET", SECRET),
            ("PAYPAL_API_BASE", &self.base),
            ("BELLWETHER_PAYPAL__CERT_HOSTS", host),
            ("BELLWETHER_PAYPAL__AIA_HOSTS", host),
            ("BELLWETHER_PAYPAL__TRUST_ROOTS", &self.roots),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// What the API knows and was asked.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap()
    }

    /// Calls so far of a path that begins so.
    pub fn calls_of(&self, path: &str) -> usize {
        self.state().calls.iter().filter(|call| call.split(' ').nth(1).unwrap().starts_with(path)).count()
    }

    /// Lets an answer go that is held.
    pub fn let_go(&self) {
        self.inner.answers.add_permits(1);
    }

    /// Forgets every token, as PayPal may at any time.
    pub fn forget_tokens(&self) {
        self.state().tokens.clear();
    }

    /// A delivery of `body`, sent now, with the usual certificate.
    pub fn sign(&self, body: &[u8]) -> Signed {
        self.sign_as(body, WEBHOOK_ID, "CERT-full", self.inner.clock.now())
    }

    /// A delivery of `body` for any webhook, under the certificate of any name, sent at any time.
    pub fn sign_as(&self, body: &[u8], webhook_id: &str, certificate: &str, at: DateTime<Utc>) -> Signed {
        let id = uuid::Uuid::now_v7().to_string();
        let time = at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let text = format!("{id}|{time}|{webhook_id}|{}", crc32fast::hash(body));
        let signature = STANDARD.encode(self.inner.certificates.sign(text.as_bytes()));
        let url = format!("{}/v1/notifications/certs/{certificate}", self.base);
        let headers = [
            ("content-type", "application/json"),
            ("paypal-transmission-id", &id),
            ("paypal-transmission-time", &time),
            ("paypal-transmission-sig", &signature),
            ("paypal-cert-url", &url),
            ("paypal-auth-algo", "SHA256withRSA"),
            ("paypal-auth-version", "v2"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Signed { headers, body: body.to_vec() }
    }
}

/// A payment of a subscription, as PayPal lists it.
pub fn subscription_payment(id: &str, time: &str, amount: &str) -> Value {
    let amount = json!({"gross_amount": {"currency_code": "USD", "value": amount}});
    json!({"id": id, "status": "COMPLETED", "time": time, "amount_with_breakdown": amount,
        "payer_email": "holder@example.com"})
}

/// An event as PayPal writes it.
pub fn event(id: &str, kind: &str, at: DateTime<Utc>, resource: Value) -> Value {
    json!({
        "id": id, "event_version": "1.0", "create_time": at.to_rfc3339_opts(SecondsFormat::Millis, true),
        "resource_type": kind.split('.').next().unwrap_or_default().to_lowercase(), "event_type": kind,
        "summary": "as the test wants it", "resource": resource, "links": [],
    })
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn answer(&self, mut request: Request) -> Response {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        self.lock().calls.push(format!("{method} {path}"));
        if let Some(name) = path.strip_prefix("/v1/notifications/certs/") {
            return self.certificates.answer(name);
        }
        if path == "/aia/intermediate.der" {
            return Response::builder().body(self.certificates.intermediate.clone());
        }
        let body = request.take_body().into_bytes().await.unwrap_or_default().to_vec();
        if path == "/v1/oauth2/token" {
            return self.token(&request, &body);
        }
        if let Some(refused) = self.check_token(&request) {
            return refused;
        }
        let trouble = self.trouble(&path);
        if let Some(Trouble::Refusal(status)) = trouble {
            return refusal(status, "INTERNAL_SERVER_ERROR");
        }
        let answer = self.call(&method, &path, &request, &body);
        match trouble {
            Some(Trouble::ErrorAfterSuccess) => refusal(500, "INTERNAL_SERVER_ERROR"),
            Some(Trouble::SilenceAfterSuccess(span)) => {
                silence(span).await;
                answer
            }
            Some(Trouble::HoldAnswer(_)) => {
                self.answers.acquire().await.unwrap().forget();
                answer
            }
            _ => answer,
        }
    }

    /// The next trouble, if it is one of this call.
    fn trouble(&self, path: &str) -> Option<Trouble> {
        let mut state = self.lock();
        let passes = matches!(state.troubles.front(), Some(Trouble::HoldAnswer(of)) if !path.starts_with(of));
        if passes { None } else { state.troubles.pop_front() }
    }

    fn token(&self, request: &Request, body: &[u8]) -> Response {
        let basic = format!("Basic {}", STANDARD.encode(format!("{CLIENT_ID}:{SECRET}")));
        if request.header(header::AUTHORIZATION) != Some(&basic) {
            return refusal(401, "invalid_client");
        }
        if body != b"grant_type=client_credentials"
            || request.header(header::CONTENT_TYPE) != Some("application/x-www-form-urlencoded")
        {
            return refusal(400, "unsupported_grant_type");
        }
        let token = format!("A21-{}", uuid::Uuid::now_v7().simple());
        let lasts = TimeDelta::seconds(31_668);
        self.lock().tokens.insert(token.clone(), self.clock.now() + lasts);
        respond(200, &json!({"access_token": token, "token_type": "Bearer", "expires_in": lasts.num_seconds()}))
    }

    fn check_token(&self, request: &Request) -> Option<Response> {
        let token = request.header(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        let holds = token.and_then(|token| self.lock().tokens.get(token).copied());
        (holds.is_none_or(|ends| ends <= self.clock.now())).then(|| refusal(401, "invalid_token"))
    }

    fn call(&self, method: &str, path: &str, request: &Request, body: &[u8]) -> Response {
        let query: HashMap<String, String> =
            url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
        if method == "POST" && request.header(header::CONTENT_TYPE) != Some("application/json") {
            return refusal(415, "UNSUPPORTED_MEDIA_TYPE");
        }
        let subscription = path.strip_prefix("/v1/billing/subscriptions/");
        match (method, path) {
            ("POST", "/v1/notifications/verify-webhook-signature") => self.verify(body),
            ("GET", "/v1/notifications/webhooks-events") => self.list_events(&query),
            ("GET", "/v1/reporting/transactions") => self.list_transactions(&query),
            ("GET", _) if subscription.is_some_and(|rest| rest.ends_with("/transactions")) => {
                self.list_payments(subscription.unwrap_or_default().trim_end_matches("/transactions"), &query)
            }
            ("GET", _) if subscription.is_some() => {
                let found = self.lock().subscriptions.get(subscription.unwrap_or_default()).cloned();
                found.map_or_else(|| refusal(404, "RESOURCE_NOT_FOUND"), |found| respond(200, &found))
            }
            ("POST", _) if subscription.is_some_and(|rest| rest.ends_with("/cancel")) => {
                let id = subscription.unwrap_or_default().trim_end_matches("/cancel");
                self.once(request, || self.cancel(id))
            }
            _ => refusal(404, "RESOURCE_NOT_FOUND"),
        }
    }

    /// The first answer is given again to whoever repeats a request under its id.
    fn once(&self, request: &Request, act: impl FnOnce() -> (u16, Value)) -> Response {
        let Some(id) = request.header("paypal-request-id").map(str::to_owned) else {
            return refusal(400, "MISSING_PAYPAL_REQUEST_ID");
        };
        let known = self.lock().answered.get(&id).cloned();
        if let Some((status, body)) = known {
            return respond(status, &serde_json::from_str(&body).unwrap());
        }
        let (status, body) = act();
        self.lock().answered.insert(id, (status, body.to_string()));
        respond(status, &body)
    }

    fn cancel(&self, id: &str) -> (u16, Value) {
        let mut state = self.lock();
        let Some(found) = state.subscriptions.get_mut(id) else {
            return (404, json!({"name": "RESOURCE_NOT_FOUND"}));
        };
        if found["status"] == "CANCELLED" {
            return (422, json!({"name": "SUBSCRIPTION_STATUS_INVALID"}));
        }
        found["status"] = json!("CANCELLED");
        state.ended.push(id.to_owned());
        (204, Value::Null)
    }

    /// The checksum is of the event's own bytes within the question, so a question that was written anew fails.
    fn verify(&self, body: &[u8]) -> Response {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Question<'q> {
            auth_algo: String,
            cert_url: String,
            transmission_id: String,
            transmission_sig: String,
            transmission_time: String,
            webhook_id: String,
            #[serde(borrow)]
            webhook_event: &'q RawValue,
        }
        let Ok(question) = serde_json::from_slice::<Question<'_>>(body) else {
            return refusal(400, "VALIDATION_ERROR");
        };
        let Question { transmission_id, transmission_time, webhook_id, webhook_event, .. } = question;
        let checksum = crc32fast::hash(webhook_event.get().as_bytes());
        let text = format!("{transmission_id}|{transmission_time}|{webhook_id}|{checksum}");
        let genuine = STANDARD.encode(self.certificates.sign(text.as_bytes())) == question.transmission_sig
            && webhook_id == WEBHOOK_ID
            && question.auth_algo == "SHA256withRSA"
            && question.cert_url.contains("/v1/notifications/certs/");
        respond(200, &json!({"verification_status": if genuine { "SUCCESS" } else { "FAILURE" }}))
    }

    fn list_events(&self, query: &HashMap<String, String>) -> Response {
        let instant = |name: &str| query.get(name).and_then(|text| text.parse::<DateTime<Utc>>().ok());
        let (Some(from), Some(to)) = (instant("start_time"), instant("end_time")) else {
            return refusal(400, "VALIDATION_ERROR");
        };
        let size: usize = query.get("page_size").and_then(|size| size.parse().ok()).unwrap_or(10);
        let after: usize = query.get("after").and_then(|after| after.parse().ok()).unwrap_or(0);
        let state = self.lock();
        let made = |event: &&Value| {
            let at: DateTime<Utc> = event["create_time"].as_str().unwrap().parse().unwrap();
            (from..=to).contains(&at)
        };
        let page: Vec<&Value> = state.events.iter().filter(made).skip(after).take(size).collect();
        let more = state.events.iter().filter(made).count() > after + size;
        let next = format!(
            "https://api.sandbox.paypal.com/v1/notifications/webhooks-events?page_size={size}&start_time={}&end_time={}&after={}",
            query["start_time"],
            query["end_time"],
            after + size
        );
        let links = if more { json!([{"href": next, "rel": "next", "method": "GET"}]) } else { json!([]) };
        respond(200, &json!({"events": page, "count": page.len(), "links": links}))
    }

    /// Both ends of the time are required, and what is outside of it is not listed.
    fn list_payments(&self, id: &str, query: &HashMap<String, String>) -> Response {
        let instant = |name: &str| query.get(name).and_then(|text| text.parse::<DateTime<Utc>>().ok());
        let (Some(from), Some(to)) = (instant("start_time"), instant("end_time")) else {
            return refusal(400, "INVALID_REQUEST");
        };
        let state = self.lock();
        let Some(all) = state.payments.get(id) else { return refusal(404, "RESOURCE_NOT_FOUND") };
        let within = |payment: &&Value| {
            payment["time"].as_str().unwrap().parse::<DateTime<Utc>>().is_ok_and(|at| (from..=to).contains(&at))
        };
        let listed: Vec<&Value> = all.iter().filter(within).collect();
        respond(200, &json!({"transactions": listed, "total_items": listed.len(), "total_pages": 1}))
    }

    fn list_transactions(&self, query: &HashMap<String, String>) -> Response {
        let instant = |name: &str| query.get(name).and_then(|text| text.parse::<DateTime<Utc>>().ok());
        let (Some(from), Some(to)) = (instant("start_date"), instant("end_date")) else {
            return refusal(400, "INVALID_REQUEST");
        };
        if to - from > TimeDelta::days(31) {
            return refusal(400, "INVALID_REQUEST");
        }
        let size: usize = query.get("page_size").and_then(|size| size.parse().ok()).unwrap_or(100);
        let page: usize = query.get("page").and_then(|page| page.parse().ok()).unwrap_or(1);
        let state = self.lock();
        let within = |transaction: &&Value| {
            let at = transaction["transaction_info"]["transaction_initiation_date"].as_str().unwrap();
            (from..=to).contains(&at.parse::<DateTime<Utc>>().unwrap())
        };
        let all: Vec<&Value> = state.transactions.iter().filter(within).collect();
        let items: Vec<&&Value> = all.iter().skip((page - 1) * size).take(size).collect();
        respond(
            200,
            &json!({"transaction_details": items, "total_items": all.len(), "page": page,
            "total_pages": all.len().div_ceil(size)}),
        )
    }
}

fn refusal(status: u16, name: &str) -> Response {
    respond(status, &json!({"name": name, "error": name, "message": "as PayPal words it", "debug_id": "f3a1"}))
}

fn respond(status: u16, body: &Value) -> Response {
    let response = Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header("paypal-debug-id", "f3a1c9d2e4b5")
        .content_type("application/json");
    if status == 204 { response.finish() } else { response.body(body.to_string()) }
}

#[expect(clippy::disallowed_methods, reason = "a peer that is silent is silent in real time")]
async fn silence(span: Duration) {
    tokio::time::sleep(span).await;
}
