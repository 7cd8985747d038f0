//! Receivers that are away, refuse what they are sent, or come back.

use std::time::Duration;

use regex::Regex;
use rustix::process::Signal;

use super::{
    DROPPED, ask_often, configured, housing, is_server,
    receiver::{Manner, Receiver},
    start,
};
use crate::metrics::{await_metric, metric};

#[test]
fn a_receiver_that_is_away_or_hangs_costs_its_traces_alone() {
    let told = Regex::new(r#""dropped_spans":(\d+)"#).unwrap();
    let away = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (protocol, grpc) in [("http", false), ("grpc", true)] {
        for manner in [None, Some(Manner::Refuses), Some(Manner::Hangs)] {
            let receiver = manner.map(|manner| Receiver::start(grpc, manner));
            let address = receiver.as_ref().map_or_else(away, |receiver| receiver.address);
            let more = "queue = 512\ntimeout = \"60s\"\nflush_timeout = \"200ms\"\n";
            let place = configured(&housing(), address, protocol, more);
            let mut server = start(place.path());
            let number = 600u64;
            ask_often(&server, number as usize);
            if manner == Some(Manner::Hangs) {
                // One message hangs, and what the queue has room for waits behind it.
                receiver.as_ref().unwrap().asked(1);
                let dropped = metric(server.address, DROPPED);
                assert_eq!(dropped, (number - 512) as f64);
            }
            server.signal(Signal::TERM);
            assert!(server.wait().success());
            let log = server.log();
            let lost: u64 = told.captures(&log).unwrap_or_else(|| panic!("{log}"))[1].parse().unwrap();
            assert_eq!(lost, number, "all of them are counted: {log}");
            assert_eq!(
                log.matches("does not take it").count() + usize::from(manner == Some(Manner::Hangs)),
                1,
                "{log}"
            );
        }
    }
}

#[test]
fn a_receiver_that_comes_back_misses_nothing() {
    let receiver = Receiver::start(false, Manner::Refuses);
    let place = configured(&housing(), receiver.address, "http", "");
    let mut server = start(place.path());
    ask_often(&server, 20);
    receiver.asked(5);
    receiver.turn(Manner::Takes);
    assert_eq!(receiver.spans(20, is_server).len(), 20);
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    assert!(!server.log().contains("dropped_spans"), "{}", server.log());
}

/// Every status once or twice: with a word of when to come again, and without.
#[test]
fn what_is_refused_is_sent_again_where_the_specification_says_so() {
    let (at_once, http): (_, Vec<u16>) =
        (Some(Duration::ZERO), (300..=308).chain(400..=431).chain(500..=511).collect());
    for (protocol, grpc, statuses) in [("http", false, http), ("grpc", true, (1..=17).collect())] {
        let receiver = Receiver::start(grpc, Manner::Takes);
        let place = configured(&housing(), receiver.address, protocol, "");
        let server = start(place.path());
        for (status, told) in statuses.iter().flat_map(|status| [(*status, None), (*status, at_once)]) {
            let passes = match grpc {
                true => [1, 4, 10, 11, 14, 15].contains(&status) || (status == 8 && told.is_some()),
                false => [429, 502, 503, 504].contains(&status),
            };
            let (sent, taken, dropped) =
                (receiver.messages(), receiver.all().len(), metric(server.address, DROPPED));
            receiver.turn(Manner::Says(status, told));
            ask_often(&server, 1);
            if passes {
                receiver.asked(sent + 2);
                receiver.turn(Manner::Takes);
                receiver.spans(taken + 1, |_| true);
                assert_eq!(metric(server.address, DROPPED), dropped, "{protocol} {status} {told:?}");
            } else {
                await_metric(server.address, DROPPED, |now| now == dropped + 1.0);
                assert_eq!(receiver.messages(), sent + 1, "{protocol} {status} {told:?}");
            }
        }
        server.stop();
    }
}
