//! How often somebody asks in, header fields out (draft-ietf-httpapi-ratelimit-headers); too often is a 429.

use axum::http::HeaderValue;
use axum::response::Response;

use super::Problem;
use crate::control::OpError;
use crate::control::authn::Standing;
use crate::types::{Code, Reason};

/// How the sender of one request stands with each rate that it was counted by.
#[derive(Debug, Default)]
pub(super) struct Standings(Vec<(&'static str, Standing)>);

impl Standings {
    /// Notes it; where nothing is left the request is refused.
    pub(super) fn note(&mut self, by: &'static str, standing: Standing) -> Result<(), Problem> {
        self.0.push((by, standing));
        if standing.allowed {
            return Ok(());
        }
        let rate = standing.rate;
        let detail = format!("more than {} requests in {} ms by one {by}", rate.limit, rate.window_ms);
        let reason = Box::new(Reason::new(Code::TooManyRequests, detail));
        Err(OpError::TooMany { reason, wait_ms: standing.reset_ms }.into())
    }

    /// Tells of them.
    pub(super) fn tell(&self, response: &mut Response) {
        if self.0.is_empty() {
            return;
        }
        let policy = |(by, standing): &(&str, Standing)| {
            format!("\"{by}\";q={};w={}", standing.rate.limit, seconds(standing.rate.window_ms))
        };
        let left = |(by, standing): &(&str, Standing)| {
            format!("\"{by}\";r={};t={}", standing.remaining, seconds(standing.reset_ms))
        };
        let mut put = |name, text: Vec<String>| {
            if let Ok(value) = HeaderValue::from_str(&text.join(", ")) {
                response.headers_mut().insert(name, value);
            }
        };
        put("ratelimit-policy", self.0.iter().map(policy).collect());
        put("ratelimit", self.0.iter().map(left).collect());
    }
}

fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1_000)
}
