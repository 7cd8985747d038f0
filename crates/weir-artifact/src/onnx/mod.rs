//! The ONNX file format: the only home of its protobuf, and the gate in front of every
//! runtime.
