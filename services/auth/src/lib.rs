//! The auth service of the Valerix reference shop.
