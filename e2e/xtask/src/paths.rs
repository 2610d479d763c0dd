//! Where things are: the checkout that this xtask was built from, and the cache that all checkouts of a user share.
//!
//! The cache holds only what is keyed by version or by content, so that two checkouts can use it at the same time.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folders that every room of xtask works in.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The root of the checkout: the folder of the workspace's `Cargo.toml`.
    pub checkout: PathBuf,
    /// Shared by all checkouts: `$XDG_CACHE_HOME/valerix`, else `~/.cache/valerix`.
    pub cache: PathBuf,
    /// Where cargo puts the workspace's artifacts: `$CARGO_TARGET_DIR`, else `<cache>/target`.
    pub cargo_target: PathBuf,
}

impl Paths {
    /// Reads the environment; creates the cache folder.
    ///
    /// # Errors
    /// When there is no home folder to put the cache in, or it cannot be created.
    pub fn from_environment() -> Result<Self> {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .context("failed to find the checkout above xtask's own folder")?
            .to_owned();
        let caches = match folder_from_environment("XDG_CACHE_HOME") {
            Some(folder) => folder,
            None => std::env::home_dir()
                .context("failed to find a home folder for the cache; set HOME or XDG_CACHE_HOME")?
                .join(".cache"),
        };
        let cache = caches.join("valerix");
        std::fs::create_dir_all(&cache).with_context(|| format!("failed to create {}", cache.display()))?;
        let cargo_target = folder_from_environment("CARGO_TARGET_DIR").unwrap_or_else(|| cache.join("target"));
        Ok(Self {
            checkout,
            cache,
            cargo_target,
        })
    }

    /// Programs that xtask built or installed, one folder per name and version.
    pub fn programs(&self) -> PathBuf {
        self.cache.join("bin")
    }

    /// Logs of the last run of a command, inside the checkout.
    pub fn logs(&self, command: &str) -> PathBuf {
        self.checkout.join("target/logs").join(command)
    }
}

fn folder_from_environment(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
