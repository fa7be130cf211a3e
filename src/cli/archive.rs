//! Placeholder.

use super::{Context, Ended, UsageError};

#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_args: Args, _context: &Context) -> anyhow::Result<Ended> {
    Err(UsageError::new("not built yet", "wait").into())
}
