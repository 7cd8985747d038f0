//! A `weir.toml` of any kind, as the binary reads it.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use schemars::JsonSchema;
use serde::Deserialize;
use weir_api::config::{RouteConfig, ServerConfig};

/// The two tables of the file.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WeirToml {
    #[serde(default)]
    #[allow(dead_code)] // read for its checks only
    server: ServerConfig,
    #[serde(default)]
    #[allow(dead_code)] // read for its checks only
    route: Vec<RouteConfig>,
}

fuzz_target!(|text: &str| {
    if let Err(problems) = weir_config::parse::<WeirToml>(Path::new("weir.toml"), text) {
        assert!(!problems.is_empty(), "refused without a word");
        assert!(problems.iter().all(|problem| !problem.message.is_empty()));
    }
});
