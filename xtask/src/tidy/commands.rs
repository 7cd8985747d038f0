//! The two commands that the README promises are the ones that run everywhere.

use crate::repo::File;

/// What the README promises.
const PROMISED: [&str; 2] = ["demo", "test"];

/// A promise without a Makefile target, or CI that runs something else.
pub(crate) fn check(files: &[File]) -> Vec<String> {
    let text = |path: &str| files.iter().find(|f| f.path == path).and_then(|f| f.text.as_deref());
    let readme = PROMISED.iter().filter(|t| !has_line(text("README.md"), &format!("make {t}")));
    let readme = readme.map(|t| format!("README.md: no line of its own says `make {t}`"));
    let targets = PROMISED.iter().filter(|t| !has_target(text("Makefile"), t));
    let targets = targets.map(|t| format!("Makefile: has no target `{t}`, which the README promises"));
    let mut problems: Vec<String> = readme.chain(targets).collect();
    if !has_line(text(".ci/run"), "make test") {
        problems.push(".ci/run: does not run `make test`, which the README promises".to_owned());
    }
    if !text(".github/workflows/ci.yml").is_some_and(|t| t.contains(".ci/run")) {
        problems.push(".github/workflows/ci.yml: does not run `.ci/run`".to_owned());
    }
    problems
}

/// Whether a line is `command`, with or without a prompt and a comment.
fn has_line(text: Option<&str>, command: &str) -> bool {
    text.unwrap_or_default().lines().any(|line| {
        let line = line.trim().trim_start_matches("$ ");
        line.strip_prefix(command).is_some_and(|rest| rest.is_empty() || rest.trim_start().starts_with('#'))
    })
}

fn has_target(makefile: Option<&str>, target: &str) -> bool {
    makefile.unwrap_or_default().lines().any(|line| line.starts_with(&format!("{target}:")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(readme: &str, makefile: &str, ci: &str, workflow: &str) -> Vec<File> {
        let paths = ["README.md", "Makefile", ".ci/run", ".github/workflows/ci.yml"];
        let texts = [readme, makefile, ci, workflow];
        paths.iter().zip(texts).map(|(p, t)| File { path: (*p).into(), text: Some(t.into()) }).collect()
    }

    #[test]
    fn what_is_promised_and_run_is_fine() {
        let readme = "```sh\n$ make demo\nmake test   # all of it\n```\n";
        let files = repository(readme, "demo: ## x\ntest:\n", "set -e\nmake test\n", "run: .ci/run\n");
        assert_eq!(check(&files), [""; 0]);
    }

    #[test]
    fn each_gap_is_caught() {
        let found =
            check(&repository("use make testing", "demonstration:\n", "cargo test\n", "run: cargo test\n"));
        assert_eq!(found.len(), 6, "{found:#?}");
    }
}
