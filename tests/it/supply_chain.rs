//! docs/SUPPLY_CHAIN_SECURITY.md, run: its blocks in order, in one empty folder, each with the exit code that it says.

use std::path::Path;
use std::process::{Command, Stdio};

use debvisor::types::Code;

const DOCUMENT: &str = include_str!("../../docs/SUPPLY_CHAIN_SECURITY.md");

/// A block of shell: how it must end, where it is run at all, and its line.
struct Block {
    exit: Option<i32>,
    line: usize,
    text: String,
}

fn blocks() -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in DOCUMENT.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                let exit = match info.split_once(' ') {
                    Some(("bash", "run")) => Some(0),
                    Some(("bash", run)) => Some(run.strip_prefix("run exit=").unwrap().parse().unwrap()),
                    _ => None,
                };
                open = Some(Block { exit, line: number + 2, text: String::new() });
            }
            (Some(_), Some("")) => found.extend(open.take()),
            (Some(block), _) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block has no end");
    found
}

#[test]
fn every_command_of_the_document_does_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_debvisor")).parent().unwrap();
    let mut refused = 0;
    for Block { exit, line, text } in blocks() {
        let Some(expected) = exit else { panic!("line {line}: a block that is not run") };
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &text])
            .current_dir(&dir)
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", program.display()))
            .env("HOME", dir.path())
            .env("DEBVISOR_KEY_PASSWORD", "throwaway")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(expected), "line {line}:\n{text}\n{told}");
        if expected == 1 {
            // It was refused by the last command, and for a reason that the document names.
            let codes = told.lines().filter_map(|line| line.trim().strip_prefix("✘ ")?.split(':').next());
            assert!(codes.clone().any(|code| DOCUMENT.contains(&format!("`{code}`"))), "line {line}:\n{told}");
            refused += 1;
        }
    }
    assert!(refused >= 6, "the attacks are shown");
}

#[test]
fn the_document_shows_the_nine_parts_and_names_codes_that_there_are() {
    let run: String = blocks().into_iter().filter(|block| block.exit.is_some()).map(|block| block.text).collect();
    for verb in [
        "sign",
        "checksum create",
        "sbom generate",
        "attest",
        "provenance generate",
        "policy test",
        "vex generate",
        "log inclusion",
        "reverify",
        "gate",
        "verify",
    ] {
        assert!(run.contains(&format!("debvisor {verb} ")), "{verb}");
    }
    let rows = DOCUMENT.split("## Attacks").nth(1).unwrap().split("\n\n").nth(2).unwrap().lines().skip(2);
    let mut count = 0;
    for row in rows {
        let cell = row.trim_matches('|').rsplit('|').next().unwrap();
        for code in cell.split('`').skip(1).step_by(2) {
            assert!(Code::from_name(code).is_some(), "there is no code {code}: {row}");
            count += 1;
        }
    }
    assert!(count > 20, "the table of attacks was not found");
}
