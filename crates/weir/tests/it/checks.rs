//! What is wrong before anything is served: told whole, in the same words by all who look.

use std::{fs, net::TcpListener};

use tempfile::TempDir;

use crate::{
    configuration::{file, run},
    server::root,
};

/// What is wrong in one place hides nothing that is wrong elsewhere, and who checks is as strict as who serves.
#[test]
fn serve_check_and_doctor_tell_the_same_and_all_of_it() {
    let folder = TempDir::new().unwrap();
    let models = root().join("examples/models/housing");
    let text = format!(
        r#"[server]
models = [{models:?}, "nowhere"]
listen = "127.0.0.1:8765"
metrics_listen = "0.0.0.0:8765"
grpc_listen = "127.0.0.1:8765"
max_connections = 0
[redis]
url = "redis://127.0.0.1:1"
password_file = "no-password"
[state]
store = "embedded"
path = "no/such/state.redb"
[fetch]
ca_file = "no-ca"
[s3]
access_key_file = "half"
[[archive]]
url = "s3://models/a.tar.gz"
sha256 = "xyz"
[[view]]
name = "empty"
entity = "id"
[[route]]
path = "/a"
model = "housing"
response = {{ prediction = "predicton" }}
[[route]]
path = "/b"
model = "huosing"
response = {{ prediction = "prediction" }}
"#
    );
    fs::write(folder.path().join("weir.toml"), text).unwrap();
    let variables = [("RUST_LOG", "canary=x=y")];
    for command in ["serve", "config check", "doctor"] {
        let arguments: Vec<_> = command.split(' ').chain(["--config", "weir.toml"]).collect();
        let (ok, out, told) = run(folder.path(), &arguments, &variables);
        assert!(!ok);
        for wrong in [
            "weir.toml:4:18: `server.metrics_listen` must differ from `server.listen`",
            "weir.toml:5:15: `server.grpc_listen` must differ from `server.listen`",
            "weir.toml:6:19: `server.max_connections`",
            "environment variable RUST_LOG: cannot be read",
            "weir.toml:9:17: `redis.password_file`",
            "weir.toml:12:8: `state.path`",
            "weir.toml:14:11: `fetch.ca_file`",
            "weir.toml:16:19: `s3.access_key_file`",
            "weir.toml:19:10: `archive[0].sha256`",
            "weir.toml:20:1: ",
            "weir.toml:23:1: ",
            "weir.toml:27:1: ",
            "nowhere",
        ] {
            assert!(format!("{out}{told}").contains(wrong), "{command}: {wrong}: {out}{told}");
        }
    }
    assert!(!folder.path().join("no").exists(), "nothing was made");
}

#[test]
fn an_address_in_use_is_told_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let folder = TempDir::new().unwrap();
    for (key, flag) in
        [("listen", "--listen"), ("metrics_listen", ""), ("grpc_listen", ""), ("admin_listen", "--admin")]
    {
        let free = if key == "listen" { "" } else { "listen = \"127.0.0.1:0\"\n" };
        fs::write(folder.path().join("weir.toml"), file(&format!("{free}{key} = \"{at}\""), "a")).unwrap();
        let (ok, _, told) = run(folder.path(), &["serve", "--config", "weir.toml"], &[]);
        assert!(!ok && told.contains(&format!("{at} is in use")), "{told}");
        assert!(told.contains(&format!("`server.{key}`")) && told.contains(flag), "{told}");
        assert_eq!(told.contains("with --"), !flag.is_empty(), "{told}");
    }
}
