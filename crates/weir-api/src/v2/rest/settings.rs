//! Trace and log settings over REST.

use http::{Response, StatusCode};
use hyper::body::Incoming;
use weir_types::{Access, Error};

use super::{Call, Endpoint};
use crate::{
    listener::Body,
    respond,
    v2::{
        core::{change_log, change_trace, control, log_settings, trace_settings},
        json::{read_log_changes, read_trace_changes, write},
    },
};

impl Call<'_> {
    /// What holds now.
    pub(super) fn settings(&self, endpoint: Endpoint) -> Result<Response<Body>, Error> {
        self.authorize(Access::Deploy)?;
        let value = match endpoint {
            Endpoint::Trace => write::trace(trace_settings(self.shared, self.parameter("model"))?),
            _ => write::log(log_settings(self.shared)?),
        };
        Ok(respond::json(StatusCode::OK, value.to_string()))
    }

    /// Changes settings, and answers with what holds then.
    pub(super) async fn set(
        &self,
        endpoint: Endpoint,
        incoming: &mut Incoming,
    ) -> Result<Response<Body>, Error> {
        self.authorize(Access::Deploy)?;
        control(self.shared)?;
        let body = self.small_body(incoming).await?;
        let value = match endpoint {
            Endpoint::SetTrace => {
                let changes = read_trace_changes(&body)?;
                write::trace(change_trace(self.shared, self.parameter("model"), &changes)?)
            }
            _ => write::log(change_log(self.shared, &read_log_changes(&body)?)?),
        };
        Ok(respond::json(StatusCode::OK, value.to_string()))
    }
}
