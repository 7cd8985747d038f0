//! From addresses to a connection that is ready to be used.

use std::{fmt, sync::Arc};

use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo,
    RedisResult, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};

use super::settings::{Address, Settings};
use crate::{CallError, plain};

/// Commands that may wait for the connection's task to write them.
const QUEUED: usize = 1_024;

/// Makes the connections to one server.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    pub(crate) settings: Arc<Settings>,
    pub(crate) target: Target,
}

/// Which server that is.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// The one that listens there.
    Server(Address),
    /// The one that sentinels say is the master now.
    Master,
}

impl fmt::Display for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Server(address) => address.fmt(f),
            Target::Master => f.write_str(&self.settings.master),
        }
    }
}

impl Dialer {
    /// Connects, with TLS and authentication where there are any.
    ///
    /// # Errors
    /// Why it cannot, in words for logs.
    pub(crate) async fn dial(&self) -> Result<MultiplexedConnection, CallError> {
        let settings = self.settings.current().await;
        match &self.target {
            Target::Server(address) => {
                let connecting = settings.connect(address, &settings.login).await;
                connecting.map_err(|error| CallError::Connection(plain(&error.to_string())))
            }
            Target::Master => settings.connect_master().await,
        }
    }
}

impl Settings {
    async fn connect(
        &self,
        address: &Address,
        login: &RedisConnectionInfo,
    ) -> RedisResult<MultiplexedConnection> {
        let client = self.client(address, login)?;
        // Whoever calls has a deadline of its own for the whole; the library's would only be another.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUED);
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// A client, which is a description of a connection and opens none.
    fn client(&self, address: &Address, login: &RedisConnectionInfo) -> RedisResult<Client> {
        let (host, port) = (address.host.clone(), address.port);
        let info = |addr: ConnectionAddr| -> RedisResult<ConnectionInfo> {
            Ok(addr.into_connection_info()?.set_redis_settings(login.clone()))
        };
        let Some(certificates) = &self.tls else {
            return Client::open(info(ConnectionAddr::Tcp(host, port))?);
        };
        // The library asks for the process's provider. That another one is there already is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let addr = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
        Client::build_with_tls(info(addr)?, certificates.clone())
    }

    /// Asks all sentinels at once who the master is, and each server that one of them names whether it is
    /// (as Redis' guide for clients of sentinels says); the first that is the master counts. That a
    /// sentinel which was away is behind, and names one that hangs, costs nothing then.
    async fn connect_master(&self) -> Result<MultiplexedConnection, CallError> {
        let mut ways: FuturesUnordered<_> = self.nodes.iter().map(|node| self.master_of(node)).collect();
        let mut why = CallError::Connection("no sentinel is configured".to_owned());
        while let Some(connection) = ways.next().await {
            match connection {
                Ok(connection) => return Ok(connection),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    /// The master by word of one sentinel, and its own.
    async fn master_of(&self, sentinel: &Address) -> Result<MultiplexedConnection, CallError> {
        let address = self.ask_sentinel(sentinel).await?;
        let connecting = self.connect(&address, &self.login).await;
        let mut connection = connecting.map_err(|error| failed(&address, &error))?;
        is_master(&mut connection, &address).await.map(|()| connection)
    }

    async fn ask_sentinel(&self, sentinel: &Address) -> Result<Address, CallError> {
        let mut connection =
            self.connect(sentinel, &self.sentinel_login).await.map_err(|e| failed(sentinel, &e))?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        let answer: RedisResult<Option<(String, u16)>> = question.query_async(&mut connection).await;
        match answer {
            Ok(Some((host, port))) => Ok(Address { host, port }),
            Ok(None) => {
                let text = format!("the sentinel at {sentinel} knows no master {:?}", self.master);
                Err(CallError::Connection(plain(&text)))
            }
            Err(error) => Err(failed(sentinel, &error)),
        }
    }
}

async fn is_master(connection: &mut MultiplexedConnection, address: &Address) -> Result<(), CallError> {
    let answer = connection.req_packed_command(&redis::cmd("ROLE")).await;
    let role = match answer.and_then(Value::extract_error).map_err(|e| failed(address, &e))? {
        Value::Array(parts) => parts.into_iter().next(),
        _ => None,
    };
    match role {
        Some(Value::BulkString(role)) if role == b"master" => Ok(()),
        _ => Err(CallError::Connection(format!("{address} is the master no more, says itself"))),
    }
}

fn failed(address: &Address, error: &redis::RedisError) -> CallError {
    CallError::Connection(plain(&format!("{address}: {error}")))
}
