//! JSON rows in, typed batches out; every error at once, as Pydantic words it.
