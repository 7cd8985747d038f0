//! Each kind of step: what it takes, checked, and what it gives.

use weir_types::{DType, TensorSpec};

use super::{
    Branch, CaseTable, Operation, Selector, Source, StepKind, StepTable, Test,
    inputs::taken,
    names::Ref,
    nodes::{Node, NodeKind},
    resolve::{Resolver, Typing},
    types::{self, Typed},
};
use crate::{ModelSpec, rules::scalar, task::list};

/// Whole numbers from here on are not told apart as floats, which is how cases compare them.
const MAX_EXACT: u64 = 1 << 53;

/// A step and what it gives.
type Step = Option<(Operation, Vec<Typed>)>;

impl Resolver<'_> {
    /// `None` where something is wrong with it, or with a step that it takes from.
    pub(super) fn step(&mut self, typing: &Typing<'_, '_>, node: &Node) -> Step {
        let table = self.draft.table.step.get(node.index)?;
        let at = format!("graph.step[{}]", node.index);
        match &node.kind {
            NodeKind::Model { .. } => self.model(typing, node, table, &at),
            NodeKind::Combine { of } => self.combine(typing, of, table, &at),
            NodeKind::Switch { on, branches } => self.switch(typing, on.as_ref(), branches, table, &at),
            NodeKind::Cascade { first, rest } => self.cascade(typing, (*first)?, (*rest)?, table, &at),
        }
    }

    fn model(&mut self, typing: &Typing<'_, '_>, node: &Node, table: &StepTable, at: &str) -> Step {
        let model = (*typing.models.get(node.index)?)?;
        let takes = &model.signature.inputs;
        for name in table.inputs.keys().filter(|name| takes.iter().all(|i| i.name != **name)) {
            let message = format!("model `{}` has no input `{name}`, it takes {}", model.name, list(takes));
            self.report.at(&format!("{at}.inputs.{name}"), message);
        }
        let sources: Vec<_> = takes.iter().map(|input| self.input(typing, node, input, at)).collect();
        let outputs = self.renamed(model, table, at);
        let member = typing.members.iter().position(|m| std::ptr::eq(*m, model))?;
        Some((Operation::Model { member, inputs: sources.into_iter().collect::<Option<_>>()? }, outputs?))
    }

    fn input(
        &mut self,
        typing: &Typing<'_, '_>,
        node: &Node,
        input: &TensorSpec,
        at: &str,
    ) -> Option<Source> {
        let at = format!("{at}.inputs.{}", input.name);
        let (source, given) = self.tensor(typing, &taken(node, &input.name)?, &at)?;
        if types::narrowed(&given.spec, input).is_none() {
            let message = format!("the model takes {input}, and {} is what this is", given.spec);
            self.report.at(&at, message);
        }
        Some(source)
    }

    /// The outputs of a model under the names that the step gives them.
    fn renamed(&mut self, model: &ModelSpec, table: &StepTable, at: &str) -> Option<Vec<Typed>> {
        let mut outputs = types::outputs(model);
        for (new, own) in &table.outputs {
            let at = format!("{at}.outputs.{new}");
            let found = model.signature.output(own).ok_or_else(|| {
                let has = list(&model.signature.outputs);
                format!("model `{}` has no output `{}`, it has {has}", model.name, own.escape_debug())
            });
            let index = self.report.keep(&at, found)?;
            if outputs[index].spec.name != *own {
                self.report.at(&at, format!("`{own}` has another new name already"));
            }
            new.clone_into(&mut outputs[index].spec.name);
        }
        for (i, output) in outputs.iter().enumerate() {
            if outputs[..i].iter().any(|o| o.spec.name == output.spec.name) {
                let message = format!("two outputs are called `{}` then", output.spec.name);
                self.report.at(&format!("{at}.outputs"), message);
            }
        }
        Some(outputs)
    }

    fn combine(&mut self, typing: &Typing<'_, '_>, of: &[Option<Ref>], table: &StepTable, at: &str) -> Step {
        let named = of.iter().enumerate();
        let tensors: Vec<_> = named
            .map(|(i, wanted)| self.tensor(typing, wanted.as_ref()?, &format!("{at}.of[{i}]")))
            .collect();
        let tensors: Vec<(Source, Typed)> = tensors.into_iter().collect::<Option<_>>()?;
        let (first, rest) = tensors.split_first()?;
        let rest: Vec<&Typed> = rest.iter().map(|(_, typed)| typed).collect();
        let whole = types::same(&first.1, &rest)
            .map_err(|other| format!("the tensors differ in type or shape: {} and {other}", first.1.spec));
        let whole = self.report.keep(&format!("{at}.of"), whole)?;
        let of: Vec<Source> = tensors.iter().map(|(source, _)| *source).collect();
        let weights = table.weights.clone().unwrap_or_else(|| vec![1.0; of.len()]);
        let dtype = whole.spec.dtype;
        let float = matches!(dtype, DType::Float32 | DType::Float64);
        let operation = match table.kind {
            StepKind::Vote if dtype.is_float() => {
                self.report.at(&format!("{at}.of"), format!(
                    "a vote is taken on classes, and {} are numbers: take the mean, or vote on the models' labels",
                    whole.spec
                ));
                return None;
            }
            StepKind::Vote => Operation::Vote { of, weights },
            _ if !float => {
                let message = format!("a mean is taken of float32 or float64, and {} is neither", whole.spec);
                self.report.at(&format!("{at}.of"), message);
                return None;
            }
            _ => Operation::Mean { of, weights },
        };
        Some((operation, vec![whole]))
    }

    fn switch(
        &mut self,
        typing: &Typing<'_, '_>,
        on: Option<&Ref>,
        branches: &[Option<usize>],
        table: &StepTable,
        at: &str,
    ) -> Step {
        let decides = match (&table.field, on) {
            (Some(field), _) => self.field(typing, field, &format!("{at}.field")),
            (None, Some(on)) => self.column(typing, on, table.column, at),
            (None, None) => None,
        };
        let cases = table.cases.as_deref().unwrap_or_default();
        let tests = decides.as_ref().map(|(_, _, dtype)| self.tests(cases, *dtype, at));
        let nodes: Vec<usize> = branches.iter().copied().collect::<Option<_>>()?;
        let (branches, outputs) = self.branches(typing, &nodes, &format!("{at}.cases"))?;
        let ((on, column, _), tests) = decides.zip(tests)?;
        Some((Operation::Route { by: Selector::Cases { on, column, tests }, branches }, outputs))
    }

    /// The place of a field among the graph's inputs.
    fn field(&mut self, typing: &Typing<'_, '_>, name: &str, at: &str) -> Option<(Source, usize, DType)> {
        let field = typing.schema.fields.iter().find(|f| f.name == name);
        let known =
            || typing.schema.fields.iter().map(|f| format!("`{}`", f.name)).take(40).collect::<Vec<_>>();
        let found = match field {
            Some(field) if field.width() == Some(1) => {
                Ok((Source::Input(field.input), field.offset, field.dtype))
            }
            Some(_) => {
                Err(format!("field `{name}` is no single value: name a tensor with `on`, and its `column`"))
            }
            // Fields are not known where a model is missing, which is told already.
            None if typing.schema.fields.is_empty() => return None,
            None => {
                Err(format!("a row has no field `{}`, it has {}", name.escape_debug(), known().join(", ")))
            }
        };
        self.report.keep(at, found)
    }

    fn column(
        &mut self,
        typing: &Typing<'_, '_>,
        on: &Ref,
        column: Option<usize>,
        at: &str,
    ) -> Option<(Source, usize, DType)> {
        let (source, typed) = self.tensor(typing, on, &format!("{at}.on"))?;
        let spec = &typed.spec;
        let found = match (column, spec.row_width()) {
            (None, Some(1)) => Ok(0),
            (None, _) => {
                Err(format!("a row of {spec} has several elements: say with `column` which one decides"))
            }
            (Some(column), Some(width)) if column >= width => Err(format!(
                "`column` is from 0 to {}, the last element of a row of {spec}",
                width.saturating_sub(1)
            )),
            (Some(_), None) => Err(format!("a row of {spec} has as many elements as the request says")),
            (Some(column), Some(_)) => Ok(column),
        };
        let key = if column.is_some() { "column" } else { "on" };
        let column = self.report.keep(&format!("{at}.{key}"), found)?;
        Some((source, column, spec.dtype))
    }

    fn tests(&mut self, cases: &[CaseTable], dtype: DType, at: &str) -> Vec<Test> {
        let cases = cases.iter().enumerate();
        cases.map(|(i, case)| self.test(case, dtype, &format!("{at}.cases[{i}]"))).collect()
    }

    fn test(&mut self, case: &CaseTable, dtype: DType, at: &str) -> Test {
        let bounds = [("ge", case.ge), ("gt", case.gt), ("le", case.le), ("lt", case.lt)];
        let numeric = !matches!(dtype, DType::String | DType::Bool);
        for (key, _) in bounds.iter().filter(|(_, bound)| bound.is_some() && !numeric) {
            let message = format!("`{key}` compares numbers, and what decides is {dtype}: use `enum`");
            self.report.at(&format!("{at}.{key}"), message);
        }
        if matches!(dtype, DType::Float16 | DType::Bfloat16) {
            self.report.at(at, format!("a switch cannot decide by {dtype} yet"));
        }
        let values = case.one_of.as_ref().map(|values| {
            let values = values.iter().enumerate();
            let fit = |(i, v)| {
                self.report.keep(&format!("{at}.enum[{i}]"), scalar(v, dtype).and_then(|s| exact(s, dtype)))
            };
            values.filter_map(fit).collect()
        });
        let [ge, gt, le, lt] = bounds.map(|(_, bound)| bound.map(|bound| rounded(bound, dtype)));
        Test { ge, gt, le, lt, one_of: values }
    }

    fn cascade(
        &mut self,
        typing: &Typing<'_, '_>,
        first: usize,
        rest: usize,
        table: &StepTable,
        at: &str,
    ) -> Step {
        let (name, threshold) = (table.confidence.as_ref()?, table.threshold?);
        let wanted = Ref::Step(first, Some(name.clone()));
        let sure = self.tensor(typing, &wanted, &format!("{at}.confidence"));
        if let Some((_, sure)) = &sure
            && !matches!(sure.spec.dtype, DType::Float32 | DType::Float64)
        {
            let message = format!("a confidence is float32 or float64, and {} is neither", sure.spec);
            self.report.at(&format!("{at}.confidence"), message);
        }
        let (branches, outputs) = self.branches(typing, &[first, rest], &format!("{at}.steps"))?;
        let (of, sure) = sure?;
        let by = Selector::Confidence { of, threshold: rounded(threshold, sure.spec.dtype) };
        Some((Operation::Route { by, branches }, outputs))
    }

    /// What all branches give, under the names that all of them have.
    fn branches(
        &mut self,
        typing: &Typing<'_, '_>,
        nodes: &[usize],
        at: &str,
    ) -> Option<(Vec<Branch>, Vec<Typed>)> {
        let given: Vec<&(usize, Vec<Typed>)> =
            nodes.iter().map(|node| typing.done[*node].as_ref()).collect::<Option<_>>()?;
        let ((_, first), rest) = given.split_first()?;
        let (mut outputs, mut places) = (Vec::new(), Vec::new());
        for (index, output) in first.iter().enumerate() {
            let find = |(_, outputs): &&(usize, Vec<Typed>)| {
                outputs.iter().position(|o| o.spec.name == output.spec.name)
            };
            let Some(others) = rest.iter().map(find).collect::<Option<Vec<_>>>() else { continue };
            let same: Vec<&Typed> = rest.iter().zip(&others).map(|((_, outputs), i)| &outputs[*i]).collect();
            let whole = types::same(output, &same).map_err(|other| {
                format!("output `{}` differs between the branches: {} and {other}", other.name, output.spec)
            });
            outputs.push(self.report.keep(at, whole)?);
            places.push(std::iter::once(index).chain(others).collect::<Vec<_>>());
        }
        if outputs.is_empty() {
            let lists: Vec<_> = given.iter().map(|(_, o)| names(o)).collect();
            let message = format!(
                "the branches have no output of the same name ({}): rename some with `outputs`",
                lists.join("; ")
            );
            self.report.at(at, message);
            return None;
        }
        let branch = |(i, (step, _)): (usize, &&(usize, Vec<Typed>))| Branch {
            scope: 0,
            outputs: places.iter().map(|p| Source::Step { step: *step, output: p[i] }).collect(),
        };
        let branches = given.iter().enumerate().map(branch).collect();
        Some((branches, outputs))
    }
}

fn names(outputs: &[Typed]) -> String {
    outputs.iter().map(|o| format!("`{}`", o.spec.name)).collect::<Vec<_>>().join(", ")
}

/// The number as a tensor of `dtype` holds it: what a caller writes is rounded to float32 as
/// well, and 0.9 must be at least 0.9.
fn rounded(number: f64, dtype: DType) -> f64 {
    if dtype == DType::Float32 { f64::from(number as f32) } else { number }
}

/// The value as a tensor of `dtype` holds it.
fn exact(value: weir_types::Scalar, dtype: DType) -> Result<weir_types::Scalar, String> {
    use weir_types::Scalar;
    match value {
        Scalar::Int(n) if n.unsigned_abs() > MAX_EXACT => {
            Err(format!("{n} is beyond ±2^53, where a case cannot tell whole numbers apart"))
        }
        Scalar::Float(x) => Ok(Scalar::Float(rounded(x, dtype))),
        other => Ok(other),
    }
}
