//! The notification service of the Valerix reference shop.

fn main() {}
