//! The commented default file.

use std::path::Path;

use weir_config::{default_toml, json_schema, parse};

use crate::shape::Config;

#[test]
fn the_default_file_reads_back_as_the_default() {
    let text = default_toml::<Config>();
    assert_eq!(parse::<Config>(Path::new("default"), &text), Ok(Config::default()), "{text}");
}

#[test]
fn the_default_file_explains_itself() {
    let expected = r##"# A configuration with one of everything.

# How much to tell.
# One of `debug`, `warn`, `info`.
log = "info"

# Where it listens.
[server]

# Address and port.
listen = "127.0.0.1:8000"

# Address and port of the admin face; off by default.
# admin_listen = …  # a string

# How long a request may take to arrive.
timeout = "10s"

# Longest body.
max_body = "16MiB"

# Threads.
workers = 2

# Share of requests that are traced.
sample = 0.5

# Folders of models.
models = ["models"]

# Whether it can be controlled.
control = false

# Faces of models.
# [[route]]
#   The path.
# path = …  # a string
#   What the body is.
# request = …  # one of `one`, `raw` or a table
#   What to do.
# action = …  # a table

# Names by key, `"a.b" = "c"`.
[names]
"##;
    assert_eq!(default_toml::<Config>(), expected);
}

#[test]
fn the_schema_is_for_editors_too() {
    let schema = json_schema::<Config>();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
}
