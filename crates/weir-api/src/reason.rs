//! Why a model could not be loaded, as anybody may read it.

/// A reason from the log without what it says of the server's folders: of each path, the
/// file's name stays. Anybody may read it.
pub(crate) fn without_folders(reason: &str) -> String {
    let between = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '(' | ')' | ',' | ';');
    let end = |c| between(c) || matches!(c, ':' | '.');
    let mut out = String::with_capacity(reason.len());
    for piece in reason.split_inclusive(between) {
        let start = piece.rfind('/').map_or(0, |slash| slash + 1);
        let (folders, name) = piece.split_at(start);
        // `housing/3` is a model and its version; `models/housing/model.onnx` is a file.
        let is_path = folders.starts_with(['/', '.', '~']) || name.trim_end_matches(end).contains('.');
        out.push_str(if is_path { name } else { piece });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_keep_names_and_lose_folders() {
        for (reason, public) in [
            ("/srv/my models/housing/3/model.onnx: no ONNX", "my model.onnx: no ONNX"),
            ("models/housing/model.toml:3:1: unknown key `lable`", "model.toml:3:1: unknown key `lable`"),
            (
                "model `housing` version `3` is also in /srv/b; give",
                "model `housing` version `3` is also in b; give",
            ),
            (
                "housing/3 changed, or 1/2 of it. See \"/a/b.txt\"",
                "housing/3 changed, or 1/2 of it. See \"b.txt\"",
            ),
            ("not housing/3.", "not housing/3."),
            ("plain", "plain"),
        ] {
            assert_eq!(without_folders(reason), public);
        }
    }
}
