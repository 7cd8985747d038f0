//! The rules on a decoded graph.
//!
//! Stricter than runtimes in one way only: what the ONNX specification forbids
//! (<https://github.com/onnx/onnx/blob/main/docs/IR.md>: names missing, a value made twice,
//! nodes out of order) is refused although some runtimes repair it, each in its own way.

use std::collections::HashSet;

use super::{
    GateLimits,
    proto::{AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto},
    show,
    tensor::check as check_tensor,
    trees,
};

/// Domains whose operators are part of a runtime. `com.microsoft` is in the list because
/// ONNX Runtime has those operators built in and its own optimiser and quantiser write
/// them; all others would need a library of code to be loaded beside the model, which
/// Weir never does.
const DOMAINS: [&str; 4] = ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"];

/// Most problems that are listed; a file made of problems must not make a log of them.
const MOST_PROBLEMS: usize = 50;

/// All violations in `model`, empty if there are none.
pub(super) fn check(model: &ModelProto, limits: &GateLimits) -> Vec<String> {
    let mut gate = Gate { limits, found: Vec::new(), unlisted: 0, domains: HashSet::new() };
    for function in model.functions.iter().take(1) {
        gate.problem(format!(
            "the file defines functions of its own ({} of them, first {}); inline them: \
             onnx.save_model(onnx.inliner.inline_local_functions(onnx.load(path)), new_path)",
            model.functions.len(),
            show(&function.name)
        ));
    }
    match &model.graph {
        None => gate.problem("there is no graph in the file: it is not an ONNX model".to_owned()),
        Some(graph) => {
            gate.graph(graph, &mut Vec::new());
            trees::check(graph).into_iter().for_each(|problem| gate.problem(problem));
        }
    }
    gate.imports(model);
    gate.finish()
}

/// The version of each operator set. Of duplicate imports the last one counts, as in
/// ONNX Runtime; `notes` tells of them.
pub(super) fn opsets(model: &ModelProto, notes: &mut Vec<String>) -> Vec<(String, i64)> {
    let mut sets: Vec<(String, i64)> = Vec::new();
    for import in &model.opset_import {
        let domain = canonical(&import.domain);
        match sets.iter_mut().find(|(known, _)| known == domain) {
            None => sets.push((domain.to_owned(), import.version)),
            Some((_, version)) => {
                notes.push(format!(
                    "opset_import lists {} twice (versions {version} and {}), the last one counts; \
                     skl2onnx is known to write such files",
                    show(if domain.is_empty() { "ai.onnx" } else { domain }),
                    import.version
                ));
                *version = import.version;
            }
        }
    }
    if !model.training_info.is_empty() {
        notes.push("the file also holds training information, which is not used".to_owned());
    }
    sets
}

/// `ai.onnx` is another name of the default domain.
pub(super) fn canonical(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

struct Gate<'a> {
    limits: &'a GateLimits,
    found: Vec<String>,
    unlisted: usize,
    domains: HashSet<&'a str>,
}

impl<'a> Gate<'a> {
    fn problem(&mut self, text: String) {
        if self.found.len() < MOST_PROBLEMS {
            self.found.push(text);
        } else {
            self.unlisted += 1;
        }
    }

    fn finish(mut self) -> Vec<String> {
        if self.unlisted > 0 {
            self.found.push(format!("and {} more problems", self.unlisted));
        }
        self.found
    }

    fn imports(&mut self, model: &ModelProto) {
        let imported: HashSet<&str> = model.opset_import.iter().map(|o| canonical(&o.domain)).collect();
        let mut missing: Vec<_> = self.domains.difference(&imported).copied().collect();
        missing.sort_unstable();
        for domain in missing {
            let domain = if domain.is_empty() { "ai.onnx" } else { domain };
            self.problem(format!("operators of {domain} are used, but opset_import gives no version of it"));
        }
    }

    /// Checks `graph`; `outer` holds the names that graphs around it define.
    fn graph(&mut self, graph: &'a GraphProto, outer: &mut Vec<HashSet<&'a str>>) {
        if outer.len() > self.limits.max_subgraph_depth {
            self.problem(format!("graphs are nested deeper than {}", self.limits.max_subgraph_depth));
            return;
        }
        let names = self.constants_and_inputs(graph);
        let later: HashSet<&str> = graph.node.iter().flat_map(|n| &n.output).map(String::as_str).collect();
        outer.push(names);
        for (index, node) in graph.node.iter().enumerate() {
            self.node(node, &at(node, index), &later, outer);
        }
        for output in &graph.output {
            if output.name.is_empty() {
                self.problem("an output of the graph has no name".to_owned());
            } else if !known(outer, &output.name) {
                self.problem(format!("output {} is made by no node", show(&output.name)));
            }
        }
        outer.pop();
    }

    fn constants_and_inputs(&mut self, graph: &'a GraphProto) -> HashSet<&'a str> {
        let mut inputs = HashSet::new();
        for input in &graph.input {
            self.define(&mut inputs, &input.name, "an input of the graph");
        }
        let mut constants = HashSet::new();
        for tensor in &graph.initializer {
            self.define(&mut constants, &tensor.name, "an initializer");
            self.tensor(tensor, || format!("initializer {}", show(&tensor.name)));
        }
        for sparse in &graph.sparse_initializer {
            let name = sparse.values.as_ref().map_or("", |v| v.name.as_str());
            self.define(&mut constants, name, "a sparse initializer");
            self.sparse(sparse, || format!("sparse initializer {}", show(name)));
        }
        // An initializer may bear an input's name: it is that input's default.
        inputs.extend(constants);
        inputs
    }

    fn define(&mut self, names: &mut HashSet<&'a str>, name: &'a str, what: &str) {
        if name.is_empty() {
            self.problem(format!("{what} has no name"));
        } else if !names.insert(name) {
            self.problem(format!("the name {} is given twice ({what})", show(name)));
        }
    }

    fn node(
        &mut self,
        node: &'a NodeProto,
        at: &str,
        later: &HashSet<&str>,
        scopes: &mut Vec<HashSet<&'a str>>,
    ) {
        self.operator(node, at);
        for input in node.input.iter().filter(|name| !name.is_empty() && !known(scopes, name)) {
            let why = if later.contains(input.as_str()) {
                "is made only by a later node, or by the node itself; ONNX wants nodes in the order of use"
            } else {
                "is neither an input, a constant nor made by a node"
            };
            self.problem(format!("{at}: input {} {why}", show(input)));
        }
        let mut seen = HashSet::new();
        for attribute in &node.attribute {
            if attribute.name.is_empty() || !seen.insert(attribute.name.as_str()) {
                let name = show(&attribute.name);
                self.problem(format!("{at}: attribute {name} has no name, or is given twice"));
            }
            self.attribute(attribute, at, scopes);
        }
        let Some(scope) = scopes.last_mut() else { return };
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            if !scope.insert(output) {
                self.problem(format!(
                    "{at}: output {} is made twice; every value has one source",
                    show(output)
                ));
            }
        }
    }

    fn operator(&mut self, node: &'a NodeProto, at: &str) {
        if node.op_type.is_empty() {
            self.problem(format!("{at} names no operator"));
        }
        if DOMAINS.contains(&node.domain.as_str()) {
            self.domains.insert(canonical(&node.domain));
        } else {
            self.problem(format!(
                "{at}: operators of domain {} need a library of code, which is never loaded; \
                 export with standard operators",
                show(&node.domain)
            ));
        }
    }

    fn attribute(&mut self, a: &'a AttributeProto, at: &str, scopes: &mut Vec<HashSet<&'a str>>) {
        let place = || format!("{at}, attribute {}", show(&a.name));
        if !a.ref_attr_name.is_empty() {
            self.problem(format!("{} refers to a function's attribute, outside of a function", place()));
        }
        for tensor in a.t.as_deref().into_iter().chain(&a.tensors) {
            self.tensor(tensor, place);
        }
        for sparse in a.sparse_tensor.as_deref().into_iter().chain(&a.sparse_tensors) {
            self.sparse(sparse, place);
        }
        for graph in a.g.as_deref().into_iter().chain(&a.graphs) {
            self.graph(graph, scopes);
        }
    }

    fn tensor(&mut self, tensor: &TensorProto, place: impl Fn() -> String) {
        if let Err(why) = check_tensor(tensor) {
            self.problem(format!("{}: {why}", place()));
        }
    }

    fn sparse(&mut self, sparse: &SparseTensorProto, place: impl Fn() -> String) {
        for part in [&sparse.values, &sparse.indices] {
            match part {
                Some(tensor) => self.tensor(tensor, &place),
                None => self.problem(format!("{}: a sparse tensor lacks values or indices", place())),
            }
        }
        if sparse.dims.iter().any(|&d| d < 0) {
            self.problem(format!("{}: its shape {:?} cannot be", place(), sparse.dims));
        }
    }
}

fn known(scopes: &[HashSet<&str>], name: &str) -> bool {
    scopes.iter().any(|names| names.contains(name))
}

/// How messages name a node: exporters leave the name out more often than not.
fn at(node: &NodeProto, index: usize) -> String {
    if node.name.is_empty() {
        format!("node {index} ({})", show(&node.op_type))
    } else {
        format!("node {} ({})", show(&node.name), show(&node.op_type))
    }
}
