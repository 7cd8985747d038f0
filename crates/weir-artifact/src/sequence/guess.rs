//! Which tensors of an artefact look like a state.

use weir_types::{Signature, TensorSpec};

use super::{SequenceTable, StateTable, read};
use crate::report::Report;

/// What exporters append to the name of a state that comes out.
const SUFFIXES: [&str; 10] = ["N", "n", "_n", "_N", "_out", "_o", "_new", "_next", "Out", "_output"];
/// What stands before the two, where it is not appended.
const PREFIXES: [(&str, &str); 4] =
    [("in_", "out_"), ("input_", "output_"), ("past_", "present_"), ("prev_", "next_")];

/// `[sequence]` for the pairs of an input and an output that are alike by name and type, if there
/// are some and their shapes are known.
pub(crate) fn guess(signature: &Signature) -> Option<SequenceTable> {
    let pair = |input: &TensorSpec| {
        let output =
            signature.outputs.iter().find(|o| o.dtype == input.dtype && follows(&input.name, &o.name))?;
        let (input, output) = (input.name.clone(), output.name.clone());
        Some(StateTable { input, output, shape: None, batch_axis: None, initial: None })
    };
    let state: Vec<StateTable> = signature.inputs.iter().filter_map(pair).collect();
    let table = SequenceTable { state, ..SequenceTable::default() };
    let mut quiet = Report::new(std::path::Path::new(""), None);
    read(&table, signature, &mut quiet).map(|_| table)
}

fn follows(input: &str, output: &str) -> bool {
    let appended = output.strip_prefix(input).is_some_and(|rest| SUFFIXES.contains(&rest));
    let before = |(from, to): &(&str, &str)| {
        input.strip_prefix(from).is_some_and(|rest| output.strip_prefix(to) == Some(rest))
    };
    appended || PREFIXES.iter().any(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_known_by_the_names_of_exporters() {
        for (input, output) in
            [("state", "stateN"), ("h", "hn"), ("h0", "h0_out"), ("past_key", "present_key")]
        {
            assert!(follows(input, output), "{input} {output}");
        }
        for (input, output) in [("input", "output"), ("x", "y"), ("state", "state"), ("h", "hidden")] {
            assert!(!follows(input, output), "{input} {output}");
        }
    }
}
