//! Tests of the breaker against tables.
