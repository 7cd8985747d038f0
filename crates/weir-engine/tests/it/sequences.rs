//! Models that keep state, on every engine that runs them: one contract.

use std::{path::Path, sync::Arc};

use weir_artifact::{LoadedModel, discover, load};
use weir_engine::{CancelFlag, Context, Engine, EngineError, Prepared, SequenceEngine, Step};
use weir_types::{Batch, Outputs, SequenceId, Tensor, TensorData};

use crate::support::{ort, rten};

fn model(name: &str) -> LoadedModel {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sequences/models").join(name);
    load(&discover(&folder).complete().unwrap()[0]).unwrap()
}

/// The model on each runtime.
fn engines(model: &LoadedModel) -> Vec<SequenceEngine> {
    let spec = model.spec.sequence.clone().unwrap();
    let inner = [ort(&model.bytes, &model.graph), rten(&model.bytes, &model.graph)];
    inner.into_iter().map(|e| SequenceEngine::new(e.unwrap(), &model.graph.signature, spec.clone())).collect()
}

fn floats(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::new(shape.to_vec(), TensorData::Float32(values.to_vec())).unwrap()
}

fn row(a: f32, b: f32) -> Batch {
    Batch { rows: 1, inputs: vec![floats(&[1, 2], &[a, b])] }
}

fn execute(
    engine: &dyn Engine,
    rows: &[Batch],
    steps: Vec<Step>,
) -> (Result<Outputs, EngineError>, Vec<Step>) {
    let work: Vec<Prepared> = rows.iter().map(|row| engine.prepare(row.clone()).unwrap()).collect();
    let mut context = Context { steps, ..Context::default() };
    let outputs = engine.execute(&work.iter().collect::<Vec<_>>(), &mut context);
    (outputs, context.steps)
}

fn step(id: u64) -> Step {
    Step { id: SequenceId::number(id), ..Step::default() }
}

fn f32s(tensor: &Tensor) -> &[f32] {
    tensor.as_f32().unwrap()
}

#[test]
fn steps_of_several_sequences_run_together_and_stay_apart() {
    let model = model("running");
    for engine in engines(&model) {
        let name = engine.info().name;
        let start = vec![step(7), step(8)];
        let (first, steps) = execute(&engine, &[row(1.0, 2.0), row(10.0, 20.0)], start);
        let first = first.unwrap();
        assert_eq!(f32s(&first.tensors[0]), [2.0, 4.0, 20.0, 40.0], "{name}: twice the sum");
        assert_eq!(first.tensors[1].data(), &TensorData::Int64(vec![101, 101]), "{name}: counts from 100");
        assert_eq!(f32s(&first.tensors[2]), [1.0, 0.0, 1.0, 1.0, 0.0, 1.0], "{name}: start, end, ready");
        assert_eq!(first.tensors[3].data(), &TensorData::Int64(vec![7, 8]), "{name}: ids");
        let [seven, eight] = &steps[..] else { panic!() };
        assert!(!seven.is_first() && Arc::strong_count(seven.state.as_ref().unwrap()) == 1);
        // The other way round, with a third that starts, and the first one at its end.
        let last = Step { end: true, ..seven.clone() };
        let rows = [row(0.0, 1.0), row(5.0, 5.0), row(1.0, 1.0)];
        let (second, steps) = execute(&engine, &rows, vec![eight.clone(), step(9), last]);
        let second = second.unwrap();
        assert_eq!(f32s(&second.tensors[0]), [20.0, 42.0, 10.0, 10.0, 4.0, 6.0], "{name}");
        assert_eq!(second.tensors[1].data(), &TensorData::Int64(vec![102, 101, 102]), "{name}");
        assert_eq!(f32s(&second.tensors[2]), [0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0], "{name}");
        // Alone, a step gives what it gives in company, state included.
        let (alone, after) = execute(&engine, &rows[..1], vec![eight.clone()]);
        assert_eq!(alone.unwrap().tensors[0], second.tensors[0].slice_rows(0..1), "{name}");
        assert_eq!(after[0].state, steps[0].state, "{name}");
    }
}

#[test]
fn where_rows_are_moments_one_request_has_several_and_sequences_run_one_by_one() {
    let model = model("smoothing");
    for engine in engines(&model) {
        let moments =
            |values: &[f32]| Batch { rows: values.len(), inputs: vec![floats(&[values.len(), 1], values)] };
        let (outputs, steps) =
            execute(&engine, &[moments(&[1.0, 2.0, 3.0]), moments(&[5.0])], vec![step(1), step(2)]);
        assert_eq!(f32s(&outputs.unwrap().tensors[0]), [1.0, 3.0, 6.0, 5.0]);
        let (outputs, _) = execute(&engine, &[moments(&[1.0]), moments(&[1.0, 1.0])], steps);
        assert_eq!(f32s(&outputs.unwrap().tensors[0]), [7.0, 6.0, 7.0]);
    }
}

#[test]
fn a_step_that_fails_leaves_its_state_as_it_was() {
    let model = model("running");
    for engine in engines(&model) {
        let (_, steps) = execute(&engine, &[row(1.0, 2.0)], vec![step(1)]);
        let text = Step { id: SequenceId::text("not-a-number").unwrap(), ..steps[0].clone() };
        let (refused, after) = execute(&engine, &[row(1.0, 1.0)], vec![text]);
        assert!(matches!(refused, Err(EngineError::Input(_))));
        assert!(Arc::ptr_eq(after[0].state.as_ref().unwrap(), steps[0].state.as_ref().unwrap()));
        let cancel = CancelFlag::default();
        cancel.cancel();
        let work = engine.prepare(row(1.0, 1.0)).unwrap();
        let mut context = Context { steps: steps.clone(), cancel, ..Context::default() };
        assert!(matches!(engine.execute(&[&work], &mut context), Err(EngineError::Cancelled)));
        assert_eq!(context.steps[0].state, steps[0].state);
    }
}

#[test]
fn without_a_sequence_each_row_is_a_first_step_and_outputs_can_be_chosen() {
    let model = model("running");
    for engine in engines(&model) {
        for _ in 0..2 {
            let (outputs, steps) = execute(&engine, &[row(1.0, 2.0)], Vec::new());
            assert_eq!((f32s(&outputs.unwrap().tensors[0]), steps.len()), (&[2.0, 4.0][..], 0));
        }
        let work = engine.prepare(row(3.0, 4.0)).unwrap();
        let mut context = Context { outputs: Some(vec![1]), steps: vec![step(1)], ..Context::default() };
        let outputs = engine.execute(&[&work], &mut context).unwrap();
        assert_eq!(outputs.tensors[1].data(), &TensorData::Int64(vec![101]));
        assert_eq!(outputs.tensors[0].data().len(), 0, "not asked for");
        assert_eq!(f32s(&context.steps[0].state.as_ref().unwrap()[0]), [3.0, 4.0]);
    }
}

#[test]
fn what_is_no_step_is_refused() {
    let model = model("running");
    for engine in engines(&model) {
        for rows in [0, 2] {
            let batch = Batch { rows, inputs: vec![floats(&[rows, 2], &vec![0.0; 2 * rows])] };
            let error = engine.prepare(batch).unwrap_err();
            assert!(
                matches!(&error, EngineError::Input(text) if text.contains("a step of a sequence")),
                "{error}"
            );
        }
        let (mismatch, _) = execute(&engine, &[row(1.0, 1.0)], vec![step(1), step(2)]);
        assert!(matches!(mismatch, Err(EngineError::Runtime(_))));
    }
}
