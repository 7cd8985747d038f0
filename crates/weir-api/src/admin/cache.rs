//! The cache of the models that keep their answers.

use std::{collections::BTreeSet, sync::Arc};

use http::{Method, Response, StatusCode};
use hyper::body::Incoming;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json, value::RawValue};
use weir_clients::{
    BreakerState,
    redis::{RedisNode, RedisStats},
};
use weir_serving::{CacheStats, Explained, PurgeScope, Purged, ServedVersion, TierStats};
use weir_types::{Access, Batch, Error, ErrorCode, ModelName};

use super::{Call, read};
use crate::{
    listener::Body,
    predict::PredictHandler,
    respond,
    routes::{Found, Handler, Route},
    v2::core::model_name,
};

/// What to forget: a model, one version of it, or all models with a tag.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Purge {
    #[serde(default, deserialize_with = "some")]
    model: Option<String>,
    #[serde(default, deserialize_with = "some")]
    version: Option<String>,
    #[serde(default, deserialize_with = "some")]
    tag: Option<String>,
}

/// Two bodies, and whom they are for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Explain<'a> {
    #[serde(default, deserialize_with = "some")]
    model: Option<String>,
    #[serde(default, deserialize_with = "some")]
    version: Option<String>,
    /// The route that the bodies are written for, in place of the model's own.
    #[serde(default, deserialize_with = "some")]
    path: Option<String>,
    #[serde(borrow)]
    bodies: [&'a RawValue; 2],
}

/// A text that is there: `null` says nothing that leaving the key out does not.
fn some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(Some)
}

impl Call<'_> {
    /// Counters of every version that keeps its answers.
    pub(super) fn cache_statistics(&self) -> Result<Response<Body>, Error> {
        self.authorize(Access::Read)?;
        let versions = self.face.snapshot.models().flat_map(|(_, model)| model.versions());
        let models: Vec<_> =
            versions.filter_map(|v| Some(statistics(v, &v.executor.cached()?.stats()))).collect();
        let redis = self.shared.metrics.redis.get().map(|redis| redis_statistics(&redis.stats()));
        Ok(respond::json(StatusCode::OK, json!({"models": models, "redis": redis}).to_string()))
    }

    /// Forgets entries. Where Redis could not be told, that is an error, and the body says what
    /// was done nevertheless.
    pub(super) async fn purge_cache(&self, incoming: &mut Incoming) -> Result<Response<Body>, Error> {
        self.authorize(Access::Deploy)?;
        let body = self.order(incoming).await?;
        let asked = read(&body, "what to purge")?;
        let cache = self.shared.cache().ok_or_else(|| {
            Error::new(ErrorCode::Unsupported, "this server keeps no answers: `[cache] enabled` is false")
        })?;
        let scope = self.scope(asked)?;
        // Not cut off at a deadline: what is half done would be told as not done. It takes some seconds
        // at most.
        let Purged { memory, redis, left } = cache.purge(&scope).await;
        tracing::info!(target: "weir::admin", memory, ?redis, ?left, "purged the cache of {}", of(&scope));
        let (status, redis) = match redis {
            None => (StatusCode::OK, Value::Null),
            Some(Ok(entries)) => (StatusCode::OK, json!({ "entries": entries })),
            Some(Err(why)) => (StatusCode::SERVICE_UNAVAILABLE, json!({ "error": why })),
        };
        let body = json!({"memory": {"entries": memory}, "redis": redis});
        let mut response = respond::json(status, body.to_string());
        if status != StatusCode::OK {
            respond::retry_after(None, response.headers_mut());
        }
        Ok(response)
    }

    fn scope(&self, purge: Purge) -> Result<PurgeScope, Error> {
        match purge {
            Purge { model: Some(model), version, tag: None } => self.model_scope(&model, version.as_deref()),
            Purge { model: None, version: None, tag: Some(tag) } => self.tag_scope(tag),
            _ => Err(Error::invalid(
                "name what to purge: {\"model\": …}, {\"model\": …, \"version\": …} or {\"tag\": …}",
            )),
        }
    }

    fn model_scope(&self, asked: &str, version: Option<&str>) -> Result<PurgeScope, Error> {
        let name = model_name(asked)?;
        // What is gone for now, or failed to load, may have left entries in Redis.
        match self.face.snapshot.version(name.as_str(), version) {
            Err(error) if error.code == ErrorCode::NotFound => return Err(self.with_models(&name, error)),
            Ok(served) if !self.keeps_answers(&name, version) => drop(cached(served)?),
            _ => {}
        }
        match version {
            None => Ok(PurgeScope::Model(name)),
            Some(version) => {
                let version = version.parse().map_err(|_| Error::not_found("there is no such version"))?;
                Ok(PurgeScope::Version(name, version))
            }
        }
    }

    /// Whether any version asked for does, or one that asks it.
    fn keeps_answers(&self, name: &ModelName, version: Option<&str>) -> bool {
        let mut versions = self.face.snapshot.models().flat_map(|(_, model)| model.versions());
        versions.any(|v| v.executor.cached().is_some() && asks(v, name, version))
    }

    /// Names the models there are, where the one asked for is not.
    fn with_models(&self, asked: &ModelName, error: Error) -> Error {
        let names: Vec<_> = self.face.snapshot.models().map(|(name, _)| name.as_str()).collect();
        match names.contains(&asked.as_str()) {
            true => error,
            false => Error::not_found(format!("{error}; models served: {}", names.join(", "))),
        }
    }

    fn tag_scope(&self, tag: String) -> Result<PurgeScope, Error> {
        let versions = self.face.snapshot.models().flat_map(|(_, model)| model.versions());
        let tables = versions.filter_map(|version| version.spec.cache.as_ref());
        let tags: BTreeSet<&str> = tables.flat_map(|table| table.tags.iter().map(String::as_str)).collect();
        if tags.contains(tag.as_str()) {
            return Ok(PurgeScope::Tag(tag));
        }
        let tag: String = tag.chars().take(64).collect();
        let have = if tags.is_empty() { "none".into() } else { Vec::from_iter(tags).join(", ") };
        Err(Error::not_found(format!("no model has the tag `{tag}` in its [cache]; tags there are: {have}")))
    }

    /// Compares two bodies as the cache does.
    pub(super) async fn explain_cache(&self, incoming: &mut Incoming) -> Result<Response<Body>, Error> {
        self.authorize(Access::Read)?;
        let body = self.question(incoming).await?;
        let asked: Explain<'_> = read(&body, "what to compare")?;
        let route = self.route(&asked)?;
        let handler = predict_handler(&route)?;
        let cache = cached(&handler.version)?;
        let [a, b] = [0, 1].map(|index| decode(handler, asked.bodies[index], index));
        let explained = cache.explain(&a?, &b?);
        Ok(respond::json(StatusCode::OK, told(&handler.version, &explained).to_string()))
    }

    /// The route whose bodies are compared.
    fn route(&self, asked: &Explain<'_>) -> Result<Arc<Route>, Error> {
        match (&asked.model, &asked.path) {
            (Some(model), None) => self.face.version_route(&model_name(model)?, asked.version.as_deref()),
            (None, Some(path)) if asked.version.is_none() => {
                match self.face.routes.find(&Method::POST, path) {
                    Found::Route(route, _) => Ok(route),
                    _ => Err(Error::not_found("no route takes POST on that path")),
                }
            }
            _ => Err(Error::invalid("name a model, with a version or without, or the path of a route")),
        }
    }
}

/// Whether `of` is a version that is named, or is made of one.
fn asks(of: &ServedVersion, name: &ModelName, version: Option<&str>) -> bool {
    let named = of.spec.name == *name && version.is_none_or(|version| of.spec.version.as_str() == version);
    named || of.members.iter().any(|member| asks(member, name, version))
}

/// What was purged, in words.
fn of(scope: &PurgeScope) -> String {
    match scope {
        PurgeScope::Model(model) => format!("model {model}"),
        PurgeScope::Version(model, version) => format!("version {version} of model {model}"),
        PurgeScope::Tag(tag) => format!("all models with the tag {tag}"),
    }
}

fn predict_handler(route: &Route) -> Result<&PredictHandler, Error> {
    match &route.handler {
        Handler::Predict(handler) => Ok(handler),
        Handler::Unavailable(error) => Err(error.clone()),
        _ => Err(Error::invalid(
            "the route asks no model with typed rows: name a model, or a path that a [[route]] with a model has",
        )),
    }
}

/// The cache of `version`.
///
/// # Errors
/// `InvalidArgument` where it keeps none.
fn cached(version: &ServedVersion) -> Result<&weir_serving::Cached, Error> {
    version.executor.cached().ok_or_else(|| {
        let name = &version.spec.name;
        Error::invalid(format!(
            "model `{name}` keeps no answers: give its model.toml a [cache] to change that"
        ))
    })
}

fn decode(handler: &PredictHandler, body: &RawValue, index: usize) -> Result<Batch, Error> {
    let decoded = handler.decoder.decode(body.get().as_bytes());
    decoded.map_err(|rejection| {
        let why: String = rejection.to_string().chars().take(1_024).collect();
        Error::new(ErrorCode::ValidationFailed, format!("bodies[{index}]: {why}"))
    })
}

fn statistics(version: &ServedVersion, stats: &CacheStats) -> Value {
    json!({
        "model": version.spec.name.as_str(),
        "version": version.spec.version.as_str(),
        "answers": {
            "hit": stats.hit, "partial": stats.partial, "miss": stats.miss, "bypassed": stats.bypassed,
        },
        "rows": {"coalesced": stats.coalesced, "stale": stats.stale},
        "model_seconds_saved": seconds(stats.saved_ns),
        "tiers": {"memory": tier(&stats.memory), "redis": tier(&stats.redis)},
    })
}

fn tier(stats: &TierStats) -> Value {
    json!({
        "hits": stats.hits,
        "misses": stats.misses,
        "expired": stats.expired,
        "corrupt": stats.corrupt,
        "filled": stats.filled,
        "dropped": stats.dropped,
        "evicted": stats.evicted,
        "entries": stats.entries,
        "bytes": stats.bytes,
        "lookups": stats.lookups,
        "lookup_seconds": seconds(stats.lookup_ns),
    })
}

fn redis_statistics(stats: &RedisStats) -> Value {
    let state = |node: &RedisNode| match node.guard.breaker {
        BreakerState::Closed => "closed",
        BreakerState::HalfOpen => "half open",
        BreakerState::Open => "open",
    };
    let node = |node: &RedisNode| {
        json!({
            "name": node.name,
            "breaker": state(node),
            "calls": node.guard.attempts,
            "failures": node.guard.failed,
            "trouble": node.trouble,
        })
    };
    json!({
        "calls": stats.calls,
        "seconds": stats.latency.as_secs_f64(),
        "failures": {
            "unavailable": stats.unavailable, "timeout": stats.timeouts,
            "refused": stats.refused, "garbage": stats.garbage,
        },
        "nodes": stats.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn told(version: &ServedVersion, explained: &Explained) -> Value {
    let pairs: Vec<_> = explained
        .pairs
        .iter()
        .map(|pair| {
            let differences: Vec<_> = pair
                .differences
                .iter()
                .map(|d| json!({"row": d.row, "field": d.field, "values": d.values}))
                .collect();
            json!({
                "shared": pair.identities[0] == pair.identities[1],
                "identities": pair.identities,
                "differences": differences,
            })
        })
        .collect();
    json!({
        "model": version.spec.name.as_str(),
        "version": version.spec.version.as_str(),
        "digest": explained.digest,
        "by_row": explained.by_row,
        "entries": explained.entries,
        "pairs": pairs,
    })
}
