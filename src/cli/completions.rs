//! `debvisor completions SHELL` and the man pages, both from the one command tree.

use std::path::PathBuf;

use anyhow::Context as _;

use super::{Context, Ended};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// The directory to write the pages to
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

#[expect(clippy::needless_pass_by_value, reason = "every verb takes its arguments by value")]
pub(super) fn run(args: Args, _context: &Context) -> anyhow::Result<Ended> {
    clap_complete::generate(args.shell, &mut super::command(), "debvisor", &mut std::io::stdout().lock());
    Ok(Ended::Done)
}

#[expect(clippy::needless_pass_by_value, reason = "every verb takes its arguments by value")]
pub(super) fn man(args: ManArgs, _context: &Context) -> anyhow::Result<Ended> {
    std::fs::create_dir_all(&args.dir).with_context(|| format!("cannot make {}", args.dir.display()))?;
    clap_mangen::generate_to(super::command(), &args.dir)
        .with_context(|| format!("cannot write man pages to {}", args.dir.display()))?;
    Ok(Ended::Done)
}
