//! Configuration and statistics as messages.

use weir_types::DType;

use super::generated::inference::*;
use crate::v2::core::{self, TensorMetadata};

/// A model's configuration.
pub(super) fn message(config: core::ModelConfig) -> ModelConfig {
    let core::ModelConfig { name, platform, backend, version, max_batch_size, inputs, outputs } = config;
    let versions = version.parse().into_iter().collect();
    let policy = model_version_policy::Specific { versions };
    ModelConfig {
        name,
        platform,
        backend,
        version_policy: Some(ModelVersionPolicy {
            policy_choice: Some(model_version_policy::PolicyChoice::Specific(policy)),
        }),
        max_batch_size,
        input: inputs.into_iter().map(input).collect(),
        output: outputs.into_iter().map(output).collect(),
        ..ModelConfig::default()
    }
}

fn input(tensor: TensorMetadata) -> ModelInput {
    let data_type = data_type(tensor.dtype).into();
    ModelInput { name: tensor.name, data_type, dims: tensor.shape, ..ModelInput::default() }
}

fn output(tensor: TensorMetadata) -> ModelOutput {
    let data_type = data_type(tensor.dtype).into();
    ModelOutput { name: tensor.name, data_type, dims: tensor.shape, ..ModelOutput::default() }
}

fn data_type(dtype: DType) -> DataType {
    match dtype {
        DType::Bool => DataType::TypeBool,
        DType::Int8 => DataType::TypeInt8,
        DType::Int16 => DataType::TypeInt16,
        DType::Int32 => DataType::TypeInt32,
        DType::Int64 => DataType::TypeInt64,
        DType::Uint8 => DataType::TypeUint8,
        DType::Uint16 => DataType::TypeUint16,
        DType::Uint32 => DataType::TypeUint32,
        DType::Uint64 => DataType::TypeUint64,
        DType::Float16 => DataType::TypeFp16,
        DType::Bfloat16 => DataType::TypeBf16,
        DType::Float32 => DataType::TypeFp32,
        DType::Float64 => DataType::TypeFp64,
        DType::String => DataType::TypeString,
    }
}

/// A version's statistics.
pub(super) fn statistics(stats: core::ModelStatistics) -> ModelStatistics {
    let duration = |d: core::DurationStatistic| Some(StatisticDuration { count: d.count, ns: d.ns });
    // Decoding and encoding are done a request, not an execution.
    let batch = |b: core::BatchStatistic| InferBatchStatistics {
        batch_size: b.rows,
        compute_input: Some(StatisticDuration::default()),
        compute_infer: duration(b.compute_infer),
        compute_output: Some(StatisticDuration::default()),
    };
    ModelStatistics {
        name: stats.name,
        version: stats.version,
        last_inference: stats.last_inference_ms,
        inference_count: stats.inference_count,
        execution_count: stats.execution_count,
        inference_stats: Some(InferStatistics {
            success: duration(stats.success),
            fail: duration(stats.fail),
            queue: duration(stats.queue),
            compute_input: duration(stats.compute_input),
            compute_infer: duration(stats.compute_infer),
            compute_output: duration(stats.compute_output),
            cache_hit: duration(stats.cache_hit),
            cache_miss: duration(stats.cache_miss),
        }),
        batch_stats: stats.batches.into_iter().map(batch).collect(),
    }
}
