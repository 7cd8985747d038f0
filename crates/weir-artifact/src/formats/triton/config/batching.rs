//! What a `config.pbtxt` says about how requests wait and run together.

use std::time::Duration;

use weir_config::HumanDuration;

use super::{Field, Reader, Value, short};
use crate::BatchingTable;

/// Most of what is counted in `[batching]`; larger numbers come to this.
const MOST: usize = 1_024;
/// Most priorities.
const MOST_LEVELS: usize = 64;

impl Reader {
    /// `dynamic_batching`.
    pub(super) fn batching(&mut self, field: &Field, table: &mut BatchingTable) {
        for inner in self.message(field) {
            match inner.name.as_str() {
                "preferred_batch_size" => {
                    self.count(inner);
                    self.once(
                        "`preferred_batch_size` has no effect: a batch is what waits when the model is free",
                    );
                }
                "max_queue_delay_microseconds" => {
                    let delay = Duration::from_micros(self.count(inner) as u64);
                    table.max_delay = HumanDuration(delay.min(Duration::from_secs(1)));
                }
                "priority_levels" => table.priority_levels = self.count(inner).clamp(1, MOST_LEVELS),
                "default_priority_level" => {
                    table.default_priority = Some(self.count(inner).clamp(1, MOST_LEVELS));
                }
                "default_queue_policy" => self.policy_of_queue(inner, table),
                "preserve_ordering" if !self.truth(inner) => {}
                "preserve_ordering" => {
                    self.once("`preserve_ordering` has no effect: answers go out as they are ready");
                }
                "priority_queue_policy" => {
                    self.message(inner);
                    self.once(
                        "`priority_queue_policy` has no effect: `default_queue_policy` is for all priorities",
                    );
                }
                _ => self.unknown(inner, "`dynamic_batching`"),
            }
        }
        // Triton refuses a default beyond the levels; so does what we make of it.
        table.default_priority = table.default_priority.map(|n| n.min(table.priority_levels));
    }

    fn policy_of_queue(&mut self, field: &Field, table: &mut BatchingTable) {
        for inner in self.message(field) {
            match inner.name.as_str() {
                // 0 means no bound there; here there always is one.
                "max_queue_size" => table.queue = Some(self.count(inner).min(1_000_000)).filter(|n| *n > 0),
                "timeout_action" | "default_timeout_microseconds" | "allow_timeout_override" => {
                    self.once(&format!(
                        "`{}` has no effect: each request has a deadline, and is dropped behind it",
                        inner.name
                    ));
                }
                _ => self.unknown(inner, "`default_queue_policy`"),
            }
        }
    }

    /// `instance_group`: how many executions run at once.
    pub(super) fn instances(&mut self, field: &Field, table: &mut BatchingTable) {
        let fields = self.message(field);
        let gpu = fields.iter().any(|f| f.name == "gpus" || f.value == Value::Word("KIND_GPU".to_owned()));
        if gpu {
            self.once("`instance_group` asks for a GPU: the model runs on the CPU, on as many threads as there are cores");
            return;
        }
        let count = fields.iter().find(|f| f.name == "count").map(|f| self.count(f));
        if let Some(count) = count.filter(|n| *n > 0) {
            table.instances = Some((table.instances.unwrap_or(0) + count).min(MOST));
        }
    }

    /// `parameters`: of those of the ONNX Runtime backend, the one that counts threads.
    pub(super) fn parameters(&mut self, field: &Field, table: &mut BatchingTable) {
        let inner = self.message(field);
        let Some(key) = inner.iter().find(|f| f.name == "key").and_then(|f| self.text(f)) else {
            return self.fault(field, "a parameter needs a `key`");
        };
        let value = inner.iter().find(|f| f.name == "value").map(|f| self.message(f)).unwrap_or_default();
        let text = value.iter().find(|f| f.name == "string_value").and_then(|f| self.text(f));
        match text.and_then(|t| t.parse::<usize>().ok()).filter(|_| key == "intra_op_thread_count") {
            // 0 leaves it to ONNX Runtime.
            Some(threads) => table.threads = Some(threads.min(MOST)).filter(|n| *n > 0),
            None => self.notes.push(format!("parameter `{}` has no effect", short(&key))),
        }
    }

    /// A note, however often its reason comes.
    pub(super) fn once(&mut self, note: &str) {
        if !self.notes.iter().any(|n| n == note) {
            self.notes.push(note.to_owned());
        }
    }
}
