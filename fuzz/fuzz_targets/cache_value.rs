//! A value that Redis gives for a cached row, of any bytes: an answer whose tensors are what they say,
//! or none.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // Past the checksum nothing gets by chance: what is behind it is read on its own, too.
    for outputs in [weir_serving::stored_answer(bytes), weir_serving::bare_answer(bytes)].into_iter().flatten() {
        for tensor in outputs.tensors {
            assert_eq!(tensor.shape().iter().product::<usize>(), tensor.data().len());
        }
    }
});
