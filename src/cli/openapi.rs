//! `debvisor openapi`: the description of the interface, as it is served, to stdout.

use std::io::Write as _;

use super::Ended;
use crate::api;

pub(super) fn run() -> anyhow::Result<Ended> {
    anstream::stdout().lock().write_all(api::openapi().as_bytes())?;
    Ok(Ended::Done)
}
