//! A Redis Cluster.

use crate::{RedisOptions, RedisServer};

/// Three masters with a replica each, every slot served.
#[derive(Debug)]
pub struct RedisCluster {
    /// The masters, in the order of their slots; their replicas behind them in the same order.
    pub nodes: Vec<RedisServer>,
}

/// Masters; as many replicas.
const MASTERS: usize = 3;

impl RedisCluster {
    /// Starts it, and waits until every node says that the cluster is well.
    pub fn start() -> Self {
        let node = || RedisOptions::default().cluster().set("cluster-replica-validity-factor", "0").start();
        let nodes: Vec<RedisServer> = (0..2 * MASTERS).map(|_| node()).collect();
        let cluster = Self { nodes };
        cluster.share_slots();
        cluster.introduce();
        for node in &cluster.nodes {
            node.process().says("Cluster state changed: ok");
        }
        cluster.add_replicas();
        cluster
    }

    fn share_slots(&self) {
        let bounds = [0, 5_461, 10_923, 16_384];
        for (i, master) in self.nodes[..MASTERS].iter().enumerate() {
            let (first, last) = (bounds[i].to_string(), (bounds[i + 1] - 1).to_string());
            master.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            master.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(i + 1).to_string()]);
        }
    }

    fn introduce(&self) {
        // Each to each: hearsay takes seconds.
        for (i, node) in self.nodes.iter().enumerate() {
            let (port, bus) = (node.port().to_string(), node.bus_port().to_string());
            for other in &self.nodes[i + 1..] {
                other.ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            }
        }
    }

    fn add_replicas(&self) {
        for (master, replica) in self.nodes[..MASTERS].iter().zip(&self.nodes[MASTERS..]) {
            let id: String = master.ask(&["CLUSTER", "MYID"]);
            replica.ask::<()>(&["CLUSTER", "REPLICATE", &id]);
            replica.process().says("MASTER <-> REPLICA sync: Finished with success");
        }
    }

    /// The URLs of all nodes.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(RedisServer::url).collect()
    }

    /// Waits until the replica of master `index`, which is gone, serves in its place.
    pub fn await_failover(&self, index: usize) {
        let replica = self.nodes[MASTERS + index].process();
        replica.says("Failover election won");
    }
}
