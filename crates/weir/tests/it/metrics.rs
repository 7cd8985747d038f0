//! Reading `/metrics`.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use crate::{client::get, server::PATIENCE};

/// The value of the sample called `name` (with its labels, as the exposition writes them).
pub(crate) fn metric(address: SocketAddr, name: &str) -> f64 {
    let text = get(address, "/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

/// Asks until `name` is as `wanted`; returns the value. Nothing announces a change of a
/// counter, so it is asked again and again.
pub(crate) fn await_metric(address: SocketAddr, name: &str, wanted: impl Fn(f64) -> bool) -> f64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let value = metric(address, name);
        if wanted(value) {
            return value;
        }
        assert!(Instant::now() < deadline, "{name} stays at {value}");
        thread::park_timeout(Duration::from_millis(5));
    }
}
