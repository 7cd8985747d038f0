//! Every crate inherits the workspace's lints, and every exception says why.

use super::graph::Crate;
use crate::repo::File;

/// Crates that opt out, and attributes that silence a lint without a reason.
pub(crate) fn check(crates: &[Crate], files: &[File]) -> Vec<String> {
    let manifest = |c: &Crate| files.iter().find(|f| f.path == c.manifest).and_then(|f| f.text.clone());
    let aloof = crates.iter().filter(|c| !inherits(&manifest(c).unwrap_or_default()));
    let aloof = aloof.map(|c| format!("{}: add [lints] workspace = true", c.manifest));
    let sources = files.iter().filter(|f| f.path.ends_with(".rs"));
    let silent = sources.flat_map(|f| {
        let places = unexplained(f.text.as_deref().unwrap_or_default());
        places.into_iter().map(|line| format!("{}:{line}: say in a comment why the lint is silenced", f.path))
    });
    aloof.chain(silent).collect()
}

/// Whether a manifest has `[lints] workspace = true`.
fn inherits(manifest: &str) -> bool {
    let parsed = manifest.parse::<toml::Table>().ok();
    let flag = parsed.as_ref().and_then(|table| table.get("lints")?.get("workspace")?.as_bool());
    flag == Some(true)
}

/// Lines (from 1) of `allow` and `expect` attributes that give no reason: neither
/// `reason = "…"` inside, nor a comment behind, nor one on the line before.
fn unexplained(source: &str) -> Vec<usize> {
    let lines: Vec<&str> = source.lines().collect();
    let silencers = (0..lines.len()).filter(|at| silences(lines[*at]));
    silencers.filter(|at| !explained(&lines, *at)).map(|at| at + 1).collect()
}

fn silences(line: &str) -> bool {
    let Some(attribute) = line.trim_start().strip_prefix('#') else { return false };
    let attribute = attribute.trim_start_matches('!');
    ["[allow(", "[expect("].iter().any(|start| attribute.starts_with(start))
        || (attribute.starts_with("[cfg_attr(")
            && [" allow(", " expect("].iter().any(|word| attribute.contains(word)))
}

fn explained(lines: &[&str], at: usize) -> bool {
    let before = at.checked_sub(1).map_or("", |before| lines[before].trim_start());
    // A doc comment describes the item, not the exception.
    let comment_before = before.starts_with("//") && !before.starts_with("///") && !before.starts_with("//!");
    let end = (at..lines.len()).find(|i| lines[*i].contains(")]")).unwrap_or(at);
    let attribute = lines[at..=end].join(" ");
    comment_before || attribute.contains("//") || attribute.contains("reason = \"")
}

#[cfg(test)]
mod tests {
    use super::{super::graph::example, *};

    #[test]
    fn a_crate_with_its_own_lints_is_caught() {
        let manifest = |text: &str| File { path: "crates/a/Cargo.toml".into(), text: Some(text.into()) };
        let crates = [example("a", &[])];
        assert_eq!(check(&crates, &[manifest("[lints]\nworkspace = true\n")]), [""; 0]);
        assert_eq!(check(&crates, &[manifest("[lints.rust]\nunsafe_code = \"allow\"\n")]).len(), 1);
        assert_eq!(check(&crates, &[manifest("[package]\nname = \"a\"\n")]).len(), 1);
    }

    #[test]
    fn a_silenced_lint_without_a_reason_is_caught() {
        assert_eq!(unexplained("#[allow(dead_code)]\nfn a() {}\n"), [1]);
        assert_eq!(unexplained("fn a() {\n    #[expect(unsafe_code)]\n    b();\n}\n"), [2]);
        assert_eq!(unexplained("#![allow(missing_docs)]\n"), [1]);
        assert_eq!(unexplained("#[cfg_attr(test, allow(unused))]\n"), [1]);
        assert_eq!(unexplained("/// Documented.\n#[allow(dead_code)]\n"), [2]);
    }

    #[test]
    fn a_reason_is_seen_wherever_it_stands() {
        assert_eq!(unexplained("// Reason: the C side reads it.\n#[allow(dead_code)]\n"), [0; 0]);
        assert_eq!(unexplained("#[allow(dead_code)] // the C side reads it\n"), [0; 0]);
        assert_eq!(unexplained("#[allow(\n    dead_code,\n    reason = \"the C side\"\n)]\n"), [0; 0]);
        assert_eq!(unexplained("let text = \"#[allow(x)]\";\n"), [0; 0]);
    }
}
