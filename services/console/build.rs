//! The page is compiled in. Where nobody has built it, an empty folder stands for it, so that nothing but the page itself
//! needs Node; the console then says how to build it.

use std::path::Path;

fn main() -> std::io::Result<()> {
    println!("cargo:rerun-if-changed=web/dist");
    std::fs::create_dir_all(Path::new("web/dist"))
}
