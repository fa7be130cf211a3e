//! The table of reason codes in; the page docs/reference/reason-codes.md out. A test keeps the page and the table
//! alike: `debvisor explain --reference > docs/reference/reason-codes.md` writes it again.

use std::fmt::Write as _;

use crate::types::{Code, Outcome};

/// Where the page is published. SARIF's rules and the job summary link to a code's heading in it.
const PAGE: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/docs/reference/reason-codes.md");

/// The address of a code's heading on the page.
pub(in crate::cli) fn address(code: Code) -> String {
    format!("{PAGE}#{}", code.name())
}

/// The page's Markdown.
pub fn page() -> String {
    let mut page = String::from(
        "# Reason codes\n\n\
         Every \"no\" and every open question that DebVisor can report, in the order of its table.\n\
         A code never changes its meaning and is never reused; scripts may match on it.\n\
         A user's policy may add codes of its own. `debvisor explain CODE` prints the same on a terminal.\n\n\
         This page is generated: `debvisor explain --reference > docs/reference/reason-codes.md`.\n\n\
         | code | decision | meaning |\n|---|---|---|\n",
    );
    for code in Code::ALL {
        let info = code.info();
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| [`{name}`](#{name}) | {} | {} |",
            word(info.outcome),
            info.meaning.replace('|', "\\|"),
            name = info.name
        );
    }
    for code in Code::ALL {
        let info = code.info();
        let _ = write!(
            page,
            "\n## {}\n\n{}\n\n- Decision: {} (exit code {})\n- From: {}\n- Usual mend: {}\n",
            info.name,
            info.meaning,
            word(info.outcome),
            if info.outcome == Outcome::Deny { 1 } else { 2 },
            info.source,
            info.fix
        );
    }
    page
}

const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Deny => "deny",
        Outcome::Undecided => "undecided",
    }
}
