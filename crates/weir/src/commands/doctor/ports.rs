//! Addresses: whether they can be listened on.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use weir_api::config::ServerConfig;

use super::finding::Finding;
use crate::settings::listeners;

/// Longest wait for what listens there already.
const PATIENCE: Duration = Duration::from_secs(1);
/// What a Weir says of itself at `/livez`.
const LIVE: &str = "{\"live\":true}";

/// Tries every address of the server, all at once as the server has them.
pub(super) fn look(server: &ServerConfig) -> Vec<Finding> {
    let ours = is_weir(server.listen);
    let mut held = Vec::new();
    let mut bind = |address| TcpListener::bind(address).map(|socket| held.push(socket));
    let all = listeners(server).into_iter();
    all.map(|listen| check(&format!("server.{}", listen.key), listen.address, bind(listen.address), ours))
        .collect()
}

fn check(key: &str, address: SocketAddr, bound: io::Result<()>, ours: bool) -> Finding {
    let found = |text: &str| format!("{key} = {address} {text}");
    match bound {
        Ok(()) => Finding::ok("ports", found("is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && ours => {
            Finding::ok("ports", found("is in use by a Weir that answers on server.listen"))
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Finding::fail(
            "ports",
            found("is in use"),
            format!("stop what listens there (ss -ltnp), or change {key}"),
        ),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Finding::fail(
            "ports",
            found("may not be listened on by this user"),
            "choose a port of 1024 or above and let a service or proxy map it",
        ),
        Err(error) => Finding::fail(
            "ports",
            found(&error.to_string()),
            "name an address that this host has, or 0.0.0.0",
        ),
    }
}

/// Whether a Weir answers there.
fn is_weir(address: SocketAddr) -> bool {
    let asked = || -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(4_096).read_to_string(&mut answer)?;
        Ok(answer)
    };
    address.port() != 0 && asked().is_ok_and(|answer| answer.ends_with(LIVE))
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};

    #[test]
    fn who_holds_an_address_makes_the_difference() {
        let address = SocketAddr::from(([127, 0, 0, 1], 8000));
        let of = |kind: io::ErrorKind, ours| check("server.listen", address, Err(kind.into()), ours).level;
        assert_eq!(check("server.listen", address, Ok(()), false).level, Level::Ok);
        assert_eq!(of(io::ErrorKind::AddrInUse, false), Level::Fail);
        assert_eq!(of(io::ErrorKind::AddrInUse, true), Level::Ok);
        assert_eq!(of(io::ErrorKind::PermissionDenied, true), Level::Fail);
        assert_eq!(of(io::ErrorKind::AddrNotAvailable, false), Level::Fail);
    }

    #[test]
    fn an_address_that_is_wanted_twice_is_free_once() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let server = ServerConfig { listen: free, grpc_listen: Some(free), ..ServerConfig::default() };
        let found = look(&server);
        assert_eq!(found.iter().map(|f| f.level).collect::<Vec<_>>(), [Level::Ok, Level::Fail], "{found:?}");
        assert!(found[1].fix.contains("server.grpc_listen"), "{found:?}");
    }

    #[test]
    fn something_else_that_listens_is_no_weir() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = other.accept().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno").unwrap();
        });
        assert!(!is_weir(address));
        answering.join().unwrap();
    }
}
