//! The programs that xtask needs and does not build from this checkout, each pinned and kept outside of it.
//!
//! [`debian`] installs distribution packages; [`go`] and [`rust`] install programs by version into the cache. All say
//! what they will install before they do, and skip what is there.

pub mod debian;
pub mod go;
pub mod rust;

use std::path::{Path, PathBuf};

/// Finds a program in PATH, or in the folders of administrators that an ordinary user's PATH leaves out.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| is_program(candidate))
}

/// True for a file that somebody may execute.
pub fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_and_others_are_not() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program").is_none());
        assert!(!is_program(Path::new("/etc/passwd")));
    }
}
