//! What stands twice under the paths of models.

use std::{collections::BTreeMap, path::PathBuf};

use weir_artifact::{Discovery, FolderProblem, Problem};
use weir_types::{ModelName, Version};

/// Where two paths hold one model and version, the first one counts and the other is a
/// problem.
pub(super) fn refuse(all: &mut Discovery) {
    let mut first: BTreeMap<(ModelName, Version), PathBuf> = BTreeMap::new();
    let problems = &mut all.problems;
    all.found.retain(|candidate| {
        let key = (candidate.name.clone(), candidate.version.clone());
        let Some(earlier) = first.get(&key) else {
            first.insert(key, candidate.folder.clone());
            return true;
        };
        let message = format!(
            "model `{}` version `{}` is also in {}; give one of them another name or version",
            candidate.name,
            candidate.version,
            earlier.display()
        );
        let problem = Problem::new(&candidate.folder, message);
        problems.push(FolderProblem { folder: candidate.folder.clone(), problem });
        false
    });
}
