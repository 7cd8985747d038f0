//! A file is at most 400 lines long; those that were longer may only shrink.

use crate::repo::File;

/// Most lines of a source file.
const LIMIT: usize = 400;

/// The list of longer files: `lines path` each, `#` starts a comment.
const LIST: &str = "xtask/long-files.txt";

/// Most entries the list may have. To be lowered with the list, never raised.
const MOST_ENTRIES: usize = 0;

/// First words of a generated file. `cargo xtask codegen --check` holds it to its source, so
/// nobody can grow code behind the mark.
const GENERATED: &str = "// @generated";

/// Endings of files that people write and read. Golden data (json, jsonl, csv, onnx) may
/// be as long as it has to be.
const SOURCES: &[&str] = &["rs", "py", "sh", "lua"];

/// Files that are too long, and entries of the list that are out of date.
pub(crate) fn check(files: &[File]) -> Vec<String> {
    let list = files.iter().find(|f| f.path == LIST).and_then(|f| f.text.as_deref()).unwrap_or_default();
    let allowed = entries(list);
    let mut problems: Vec<String> = files.iter().filter_map(|f| too_long(f, &allowed)).collect();
    problems.extend(allowed.iter().filter_map(|entry| out_of_date(entry, files)));
    if allowed.len() > MOST_ENTRIES {
        problems
            .push(format!("{LIST}: {} entries, at most {MOST_ENTRIES}: it may only shrink", allowed.len()));
    }
    problems
}

/// `(lines, path)` of each entry.
fn entries(list: &str) -> Vec<(usize, String)> {
    let lines = list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(count, path)| Some((count.parse().ok()?, path.trim().to_owned())))
        .collect()
}

fn lines(file: &File) -> usize {
    file.text.as_deref().map_or(0, |text| text.lines().count())
}

fn too_long(file: &File, allowed: &[(usize, String)]) -> Option<String> {
    let ending = file.path.rsplit_once('.').map(|(_, ending)| ending)?;
    let limit = allowed.iter().find(|(_, path)| *path == file.path).map_or(LIMIT, |(limit, _)| *limit);
    let found = lines(file);
    let generated = file.text.as_deref().is_some_and(|text| text.starts_with(GENERATED));
    let generated = generated && file.path.contains("/generated/");
    (SOURCES.contains(&ending) && !generated && found > limit)
        .then(|| format!("{}: {found} lines, at most {limit}: split it by what it does", file.path))
}

fn out_of_date((limit, path): &(usize, String), files: &[File]) -> Option<String> {
    match files.iter().find(|f| f.path == *path).map(lines) {
        None => Some(format!("{LIST}: {path} is gone; remove its line")),
        Some(found) if found <= LIMIT => Some(format!("{LIST}: {path} is short enough now; remove its line")),
        Some(found) if found < *limit => {
            Some(format!("{LIST}: {path} shrank to {found} lines; say so there"))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, lines: usize) -> File {
        File { path: path.to_owned(), text: Some("x\n".repeat(lines)) }
    }

    fn list(text: &str) -> File {
        File { path: LIST.to_owned(), text: Some(text.to_owned()) }
    }

    #[test]
    fn a_long_source_is_caught_and_golden_data_is_not() {
        let found = check(&[file("a.rs", 400), file("tests/b.rs", 401), file("rows.jsonl", 9000)]);
        assert_eq!(found, ["tests/b.rs: 401 lines, at most 400: split it by what it does"]);
    }

    #[test]
    fn a_generated_file_may_be_long_where_generated_files_are() {
        let at =
            |path: &str| File { text: Some(format!("{GENERATED}\n{}", "x\n".repeat(500))), ..file(path, 0) };
        assert_eq!(too_long(&at("a/generated/b.rs"), &[]), None);
        assert!(too_long(&at("a/b.rs"), &[]).is_some());
        assert!(too_long(&file("a/generated/b.rs", 500), &[]).is_some());
    }

    #[test]
    fn a_listed_file_may_not_grow() {
        assert!(too_long(&file("a.rs", 501), &[(500, "a.rs".into())]).is_some());
        assert_eq!(too_long(&file("a.rs", 500), &[(500, "a.rs".into())]), None);
    }

    #[test]
    fn the_list_follows_what_shrank() {
        let entry = (500, "a.rs".to_owned());
        assert!(out_of_date(&entry, &[file("a.rs", 450)]).unwrap().contains("shrank to 450"));
        assert!(out_of_date(&entry, &[file("a.rs", 300)]).unwrap().contains("remove"));
        assert!(out_of_date(&entry, &[]).unwrap().contains("gone"));
        assert_eq!(out_of_date(&entry, &[file("a.rs", 500)]), None);
    }

    #[test]
    fn a_new_entry_is_caught() {
        let found = check(&[list("# old sins\n500 a.rs\n"), file("a.rs", 500)]);
        assert_eq!(found, [format!("{LIST}: 1 entries, at most 0: it may only shrink")]);
    }
}
