//! A list that is given page by page: `cursor` and `limit` come in the query, `next_cursor` goes into the answer. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which page is asked for, from the query. `C` is what the rows are told apart by, mostly their id.
///
/// In an operation's description a page by UUID is a `Page<Id>`, as that is what [`Id`](crate::api::Id) is for.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Page<C> {
    /// The `next_cursor` of the page before.
    pub cursor: Option<C>,
    /// The most rows of the page.
    #[serde(default)]
    pub limit: Limit,
}

/// The most rows of one page: 1 to 100, 20 if it is not said.
///
/// ```
/// let limit = valerix_kit::page::Limit::try_from(2)?;
/// assert_eq!(limit.rows(), 3);
/// assert_eq!(limit.cut(vec!["a", "b", "c"], |row| *row), (vec!["a", "b"], Some("b")));
/// assert_eq!(limit.cut(vec!["c", "d"], |row| *row), (vec!["c", "d"], None));
/// # Ok::<(), &str>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "i64")]
#[schemars(with = "i64", inline, extend("minimum" = 1, "maximum" = 100))]
pub struct Limit(u8);

impl Limit {
    /// How many rows to read: one more than the page has, which tells whether another page follows.
    #[must_use]
    pub const fn rows(self) -> i64 {
        self.0 as i64 + 1
    }

    /// The page out of the [`rows`](Self::rows) that were read, and the cursor of its last row if another page follows.
    #[must_use]
    pub fn cut<T, C>(self, mut rows: Vec<T>, cursor: impl FnOnce(&T) -> C) -> (Vec<T>, Option<C>) {
        let more = rows.len() > usize::from(self.0);
        rows.truncate(usize::from(self.0));
        let next_cursor = rows.last().filter(|_| more).map(cursor);
        (rows, next_cursor)
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(20)
    }
}

impl TryFrom<i64> for Limit {
    type Error = &'static str;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        u8::try_from(number)
            .ok()
            .filter(|number| (1..=100).contains(number))
            .map(Self)
            .ok_or("must be 1 to 100")
    }
}

#[cfg(test)]
mod tests {
    use axum::extract::FromRequestParts;
    use http::Request;
    use serde_json::Value;

    use super::*;
    use crate::extract::Query;
    use crate::item::ItemId;

    async fn asked(query: &str) -> Result<Page<ItemId>, Value> {
        let (mut parts, ()) = Request::get(format!("/?{query}")).body(()).unwrap().into_parts();
        let page = Query::from_request_parts(&mut parts, &()).await;
        page.map(|Query(page)| page)
            .map_err(|problem| serde_json::to_value(&problem).unwrap()["errors"][0].clone())
    }

    #[tokio::test]
    async fn a_query_says_which_page_or_is_told_what_is_wrong() {
        let page = asked("").await.unwrap();
        assert_eq!((page.cursor, page.limit.rows()), (None, 21));
        for (limit, rows) in [(1, 2), (100, 101)] {
            assert_eq!(asked(&format!("limit={limit}")).await.unwrap().limit.rows(), rows);
        }
        assert_eq!(asked("cursor=ps5").await.unwrap().cursor.unwrap().as_str(), "ps5");
        for limit in ["0", "101", "-1", "256", "257"] {
            let error = asked(&format!("limit={limit}")).await.unwrap_err();
            assert_eq!(
                error,
                serde_json::json!({"field": "limit", "detail": "must be 1 to 100"}),
                "{limit}"
            );
        }
        for (query, field) in [("limit=x", "limit"), ("limit=", "limit"), ("cursor=a%20b", "cursor")] {
            assert_eq!(asked(query).await.unwrap_err()["field"], field, "{query}");
        }
    }

    #[test]
    fn the_last_page_may_be_full_or_empty() {
        let limit = Limit(2);
        let cut = |rows: &[u8]| limit.cut(rows.to_vec(), |row| *row);
        assert_eq!(cut(&[]), (vec![], None));
        assert_eq!(cut(&[1]), (vec![1], None));
        assert_eq!(cut(&[1, 2]), (vec![1, 2], None));
        assert_eq!(cut(&[1, 2, 3]), (vec![1, 2], Some(2)));
    }
}
