//! Why something is not in force: the part that anybody may read, and all of it.

use std::fmt;

use weir_config::Problem;

/// Most files that are named to everybody.
const MAX_PLACES: usize = 5;

/// Why something could not be loaded or put in force. It is made where the failure is, which alone knows whose
/// words it repeats: a finished text cannot be told apart into names of models, folders, addresses and what a
/// server answered.
///
/// `Display` is all of it, for logs and operators. [`public`](Self::public) is what `/readyz` and the repository
/// tell anybody: what failed, of which model or archive, and what class of error it was; no folder, no address, no
/// value of a file, nothing that another server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    public: String,
    full: String,
}

impl Reason {
    /// Of which everybody may read `public` and operators `full`.
    pub fn new(public: impl Into<String>, full: impl Into<String>) -> Self {
        Self { public: public.into(), full: full.into() }
    }

    /// Of which everybody may read all: it is made of names of models and of words of its own.
    pub fn open(text: impl Into<String>) -> Self {
        let full = text.into();
        Self { public: full.clone(), full }
    }

    /// Mistakes in files, of which everybody may read where they are: names without folders, lines and columns.
    pub fn of_files(problems: &[Problem]) -> Self {
        let mut places: Vec<String> = Vec::new();
        for place in problems.iter().map(place) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let more = places.len().saturating_sub(MAX_PLACES);
        places.truncate(MAX_PLACES);
        let more = if more > 0 { format!(" and {more} more places") } else { String::new() };
        let public = format!("wrong at {}{more}; the log says what", places.join(", "));
        let full: Vec<_> = problems.iter().map(Problem::to_string).collect();
        Self { public, full: full.join("\n") }
    }

    /// What anybody may read.
    pub fn public(&self) -> &str {
        &self.public
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full)
    }
}

/// `model.toml:3:1`; what the path says of folders is left out.
fn place(problem: &Problem) -> String {
    let name = problem.file.file_name().unwrap_or_default().to_string_lossy();
    match problem.at {
        Some((line, column)) => format!("{name}:{line}:{column}"),
        None => name.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn everybody_reads_where_a_mistake_is_and_operators_what_it_says() {
        let at = |line| {
            Problem::new(Path::new("/srv/my models/housing/model.toml"), "\"canary\" is no url").at(line, 1)
        };
        let reason = Reason::of_files(&[at(3), at(3), Problem::new(Path::new("c1/housing/x"), "canary")]);
        assert_eq!(reason.public(), "wrong at model.toml:3:1, x; the log says what");
        assert_eq!(reason.to_string().matches("canary").count(), 3);
        assert!(reason.to_string().starts_with("/srv/my models/housing/model.toml:3:1: "));
        let many: Vec<_> = (1..=9).map(at).collect();
        let reason = Reason::of_files(&many);
        assert!(
            reason.public().ends_with("model.toml:5:1 and 4 more places; the log says what"),
            "{reason:?}"
        );
    }
}
