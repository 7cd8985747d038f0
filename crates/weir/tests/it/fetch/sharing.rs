//! Servers that share a folder.

use std::fs;

use regex::Regex;
use rustix::process::Signal;
use tempfile::TempDir;

use super::{Files, archive, await_ready, configured, get, package, sha256};
use crate::server::Server;

#[test]
fn servers_that_share_a_folder_and_keep_nothing_take_nothing_from_each_other() {
    let place = TempDir::new().unwrap();
    let made = package(place.path(), "made.tar.gz", &[]);
    let toml = fs::read_to_string(place.path().join("housing/model.toml")).unwrap();
    fs::write(place.path().join("housing/model.toml"), toml.replace("\"housing\"", "\"north\"")).unwrap();
    let north = package(place.path(), "north.tar.gz", &[]);
    let http = Files::serve(place.path());
    let base = "keep = \"0B\"\n".to_owned()
        + &archive(&format!("http://{}/made.tar.gz", http.address), sha256(&made));
    let more = base.clone() + &archive(&format!("http://{}/north.tar.gz", http.address), sha256(&north));
    let mut servers: Vec<_> = (0..2).map(|_| configured(place.path(), &base)).collect();
    servers.iter().for_each(|server| drop(await_ready(server.address, |status, _| status == 200)));
    let before = fs::read_to_string(place.path().join("weir.toml")).unwrap();
    // Both fetch what both removed, at the same moment.
    let over = Regex::new("configuration changed|reload failed").unwrap();
    for round in 0..6 {
        let list = if round % 2 == 0 { &more } else { &base };
        fs::write(place.path().join("weir.toml"), before.replace(&base, list)).unwrap();
        servers.iter().for_each(|server| server.signal(Signal::HUP));
        for server in &mut servers {
            let line = server.await_line(&over);
            assert!(line.contains("configuration changed"), "{line}");
            let wanted = if round % 2 == 0 { 200 } else { 404 };
            assert_eq!(get(server.address, "/v2/models/north/ready").0, wanted);
        }
    }
    servers.into_iter().for_each(Server::stop);
    let left: Vec<_> =
        place.path().join("cache").read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    let left: Vec<_> = left.iter().map(|name| name.to_string_lossy()).collect();
    // What the last reload let go is swept by the next one.
    assert!(left.iter().all(|name| name.starts_with("sha256-")), "{left:?}");
    assert!(left.iter().any(|name| name.ends_with(sha256(&made))), "{left:?}");
}

#[test]
fn servers_that_share_a_folder_fetch_at_once() {
    let place = TempDir::new().unwrap();
    let made = package(place.path(), "made.tar.gz", &[]);
    let http = Files::serve(place.path());
    let list = archive(&format!("http://{}/made.tar.gz", http.address), sha256(&made));
    let servers: Vec<_> = (0..4).map(|_| configured(place.path(), &list)).collect();
    for server in &servers {
        await_ready(server.address, |status, _| status == 200);
    }
    let left: Vec<_> =
        place.path().join("cache").read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, [format!("sha256-{}", sha256(&made)).as_str()]);
    servers.into_iter().for_each(Server::stop);
}
