//! Errors as clients see them: RFC 9457 problem details with a stable `code`; paths of the old site add its two members.

use poem::error::{MethodNotAllowedError, NotFoundError, ParsePathError};
use poem::http::{StatusCode, header};
use poem::{Error, Response};
use serde::Serialize;

use crate::calendar::Mistake;

/// An error on its way to a client. The detail never holds a secret or a row of the database.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after_seconds: Option<u64>,
    mistakes: Vec<Mistake>,
    instead: &'static [&'static str],
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "<[Mistake]>::is_empty")]
    mistakes: &'a [Mistake],
    #[serde(skip_serializing_if = "Option::is_none")]
    success: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    available_endpoints: &'a [&'static str],
}

impl Problem {
    /// A problem with a code that stays the same in every version.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { status, code, detail, retry_after_seconds: None, mistakes: Vec::new(), instead: &[] }
    }

    /// What was asked for does not exist.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// What was sent does not fit, with every mistake in it.
    pub fn refused(detail: impl Into<String>, mistakes: Vec<Mistake>) -> Self {
        Self { mistakes, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", detail) }
    }

    /// Something this daemon needs is not there; worth asking again in a while.
    pub fn unavailable(code: &'static str, detail: impl Into<String>, retry_after_seconds: u64) -> Self {
        let retry_after_seconds = Some(retry_after_seconds);
        Self { retry_after_seconds, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail) }
    }

    /// Asked too often; worth asking again in a while.
    pub fn too_many(code: &'static str, detail: impl Into<String>, retry_after_seconds: u64) -> Self {
        let retry_after_seconds = Some(retry_after_seconds);
        Self { retry_after_seconds, ..Self::new(StatusCode::TOO_MANY_REQUESTS, code, detail) }
    }

    /// Names what could be asked instead, to the old clients, who look for it in `available_endpoints`.
    #[must_use]
    pub fn instead(self, paths: &'static [&'static str]) -> Self {
        Self { instead: paths, ..self }
    }

    /// The problem in any error of the framework.
    pub fn of(error: Error) -> Self {
        match error.downcast::<Self>() {
            Ok(problem) => problem,
            Err(error) if error.is::<NotFoundError>() || error.is::<ParsePathError>() => {
                Self::not_found("there is nothing at this path")
            }
            Err(error) if error.is::<MethodNotAllowedError>() => {
                Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take that method")
            }
            Err(error) if error.status().is_client_error() => {
                Self::new(error.status(), "bad_request", error.to_string())
            }
            // What went wrong inside is for the log, not for a stranger.
            Err(error) => {
                tracing::error!(error = %error, "a request failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the request could not be answered")
            }
        }
    }

    /// What is wrong, for people.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The same for programs.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// How soon it is worth asking again.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after_seconds
    }

    /// The status it is told with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The answer; `legacy` adds `success` and `error` as the old clients look for them.
    pub fn respond(&self, request_id: &str, legacy: bool) -> Response {
        let body = Body {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            request_id,
            mistakes: &self.mistakes,
            success: legacy.then_some(false),
            error: legacy.then_some(&*self.detail),
            available_endpoints: if legacy { self.instead } else { &[] },
        };
        let mut response = Response::builder()
            .status(self.status)
            .content_type("application/problem+json")
            .header(header::CACHE_CONTROL, "no-store");
        if self.status == StatusCode::UNAUTHORIZED {
            response = response.header(header::WWW_AUTHENTICATE, "Bearer");
        }
        if let Some(seconds) = self.retry_after_seconds {
            response = response.header(header::RETRY_AFTER, seconds);
        }
        response.body(serde_json::to_vec(&body).unwrap_or_default())
    }
}

impl poem::error::ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.status
    }
}
