//! Access is decided before a prediction starts, and the decision is a value.
//!
//! `weir-serving` takes a [`Grant`] in its signatures. A grant can only be minted by an
//! [`Authorizer`], so code that forgot to ask does not compile. The alternative, a
//! middleware that sets a flag, was rejected: a route mounted beside it is open.

use std::sync::Arc;

use crate::{Error, ModelName};

/// Who calls: the name that quotas, fair share and the audit log use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal(Option<Arc<str>>);

impl Principal {
    /// Whoever can reach a server that asks for no credentials.
    pub const LOCAL: Principal = Principal(None);

    /// Names a caller.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(Some(name.into()))
    }

    /// The caller's name.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("local")
    }

    /// Whether somebody was told apart from the others by credentials.
    pub fn is_named(&self) -> bool {
        self.0.is_some()
    }
}

/// What a caller presented. Borrowed from the request head, never stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// The value of the `Authorization` header.
    pub authorization: Option<&'a str>,
}

/// What the caller wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access<'a> {
    /// Ask a model for predictions.
    Invoke(&'a ModelName),
    /// Read what is served: metadata, schemas, metrics.
    Read,
    /// Load, unload and swap models.
    Deploy,
    /// Look at what a feature view knows of an entity.
    ReadFeatures(&'a str),
    /// Put features into a view, or forget an entity there.
    WriteFeatures(&'a str),
    /// Send events of a stream.
    SendEvents(&'a str),
}

/// Proof that access was decided in the caller's favour.
#[derive(Debug, Clone)]
pub struct Grant {
    principal: Principal,
    // Private and without a public constructor besides `mint`, which takes an authorizer.
    _sealed: (),
}

impl Grant {
    /// Mints a grant on the word of `_by`. Only [`Authorizer`] implementations call this.
    pub fn mint(_by: &dyn Authorizer, principal: Principal) -> Self {
        Self { principal, _sealed: () }
    }

    /// Whom the grant was given to.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }
}

/// Decides access.
pub trait Authorizer: Send + Sync {
    /// Grants `access` or says why not.
    ///
    /// # Errors
    /// [`ErrorCode::Unauthenticated`](crate::ErrorCode::Unauthenticated) without valid
    /// credentials, [`ErrorCode::PermissionDenied`](crate::ErrorCode::PermissionDenied) with
    /// credentials that do not suffice.
    fn authorize(&self, credentials: Credentials<'_>, access: Access<'_>) -> Result<Grant, Error>;
}

/// Grants everything to one local principal: the default of a server on loopback.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowLocal;

impl Authorizer for AllowLocal {
    fn authorize(&self, _: Credentials<'_>, _: Access<'_>) -> Result<Grant, Error> {
        Ok(Grant::mint(self, Principal::LOCAL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_authorizer_grants_to_the_local_principal() {
        let grant = AllowLocal.authorize(Credentials::default(), Access::Read).unwrap();
        assert_eq!(grant.principal().as_str(), "local");
        assert!(!grant.principal().is_named() && Principal::new("local").is_named());
    }
}
