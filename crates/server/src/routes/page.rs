//! The search page: one file without a build, which asks nothing of anybody but this server.

use axum::http::{HeaderName, header};
use axum::response::{Html, IntoResponse};

const PAGE: &str = include_str!("../page/index.html");

/// Nothing from elsewhere, and no request but to this server: the page shows texts that others wrote.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'";

const HEADERS: [(HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    // It belongs to the program, which may be a newer one next time.
    (header::CACHE_CONTROL, "no-cache"),
];

pub(crate) async fn index() -> impl IntoResponse {
    (HEADERS, Html(PAGE))
}
