//! The analytics service of the Valerix reference shop.
