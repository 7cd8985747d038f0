//! Which master of a cluster has which slot, learnt from the nodes and from their redirections.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use redis::{ServerError, Value};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{
    RedisError,
    command::{Command, Expect},
    dial::{Dialer, Target},
    link::Link,
    settings::{Address, Settings},
    slot::SLOTS,
};

/// The nodes are not asked more often who has which slot: redirections are followed meanwhile.
const BETWEEN: Duration = Duration::from_millis(250);

/// A cluster, as far as it is known.
pub(crate) struct Cluster {
    settings: Arc<Settings>,
    /// Held for a few look-ups, never across a wait.
    state: Mutex<State>,
    /// Tells those who wait for the first map that somebody has looked.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    links: HashMap<Address, Arc<Link>>,
    map: Option<Arc<Map>>,
    /// Whether somebody is looking.
    looking: bool,
    looked: Option<Instant>,
    /// Why the last look found nothing.
    trouble: Option<String>,
}

/// The slots that one master has, first and last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    master: Address,
}

/// All slots, in order.
pub(crate) struct Map(Vec<(Range, Arc<Link>)>);

impl Map {
    /// The master that has `slot`.
    pub(crate) fn owner(&self, slot: u16) -> Option<&Arc<Link>> {
        let after = self.0.partition_point(|(range, _)| range.first <= slot);
        let (range, link) = self.0.get(after.checked_sub(1)?)?;
        (slot <= range.last).then_some(link)
    }

    /// Every master once.
    pub(crate) fn masters(&self) -> Vec<Arc<Link>> {
        let mut masters: Vec<Arc<Link>> = Vec::new();
        for (_, link) in &self.0 {
            if !masters.iter().any(|known| Arc::ptr_eq(known, link)) {
                masters.push(link.clone());
            }
        }
        masters
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({:?})", self.settings.nodes)
    }
}

/// Where a command belongs, by word of the node that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redirect {
    address: Address,
    /// For this once: the slot is being moved there.
    pub(crate) ask: bool,
}

impl Cluster {
    pub(crate) fn new(settings: Arc<Settings>) -> Arc<Self> {
        let changed = watch::Sender::new(());
        Arc::new(Self { settings, state: Mutex::default(), changed })
    }

    /// Who has which slot; waits for the first look.
    pub(crate) async fn map(self: &Arc<Self>, until: Instant) -> Result<Arc<Map>, RedisError> {
        let mut changed = self.changed.subscribe();
        loop {
            {
                let mut state = self.lock();
                if let Some(map) = &state.map {
                    return Ok(map.clone());
                }
                let trouble = state.trouble.clone();
                self.look_again(&mut state);
                if let Some(trouble) = trouble {
                    return Err(RedisError::Unavailable(trouble));
                }
            }
            if timeout_at(until, changed.changed()).await.is_err() {
                return Err(RedisError::Unavailable("the cluster is being looked at".to_owned()));
            }
        }
    }

    /// The nodes that are known: the masters, and where redirections led since the map was made.
    pub(crate) fn links(&self) -> Vec<Arc<Link>> {
        self.lock().links.values().cloned().collect()
    }

    /// The link to the node that a redirection names.
    pub(crate) fn follow(self: &Arc<Self>, redirect: &Redirect) -> Arc<Link> {
        let mut state = self.lock();
        if !redirect.ask {
            self.look_again(&mut state);
        }
        self.link(&mut state, &redirect.address)
    }

    /// Something is not as the map says: looks again, if nobody is or just has.
    pub(crate) fn doubt(self: &Arc<Self>) {
        self.look_again(&mut self.lock());
    }

    fn look_again(self: &Arc<Self>, state: &mut State) {
        let recent = state.looked.is_some_and(|looked| looked.elapsed() < BETWEEN);
        if !state.looking && !recent {
            state.looking = true;
            tokio::spawn(look(Looking(Arc::downgrade(self))));
        }
    }

    fn link(&self, state: &mut State, address: &Address) -> Arc<Link> {
        let dialer = || Dialer { settings: self.settings.clone(), target: Target::Server(address.clone()) };
        state.links.entry(address.clone()).or_insert_with(|| Link::new(dialer())).clone()
    }

    /// Those who may be asked: the masters, then the nodes of the configuration.
    fn candidates(&self) -> Vec<(Address, Arc<Link>)> {
        let mut state = self.lock();
        let mut addresses: Vec<Address> = state.links.keys().cloned().collect();
        addresses.extend(self.settings.nodes.iter().cloned());
        addresses.into_iter().map(|address| (address.clone(), self.link(&mut state, &address))).collect()
    }

    /// Takes over what a node said; links to nodes that have no slot are let go.
    fn learn(&self, ranges: Vec<Range>) {
        let mut state = self.lock();
        let map: Vec<_> =
            ranges.into_iter().map(|range| (range.clone(), self.link(&mut state, &range.master))).collect();
        state.links.retain(|address, _| map.iter().any(|(range, _)| range.master == *address));
        state.map = Some(Arc::new(Map(map)));
        state.trouble = None;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes sure that a cluster knows when nobody looks any more.
struct Looking(Weak<Cluster>);

impl Drop for Looking {
    fn drop(&mut self) {
        if let Some(cluster) = self.0.upgrade() {
            let mut state = cluster.lock();
            state.looking = false;
            state.looked = Some(Instant::now());
            drop(state);
            cluster.changed.send_replace(());
        }
    }
}

/// Asks the nodes, one after the other, until one says who has which slot.
async fn look(looking: Looking) {
    let Some(cluster) = looking.0.upgrade() else { return };
    for (address, link) in cluster.candidates() {
        let until = Instant::now() + cluster.settings.connect_timeout;
        match ask(&address, &link, until).await {
            Ok(ranges) => return cluster.learn(ranges),
            Err(error) => cluster.lock().trouble = Some(error.to_string()),
        }
    }
}

async fn ask(address: &Address, link: &Arc<Link>, until: Instant) -> Result<Vec<Range>, RedisError> {
    let question = Command::new("CLUSTER", Expect::List).arg("SLOTS");
    let answer = link.call_patiently(&[&question], until).await?.pop();
    let ranges = answer.and_then(|answer| ranges(answer, address));
    ranges.ok_or_else(|| RedisError::Unavailable(format!("{address}: is in no cluster that serves slots")))
}

/// Reads the answer to `CLUSTER SLOTS`; `None` if it is another, or says that nobody has any slot.
fn ranges(answer: Value, asked: &Address) -> Option<Vec<Range>> {
    let Value::Array(rows) = answer else { return None };
    let mut ranges = rows.into_iter().map(|row| range(row, asked)).collect::<Option<Vec<_>>>()?;
    ranges.sort_by_key(|range| range.first);
    (!ranges.is_empty()).then_some(ranges)
}

/// One row: first slot, last slot, the master as host, port and more, its replicas.
fn range(row: Value, asked: &Address) -> Option<Range> {
    let Value::Array(row) = row else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = row.as_slice() else { return None };
    let slot = |number: &i64| u16::try_from(*number).ok().filter(|slot| *slot < SLOTS);
    let [host, Value::Int(port), ..] = master.as_slice() else { return None };
    let host = match host {
        Value::BulkString(host) if !host.is_empty() => String::from_utf8(host.clone()).ok()?,
        // It does not know its own address; ours for it is good.
        _ => asked.host.clone(),
    };
    let master = Address { host, port: u16::try_from(*port).ok()? };
    Some(Range { first: slot(first)?, last: slot(last)?, master })
}

/// Where an answer of `MOVED` or `ASK` points to; `None` for any other.
pub(crate) fn redirect(error: &ServerError, asked: Option<&Address>) -> Option<Redirect> {
    let ask = match error.code() {
        "MOVED" => false,
        "ASK" => true,
        _ => return None,
    };
    let (_, place) = error.details()?.split_once(' ')?;
    let (host, port) = place.rsplit_once(':')?;
    let host = match host {
        "" => asked?.host.clone(),
        host => host.to_owned(),
    };
    Some(Redirect { address: Address { host, port: port.parse().ok()? }, ask })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        let (host, port) = text.rsplit_once(':').unwrap();
        Address { host: host.to_owned(), port: port.parse().unwrap() }
    }

    fn parsed(wire: &[u8]) -> Value {
        redis::parse_redis_value(wire).unwrap()
    }

    #[test]
    fn rows_are_read_and_an_unknown_host_is_the_one_that_was_asked() {
        let wire = b"*2\r\n*3\r\n:5461\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n:7001\r\n$2\r\nid\r\n\
            *4\r\n:0\r\n:5460\r\n*2\r\n$-1\r\n:7000\r\n*2\r\n$1\r\nr\r\n:7002\r\n";
        let found = ranges(parsed(wire), &address("here:1")).unwrap();
        assert_eq!(found[0], Range { first: 0, last: 5_460, master: address("here:7000") });
        assert_eq!(found[1], Range { first: 5_461, last: 16_383, master: address("127.0.0.1:7001") });
    }

    #[test]
    fn what_is_no_map_is_none() {
        for wire in [
            &b"*0\r\n"[..],
            b"+OK\r\n",
            b"*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\na\r\n:1\r\n",
            b"*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\na\r\n:70000\r\n",
            b"*1\r\n*2\r\n:0\r\n:1\r\n",
        ] {
            assert_eq!(ranges(parsed(wire), &address("here:1")), None, "{}", String::from_utf8_lossy(wire));
        }
    }

    #[test]
    fn redirections_are_read() {
        let of = |wire: &[u8]| match parsed(wire) {
            Value::ServerError(error) => redirect(&error, Some(&address("here:1"))),
            other => panic!("{other:?}"),
        };
        let to = |place: &str, ask| Some(Redirect { address: address(place), ask });
        assert_eq!(of(b"-MOVED 3999 127.0.0.1:6381\r\n"), to("127.0.0.1:6381", false));
        assert_eq!(of(b"-ASK 3999 ::1:6381\r\n"), to("::1:6381", true));
        assert_eq!(of(b"-MOVED 3999 :6381\r\n"), to("here:6381", false));
        assert_eq!(of(b"-MOVED 3999\r\n"), None);
        assert_eq!(of(b"-WRONGTYPE Operation\r\n"), None);
    }
}
