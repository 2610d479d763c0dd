//! The guard: what the library gives a Rust service, beside any image.
