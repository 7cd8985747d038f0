//! Server reflection: what services there are and what their messages look like.

use std::{collections::BTreeMap, sync::LazyLock};

use bytes::Bytes;
use hyper::body::Incoming;
use prost::Message;
use weir_types::{Access, Error, ErrorCode};

use super::{
    call::Call,
    frame,
    generated::{
        DESCRIPTORS,
        reflection::{
            ErrorResponse, FileDescriptorResponse, ListServiceResponse, ServerReflectionRequest,
            ServerReflectionResponse, ServiceResponse, server_reflection_request::MessageRequest,
            server_reflection_response::MessageResponse,
        },
    },
    reply::{Part, Reply},
    stream,
};

/// The part of `google.protobuf.FileDescriptorSet` and what is in it that reflection looks
/// at (descriptor.proto): a dependency for five fields was weighed and left.
#[derive(Clone, PartialEq, Message)]
struct Set {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    files: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    package: String,
    #[prost(string, repeated, tag = "3")]
    dependencies: Vec<String>,
    #[prost(message, repeated, tag = "4")]
    messages: Vec<Nested>,
    #[prost(message, repeated, tag = "5")]
    enums: Vec<Named>,
    #[prost(message, repeated, tag = "6")]
    services: Vec<Service>,
}

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Nested {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "3")]
    messages: Vec<Nested>,
    #[prost(message, repeated, tag = "4")]
    enums: Vec<Named>,
}

#[derive(Clone, PartialEq, Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    methods: Vec<Named>,
}

/// Every file, and which of them declares what.
#[derive(Default)]
struct Index {
    /// Name → the file, serialised, and the names of those it imports.
    files: BTreeMap<String, (Bytes, Vec<String>)>,
    /// Full name → file.
    symbols: BTreeMap<String, String>,
    services: Vec<String>,
    methods: Vec<String>,
}

static INDEX: LazyLock<Index> = LazyLock::new(|| Index::new(Bytes::from_static(DESCRIPTORS)));

impl Index {
    /// The descriptors are our own: that they can be read is what the tests show.
    fn new(descriptors: Bytes) -> Self {
        let mut index = Self::default();
        for bytes in Set::decode(descriptors).unwrap_or_default().files {
            let file = File::decode(bytes.clone()).unwrap_or_default();
            index.declare(&file);
            index.files.insert(file.name, (bytes, file.dependencies));
        }
        index
    }

    fn declare(&mut self, file: &File) {
        let within = |name: &str| format!("{}.{name}", file.package);
        let mut symbols: Vec<String> = file.enums.iter().map(|e| within(&e.name)).collect();
        file.messages.iter().for_each(|m| nested(&file.package, m, &mut symbols));
        for service in &file.services {
            let name = within(&service.name);
            symbols.extend(service.methods.iter().map(|m| format!("{name}.{}", m.name)));
            self.methods.extend(service.methods.iter().map(|m| format!("/{name}/{}", m.name)));
            symbols.push(name.clone());
            self.services.push(name);
        }
        self.symbols.extend(symbols.into_iter().map(|symbol| (symbol, file.name.clone())));
    }

    /// A file and all that it imports, each once.
    fn with_imports(&self, name: &str) -> Option<Vec<Bytes>> {
        let mut names = vec![name];
        let mut at = 0;
        while let Some(name) = names.get(at) {
            let (_, imports) = self.files.get(*name)?;
            let new: Vec<&str> = imports.iter().map(String::as_str).filter(|i| !names.contains(i)).collect();
            names.extend(new);
            at += 1;
        }
        names.into_iter().map(|name| self.files.get(name).map(|(bytes, _)| bytes.clone())).collect()
    }
}

fn nested(parent: &str, message: &Nested, symbols: &mut Vec<String>) {
    let name = format!("{parent}.{}", message.name);
    symbols.extend(message.enums.iter().map(|e| format!("{name}.{}", e.name)));
    message.messages.iter().for_each(|m| nested(&name, m, symbols));
    symbols.push(name);
}

/// The full names of all services.
pub(super) fn services() -> impl Iterator<Item = &'static str> {
    INDEX.services.iter().map(String::as_str)
}

/// The paths of all methods that are declared.
#[cfg(test)]
pub(super) fn methods() -> Vec<&'static str> {
    INDEX.methods.iter().map(String::as_str).collect()
}

/// `ServerReflectionInfo`, of v1 and v1alpha.
///
/// # Errors
/// Without access.
pub(super) fn answer(call: Call, body: Incoming) -> Result<Reply, Error> {
    call.authorize(Access::Read)?;
    Ok(stream::open(call.stream_deadline, |parts| async move {
        let mut messages = call.messages(body, call.small_limits(), call.stream_deadline);
        loop {
            let mut room = call.shared.predictor.room();
            let message = tokio::select! {
                message = messages.next(&mut room, None) => message?,
                () = call.shared.closing() => return Err(stream::closing()),
            };
            let Some(message) = message else { return Ok(()) };
            let reply = frame::encode(&respond(frame::decode(message)?), call.answers)?;
            if parts.send(Part::Message(reply)).await.is_err() {
                return Ok(());
            }
        }
    }))
}

fn respond(request: ServerReflectionRequest) -> ServerReflectionResponse {
    let file = |name: &str| INDEX.with_imports(name);
    let response = match &request.message_request {
        Some(MessageRequest::ListServices(_)) => {
            Some(MessageResponse::ListServicesResponse(ListServiceResponse {
                service: services().map(|name| ServiceResponse { name: name.to_owned() }).collect(),
            }))
        }
        Some(MessageRequest::FileByFilename(name)) => file(name).map(files),
        Some(MessageRequest::FileContainingSymbol(symbol)) => {
            INDEX.symbols.get(symbol).and_then(|name| file(name)).map(files)
        }
        // proto3 has no extensions of our messages.
        Some(MessageRequest::FileContainingExtension(_) | MessageRequest::AllExtensionNumbersOfType(_))
        | None => None,
    };
    ServerReflectionResponse {
        valid_host: request.host.clone(),
        message_response: Some(response.unwrap_or_else(|| missing(request.message_request.is_none()))),
        original_request: Some(request),
    }
}

fn files(file_descriptor_proto: Vec<Bytes>) -> MessageResponse {
    MessageResponse::FileDescriptorResponse(FileDescriptorResponse { file_descriptor_proto })
}

fn missing(empty: bool) -> MessageResponse {
    let (code, text) = match empty {
        true => (ErrorCode::InvalidArgument, "the request asks nothing"),
        false => (ErrorCode::NotFound, "there is no such file, symbol or extension"),
    };
    MessageResponse::ErrorResponse(ErrorResponse {
        error_code: code.grpc_status(),
        error_message: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(request: MessageRequest) -> MessageResponse {
        let request = ServerReflectionRequest { host: "h".into(), message_request: Some(request) };
        let response = respond(request.clone());
        assert_eq!((response.valid_host.as_str(), response.original_request), ("h", Some(request)));
        response.message_response.unwrap()
    }

    fn names(response: MessageResponse) -> Vec<String> {
        let MessageResponse::FileDescriptorResponse(response) = response else { panic!("{response:?}") };
        response.file_descriptor_proto.into_iter().map(|f| File::decode(f).unwrap().name).collect()
    }

    #[test]
    fn all_services_are_listed() {
        let listed: Vec<_> = services().collect();
        let expected = [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
            "inference.GRPCInferenceService",
        ];
        assert!(expected.iter().all(|name| listed.contains(name)) && listed.len() == 4, "{listed:?}");
    }

    #[test]
    fn symbols_are_found_in_their_files_with_what_those_import() {
        let both = ["inference/grpc_service.proto", "inference/model_config.proto"];
        for symbol in [
            "inference.GRPCInferenceService",
            "inference.GRPCInferenceService.ModelInfer",
            "inference.ModelInferRequest.InferInputTensor",
        ] {
            assert_eq!(names(ask(MessageRequest::FileContainingSymbol(symbol.into()))), both);
        }
        for symbol in ["inference.DataType", "inference.ModelInstanceGroup.Kind"] {
            assert_eq!(names(ask(MessageRequest::FileContainingSymbol(symbol.into()))), both[1..]);
        }
        assert_eq!(names(ask(MessageRequest::FileByFilename(both[0].into()))), both);
    }

    #[test]
    fn what_is_not_there_is_an_answer_too() {
        for request in [
            MessageRequest::FileByFilename("x.proto".into()),
            MessageRequest::FileContainingSymbol("inference".into()),
            MessageRequest::AllExtensionNumbersOfType("inference.ModelConfig".into()),
        ] {
            let MessageResponse::ErrorResponse(error) = ask(request) else { panic!("found") };
            assert_eq!(error.error_code, 5);
        }
    }
}
