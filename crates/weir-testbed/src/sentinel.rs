//! A master, its replica, and the sentinels that watch over them.

use crate::{RedisOptions, RedisServer};

/// The name under which the sentinels know the master.
const NAME: &str = "mymaster";
/// Sentinels; two must agree.
const SENTINELS: usize = 3;

/// One master with one replica, and three sentinels.
#[derive(Debug)]
pub struct RedisSentinel {
    /// The master of the beginning.
    pub master: RedisServer,
    /// Its replica.
    pub replica: RedisServer,
    /// The sentinels.
    pub sentinels: Vec<RedisServer>,
}

impl RedisSentinel {
    /// Starts them, and waits until the sentinels know the replica and each other: before that they
    /// cannot fail over.
    pub fn start() -> Self {
        let master = RedisServer::start();
        let replica = RedisServer::start();
        let port = master.port().to_string();
        replica.ask::<()>(&["REPLICAOF", "127.0.0.1", &port]);
        replica.process().says("MASTER <-> REPLICA sync: Finished with success");
        let sentinels: Vec<RedisServer> =
            (0..SENTINELS).map(|_| RedisOptions::default().sentinel().start()).collect();
        for sentinel in &sentinels {
            sentinel.ask::<()>(&["SENTINEL", "MONITOR", NAME, "127.0.0.1", &port, "2"]);
            let settings = ["down-after-milliseconds", "500", "failover-timeout", "3000"];
            sentinel.ask::<()>(&[&["SENTINEL", "SET", NAME], &settings[..]].concat());
        }
        let all = Self { master, replica, sentinels };
        all.sentinels.iter().for_each(|sentinel| all.await_acquaintance(sentinel));
        all
    }

    fn await_acquaintance(&self, sentinel: &RedisServer) {
        sentinel.process().says("+slave slave");
        for other in self.sentinels.iter().filter(|other| other.port() != sentinel.port()) {
            sentinel.process().says(&format!("127.0.0.1 {} @ {NAME}", other.port()));
        }
    }

    /// The URLs of the sentinels.
    pub fn urls(&self) -> Vec<String> {
        self.sentinels.iter().map(RedisServer::url).collect()
    }

    /// Waits until the sentinels that are there have put the replica in the master's place.
    pub fn await_failover(&self) {
        self.sentinels.iter().for_each(|sentinel| {
            sentinel.process().says("+switch-master");
        });
    }
}
