//! Models whose server is away, comes, changes and goes.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use weir_serving::{Keeper, ModelControl, Reason, ServingSnapshot};

use crate::support::{Models, served};

/// An address where nobody listens.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Describes the model `far` as `x → y`, `x` being `width` wide, at `address` until the process
/// ends or `times` connections were answered.
fn describe_at(address: SocketAddr, width: usize, times: usize) -> std::thread::JoinHandle<()> {
    let listener = TcpListener::bind(address).unwrap();
    let tensor =
        |name: &str, width| format!(r#"[{{"name":"{name}","datatype":"FP32","shape":[-1,{width}]}}]"#);
    let model = format!(r#"{{"name":"far","inputs":{},"outputs":{}}}"#, tensor("x", width), tensor("y", 1));
    std::thread::spawn(move || {
        for stream in listener.incoming().take(times) {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let path = lines.next().unwrap_or_default().split(' ').nth(1).unwrap_or_default().to_owned();
            lines.find(String::is_empty);
            let (status, body) = match path.as_str() {
                "/v2" => (200, r#"{"name":"double","version":"1","extensions":[]}"#.to_owned()),
                "/v2/models/far" => (200, model.clone()),
                _ => (404, String::new()),
            };
            let length = body.len();
            let head =
                format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
    })
}

/// Connections that one description takes: server, model, configuration.
const ONE: usize = 3;

fn write(models: &Models, address: SocketAddr) {
    models.write("far/model.toml", &format!("[remote]\nurl = \"http://{address}\"\n"));
}

fn keep(models: &Models) -> (ModelControl, Receiver<ServingSnapshot>, std::thread::JoinHandle<()>) {
    let (publish, published) = channel();
    let first = Arc::new(models.load());
    let publish = Box::new(move |snapshot| publish.send(snapshot).map_err(|e| Reason::open(e.to_string())));
    let (keeper, control) = Keeper::new(models.loader(), first, publish);
    let keeper = keeper.retrying_after(Duration::ZERO);
    (control, published, std::thread::spawn(move || keeper.run(None)))
}

#[test]
fn a_server_that_is_away_holds_up_nobody_and_is_found_without_being_told() {
    let (models, address) = (Models::new(), free_address());
    models.add("near", "1");
    write(&models, address);
    let snapshot = models.load();
    assert_eq!(served(&snapshot), ["near/1"]);
    let failure = &snapshot.failures()[0];
    assert!(failure.transient && failure.reason.public().contains("cannot be reached"), "{failure:?}");
    assert!(!failure.public().contains(&address.to_string()), "callers see this: {failure:?}");
    assert!(failure.to_string().contains(&address.to_string()), "operators are told: {failure}");
    let (control, published, thread) = keep(&models);
    let server = describe_at(address, 2, ONE);
    let next = published.recv().unwrap();
    assert_eq!(served(&next), ["far/1", "near/1"]);
    assert_eq!(next.failures(), []);
    server.join().unwrap();
    drop(control);
    thread.join().unwrap();
}

#[test]
fn what_loaded_once_serves_on_while_its_server_is_away_and_follows_it_when_it_changes() {
    let (models, address) = (Models::new(), free_address());
    write(&models, address);
    let load = |previous: &ServingSnapshot| models.loader().load(previous, &Default::default(), &|_| {});
    let server = describe_at(address, 2, ONE);
    let first = load(&ServingSnapshot::default());
    server.join().unwrap();
    let far = |snapshot: &ServingSnapshot| snapshot.version("far", None).unwrap().clone();
    let away = load(&first);
    assert!(Arc::ptr_eq(&far(&away), &far(&first)) && away.failures()[0].covered);
    let server = describe_at(address, 2, ONE);
    let same = load(&away);
    server.join().unwrap();
    assert!(Arc::ptr_eq(&far(&same), &far(&first)) && same.failures().is_empty());
    let server = describe_at(address, 3, ONE);
    let changed = load(&same);
    server.join().unwrap();
    assert_ne!(far(&changed).spec.digest, far(&first).spec.digest);
    assert_eq!(far(&changed).engine.version, "double 1");
}
