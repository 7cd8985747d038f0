//! No file names a place that only one machine or one network has.

use crate::repo::File;

/// Roots of paths on somebody's machine. Split, so that this file does not match itself.
const MACHINE: &[&str] =
    &[concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];

/// Hosts of package registries: which one is asked is the user's own configuration.
const REGISTRIES: &[&str] = &[
    concat!("py", "pi.org"),
    concat!("python", "hosted.org"),
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("registry.", "npmjs.org"),
    concat!("deb.", "debian.org"),
    concat!("proxy.", "golang.org"),
];

/// Every line that names one.
pub(crate) fn check(files: &[File]) -> Vec<String> {
    // Cargo writes its lock file, and its own name for the registry, itself.
    let ours = files.iter().filter(|f| !f.path.ends_with("Cargo.lock"));
    ours.flat_map(|f| {
        let lines = f.text.as_deref().unwrap_or_default().lines().enumerate();
        lines
            .filter_map(|(at, line)| Some(format!("{}:{}: {}", f.path, at + 1, fault(line)?)))
            .collect::<Vec<_>>()
    })
    .collect()
}

fn fault(line: &str) -> Option<String> {
    if let Some(root) = MACHINE.iter().find(|root| names_path(line, root)) {
        return Some(format!("names a path of one machine ({root}…)"));
    }
    let host = REGISTRIES.iter().find(|host| line.contains(**host))?;
    Some(format!("names a registry's host ({host}); leave the choice to the reader's configuration"))
}

/// Whether `root` starts a path here, rather than being the middle of a longer one.
fn names_path(line: &str, root: &str) -> bool {
    line.match_indices(root).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | ')' | '/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: Some(text.to_owned()) }
    }

    #[test]
    fn a_path_of_a_machine_is_caught() {
        let bad = format!("first\ncd {}alice/weir\n", MACHINE[0]);
        assert_eq!(
            check(&[file("a.md", &bad)]),
            [format!("a.md:2: names a path of one machine ({}…)", MACHINE[0])]
        );
        assert!(fault(&format!("\"{}main\"", MACHINE[1])).is_some());
    }

    #[test]
    fn a_longer_path_is_not_one() {
        assert_eq!(fault(&format!("see https://example.org{}log", MACHINE[1])), None);
        assert_eq!(fault(&format!("{{dir}}{}x", MACHINE[1])), None);
    }

    #[test]
    fn a_registry_host_is_caught_outside_the_lock_file() {
        let text = format!("curl https://{}/simple", REGISTRIES[0]);
        assert_eq!(check(&[file("ci.yml", &text)]).len(), 1);
        assert_eq!(check(&[file("Cargo.lock", &text)]), [""; 0]);
    }
}
