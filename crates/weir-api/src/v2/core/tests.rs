//! Requests against a version whose engine gives its inputs back.

use std::sync::Arc;

use weir_types::{DType, Tensor, TensorData};

use super::*;
