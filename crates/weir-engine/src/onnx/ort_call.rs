//! The one place that calls `Run` of ONNX Runtime's C API.

#![allow(unsafe_code)] // see `SharedSession::run`

use std::{
    ffi::{CString, c_char},
    ptr::{self, NonNull},
};

use ort::{
    AsPointer, Error,
    session::{Session, SessionInputValue},
    sys::{OrtSession, OrtValue},
    value::DynValue,
};

/// A session that any number of threads may run at the same time.
///
/// `ort::Session::run` takes `&mut self`, because execution providers exist whose kernels
/// are not thread-safe. The alternatives to the shared call below were a lock (one
/// inference at a time) and a pool of sessions (the weights once a thread).
pub(super) struct SharedSession {
    session: Session,
    inputs: Vec<CString>,
    outputs: Vec<CString>,
}

impl SharedSession {
    /// Wraps a session that was made with **no execution provider but the CPU's**.
    ///
    /// `inputs` are the names that [`run`](Self::run) fills, in this order; `outputs` those
    /// that it can give.
    pub(super) fn new(session: Session, inputs: &[String], outputs: &[String]) -> Result<Self, Error> {
        let names =
            |list: &[String]| list.iter().map(|n| CString::new(n.as_str())).collect::<Result<Vec<_>, _>>();
        Ok(Self { inputs: names(inputs)?, outputs: names(outputs)?, session })
    }

    /// Runs the graph: `inputs` in the order given to [`new`](Self::new), outputs by index.
    pub(super) fn run(
        &self,
        inputs: &[SessionInputValue<'_>],
        outputs: impl Iterator<Item = usize>,
    ) -> Result<Vec<DynValue>, Error> {
        if inputs.len() != self.inputs.len() {
            return Err(Error::new(format!("{} inputs given, {} taken", inputs.len(), self.inputs.len())));
        }
        let input_names: Vec<*const c_char> = self.inputs.iter().map(|n| n.as_ptr()).collect();
        let values: Vec<*const OrtValue> = inputs.iter().map(|v| v.ptr()).collect();
        let output_names: Vec<*const c_char> = outputs
            .map(|o| self.outputs.get(o).map(|n| n.as_ptr()))
            .collect::<Option<_>>()
            .ok_or_else(|| Error::new("no such output"))?;
        let mut results: Vec<*mut OrtValue> = vec![ptr::null_mut(); output_names.len()];
        // SAFETY:
        // - Pointers: the session outlives the call (`&self`); names are NUL-terminated and
        //   owned by `self`; every array is as long as the count beside it; the values live
        //   in `inputs`, which is borrowed for the call, and `Run` only reads them. `results`
        //   is filled with null, so ONNX Runtime allocates the outputs.
        // - Threads: `InferenceSession::Run` is documented in its header as "multiple threads
        //   are allowed to run this function; hence its thread-safe", and is const over the
        //   graph: what a run computes lives in its own execution frame. What runs share (the
        //   arena, the cache of memory patterns, counters) is behind locks or atomics. A
        //   provider that cannot do it says so (`ConcurrentRunSupported`) and is serialised by
        //   the session itself; the reports of crashes that `ort` reacts to are about GPU
        //   providers, and `new` demands the CPU's alone. `tests/it/ort.rs` has the stress test.
        // - The `*mut` is what the C header says; `Run` does not write through it.
        let status = unsafe {
            (ort::api().Run)(
                self.session.ptr().cast_mut().cast::<OrtSession>(),
                ptr::null(),
                input_names.as_ptr(),
                values.as_ptr(),
                values.len(),
                output_names.as_ptr(),
                output_names.len(),
                results.as_mut_ptr(),
            )
        };
        // SAFETY: the status comes from the call above and is consumed once. On an error
        // `Run` has released what it allocated and left `results` null.
        unsafe { Error::result_from_status(status) }?;
        results.into_iter().map(|value| self.own(value)).collect()
    }

    fn own(&self, value: *mut OrtValue) -> Result<DynValue, Error> {
        let value = NonNull::new(value).ok_or_else(|| Error::new("the runtime left an output empty"))?;
        // SAFETY: a value that `Run` just gave and nobody else holds; outputs of the CPU
        // provider come from the session's default allocator.
        Ok(unsafe { DynValue::from_ptr(value, Some(self.session.allocator())) })
    }
}
