//! The gateway of the Valerix reference shop.

fn main() {}
