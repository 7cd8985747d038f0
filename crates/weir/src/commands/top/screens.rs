//! The screens as they look, against what was looked at once and found right.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use ratatui::{Terminal, backend::TestBackend};

use super::{cells, figures::Figures, screen, state::State};
use crate::exposition;

/// `/metrics` of a server after `seconds` under a steady load.
fn exposed(seconds: u64, server: u64) -> String {
    let n = |a_second: u64| a_second * seconds * (server + 1);
    let mut text = format!(
        "weir_build_info{{version=\"0.1.0\"}} 1\nweir_ready {}\nweir_requests_in_flight {}\n\
         weir_connections{{listener=\"public\"}} 32\nprocess_resident_memory_bytes {}\n\
         process_cpu_seconds_total {}\n",
        u64::from(server != 1),
        3 + server,
        (80 + server) << 20,
        seconds as f64 * 0.75,
    );
    for (model, rate, slow) in [("housing", 1000, 0), ("sentiment", 20, 20), ("odd", 0, 0)] {
        let labels = format!("model=\"{model}\",version=\"1\"");
        text += &format!("weir_model_ready{{model=\"{model}\"}} {}\n", u64::from(model != "odd"));
        text += &format!("weir_requests_total{{{labels},code=\"200\"}} {}\n", n(rate));
        text += &format!("weir_requests_total{{{labels},code=\"503\"}} {}\n", n(rate / 10));
        text += &format!("weir_refused_total{{{labels}}} {}\n", n(rate / 10));
        text += &format!("weir_queue_length{{{labels}}} {}\n", rate / 200);
        text += &format!("weir_batch_rows_sum{{{labels}}} {}\n", n(rate * 4));
        text += &format!("weir_batch_rows_count{{{labels}}} {}\n", n(rate));
        text += &format!("weir_cache_answers_total{{{labels},outcome=\"hit\"}} {}\n", n(rate / 2));
        text += &format!("weir_cache_answers_total{{{labels},outcome=\"miss\"}} {}\n", n(rate / 2));
        for (bound, count) in [("0.001", rate - slow), ("0.01", rate - slow / 2), ("+Inf", rate)] {
            text +=
                &format!("weir_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {}\n", n(count));
        }
    }
    text
}

/// Three servers, the last of them away, after some seconds.
fn state() -> State {
    let urls = ["http://a:8000", "http://b:8000", "http://c:8000"].map(str::to_owned);
    let mut state = State::new(&urls);
    let start = Instant::now();
    for second in 0..6 {
        let at = start + Duration::from_secs(second);
        for server in 0..2 {
            let text = exposed(second * second, server);
            let found =
                exposition::parse(text.as_bytes()).map(|e| Figures::of(&e)).map_err(|e| e.to_string());
            state.take(server as usize, (at, found));
        }
        state.take(2, (at, Err("http://c:8000/metrics: connection refused".to_owned())));
        state.tick();
    }
    state
}

fn drawn(state: &State, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| screen::draw(frame, state)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let lines = buffer.content().chunks(width.into()).map(|line| {
        let text: String = line.iter().map(|cell| cell.symbol()).collect();
        text.trim_end().to_owned() + "\n"
    });
    lines.collect()
}

/// Compares with `tests/golden/<name>.txt`, or writes it where `UPDATE_GOLDEN` is set.
fn check(name: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    #[allow(clippy::disallowed_methods)] // a test reads the environment that starts it
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(golden, text, "if the new one is right: UPDATE_GOLDEN=1 cargo test -p weir top");
}

#[test]
fn the_screen_of_three_servers_one_of_them_away() {
    check("top", &drawn(&state(), 110, 20));
}

#[test]
fn a_small_screen_keeps_what_matters() {
    check("top-small", &drawn(&state(), 60, 10));
}

#[test]
fn servers_that_are_away_are_seen_however_many_there_are() {
    let urls: Vec<_> = (0..16).map(|i| format!("http://s{i}:8000")).collect();
    let mut state = State::new(&urls);
    let at = Instant::now();
    for server in 0..16 {
        let found = exposition::parse(exposed(1, u64::from(server == 9)).as_bytes());
        let found = found.map(|e| Figures::of(&e)).map_err(|e| e.to_string());
        state.take(server, (at, if server == 13 { Err("s13: refused".to_owned()) } else { found }));
    }
    let drawn = drawn(&state, 110, 15);
    let lines: Vec<_> = drawn.lines().skip_while(|line| !line.starts_with("server")).take(5).collect();
    assert!(lines[1].starts_with("s13: refused"), "{drawn}");
    assert!(lines[2].starts_with("http://s9:8000") && lines[2].contains("not ready"), "{drawn}");
    assert!(lines[3].starts_with("http://s0:8000"), "{drawn}");
    assert_eq!(lines[4], "+13 more");
}

#[test]
fn what_a_server_says_cannot_steer_the_terminal() {
    let mut state = State::new(&["http://a:8000".to_owned(), "http://b:8000".to_owned()]);
    for second in 0..2 {
        let at = Instant::now() + Duration::from_secs(second);
        let text =
            "weir_build_info{version=\"\u{1b}[2J1\"} 1\nweir_requests_total{model=\"\u{1b}]0;x\u{7}m\"} 1\n";
        let found = exposition::parse(text.as_bytes()).map(|e| Figures::of(&e)).map_err(|e| e.to_string());
        state.take(0, (at, found));
        state.take(1, (at, Err("it said \u{1b}[31m".to_owned())));
    }
    let row = state.rows().first().map(cells::model).unwrap();
    let servers = state.replicas.iter().flat_map(cells::server);
    let why = state.replicas[1].away.clone();
    let all: Vec<String> = row.into_iter().chain(servers).chain(why).collect();
    assert!(all.iter().any(|cell| cell.contains("]0;x")) && all.iter().any(|cell| cell.contains("[2J1")));
    assert!(all.iter().all(|cell| !cell.contains(char::is_control)), "{all:?}");
}

#[test]
fn the_help_lies_over_the_screen() {
    let mut state = state();
    state.help = true;
    check("top-help", &drawn(&state, 90, 20));
}

#[test]
fn before_anything_is_known_and_at_any_size_there_is_a_screen() {
    let empty = State::new(&["http://a:8000".to_owned()]);
    for (width, height) in [(1, 1), (3, 2), (10, 5), (200, 3), (7, 60)] {
        drawn(&empty, width, height);
        drawn(&state(), width, height);
    }
    assert!(drawn(&empty, 100, 12).contains("0 of 1 servers"));
}

#[test]
fn what_is_paused_stands_still() {
    let mut state = state();
    state.pause();
    let before = drawn(&state, 100, 20);
    state.take(0, (Instant::now(), Err("gone".to_owned())));
    state.tick();
    assert_eq!(before, drawn(&state, 100, 20));
    assert!(before.contains("paused"));
}

#[test]
fn rows_are_sorted_as_asked() {
    let mut state = state();
    let order = |state: &State| state.rows().into_iter().map(|row| row.name).collect::<Vec<_>>();
    assert_eq!(order(&state), ["housing", "sentiment", "odd"], "by rate");
    state.sort_next();
    assert_eq!(order(&state), ["housing", "odd", "sentiment"], "by name");
    (0..2).for_each(|_| state.sort_next());
    assert_eq!(order(&state), ["sentiment", "housing", "odd"], "by p99");
    // Many errors of a busy model, and few requests to one that mostly fails.
    let exposed = |seconds: u64| {
        let of = |model: &str, code, rate: u64| {
            format!(
                "weir_requests_total{{model=\"{model}\",version=\"1\",code=\"{code}\"}} {}\n",
                rate * seconds
            )
        };
        let text =
            [of("busy", 200, 1000), of("busy", 500, 10), of("rare", 200, 1), of("rare", 500, 2)].concat();
        Figures::of(&exposition::parse(text.as_bytes()).unwrap())
    };
    let (mut state, start) = (State::new(&["http://a:8000".to_owned()]), Instant::now());
    (0..2).for_each(|second| state.take(0, (start + Duration::from_secs(second), Ok(exposed(second)))));
    assert_eq!(order(&state), ["busy", "rare"], "by rate");
    (0..2).for_each(|_| state.sort_next());
    assert_eq!((state.sort.name(), order(&state)), ("errors", vec!["rare".into(), "busy".into()]));
}
