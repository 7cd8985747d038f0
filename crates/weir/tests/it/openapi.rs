//! The description of the demo, as the real server gives it.

use std::{fs, path::Path};

use crate::{
    client::get,
    server::{Server, require_sentiment, root},
};

/// `WEIR_BLESS=1 cargo test -p weir --test it openapi` writes it anew; read the difference.
#[test]
fn the_demo_is_described_as_the_golden_file_says() {
    require_sentiment();
    let server = Server::start(&root(), &["--config".into(), "examples/weir.toml".into()]);
    let mut document = get(server.address, "/openapi.json").json();
    server.stop();
    // Differs from release to release.
    document["info"]["version"] = "0.0.0".into();
    let text = serde_json::to_string_pretty(&document).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/openapi.json");
    if std::env::var_os("WEIR_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == expected, "{} differs: run with WEIR_BLESS=1 and read the diff", path.display());
}
